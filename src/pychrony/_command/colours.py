"""Colours headings, the states of sources, and a clock that is not synchronised.

Nothing is coloured in a pipe, on a dumb terminal, or where NO_COLOR is set (no-color.org).
"""

from __future__ import annotations

import os
import re
import sys

BOLD, RED, GREEN, YELLOW = "1", "31", "32", "33"

PATTERNS = {
    r"^[A-Z]+  (?=\S).*$": BOLD,  # the heading of a report in `all`
    r"\* (?:selected|best)\b|\+ combined\b": GREEN,
    r"[x~] (?:falseticker|jittery)\b": RED,
    r"\? nonselectable\b": YELLOW,
    r"\b(?:unsync|not synchronised)\b": RED,
}
_COLOURED = re.compile("|".join(f"({pattern})" for pattern in PATTERNS), re.MULTILINE)


def has_terminal() -> bool:
    """Whether stdout is a terminal that obeys escape sequences."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def wanted() -> bool:
    """Whether stdout is a terminal that shows colours, and the user wants them."""
    return has_terminal() and not os.environ.get("NO_COLOR")


def coloured(text: str) -> str:
    """Return a text with the escape sequences that colour it."""

    def colour(match: re.Match[str]) -> str:
        assert match.lastindex
        return f"\x1b[{list(PATTERNS.values())[match.lastindex - 1]}m{match[0]}\x1b[0m"

    return _COLOURED.sub(colour, text)
