"""Fits text to a width: aligns the cells of a table, and wraps or shortens what is too wide."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence

ELLIPSIS = "..."
GAP = "  "


def aligned(columns: Iterable[Sequence[str]], left: Collection[str]) -> list[str]:
    """Return the lines of a table; columns with a head in `left` are aligned to the left."""
    padded = []
    for cells in columns:
        width = max(map(len, cells))
        padded.append([c.ljust(width) if cells[0] in left else c.rjust(width) for c in cells])
    return [GAP.join(cells).rstrip() for cells in zip(*padded, strict=True)]


def fitted(
    columns: Sequence[Sequence[str]], least: Sequence[str], width: int
) -> list[Sequence[str]]:
    """Leave out columns by their heads, in the order of `least`, until the others fit the width."""
    kept = list(columns)
    for head in least:
        if sum(max(map(len, cells)) + len(GAP) for cells in kept) - len(GAP) <= width:
            break
        kept = [cells for cells in kept if cells[0] != head]
    return kept


def shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters, with an ellipsis in its middle if necessary."""
    if len(text) <= most:
        return text
    room = max(0, most - len(ELLIPSIS))
    return f"{text[: room - room // 2]}{ELLIPSIS}{text[len(text) - room // 2 :]}"[:most]


def cut(text: str, most: int) -> str:
    """Return a text of at most `most` characters, with an ellipsis at its end if necessary."""
    return text if len(text) <= most else f"{text[: max(0, most - len(ELLIPSIS))]}{ELLIPSIS}"[:most]


def printable(text: str) -> str:
    """Return a text with escapes in place of control characters, which a terminal would obey."""
    return text if text.isprintable() else repr(text)[1:-1]


def wrapped(words: str, width: int, start: str = "", indent: int = 0) -> str:
    """Break text into lines, but never inside a word, which may be a path or an address."""
    return textwrap.fill(
        words,
        width,
        initial_indent=start,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
