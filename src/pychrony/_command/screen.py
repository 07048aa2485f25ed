"""Writes text to stdout, and to a terminal in place of the previous text."""

from __future__ import annotations

import locale
import os
import sys
import time
from collections.abc import Iterator

from . import colours, streams

PIPE_WIDTH = 120
"""Number of columns if the text does not go to a terminal."""


def write(output: str) -> None:
    """Print text, in colour on a terminal; with `u` for `µ` where the locale or stdout lacks it."""
    encoding = sys.stdout.encoding or "utf-8"
    if locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX") or not "µ".encode(encoding, "ignore"):
        output = output.replace("µ", "u")
    print(colours.coloured(output) if colours.wanted() else output, flush=True)


def width() -> int:
    """Return the number of columns for reports."""
    return streams.width(PIPE_WIDTH)


def rounds(every: float) -> Iterator[None]:
    """Yield at once, and then once per interval; skip intervals that have already passed."""
    due = time.monotonic()
    while True:
        yield
        due = max(due + every, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


class Screen:
    """Draws each text in place of the previous one on a terminal, and below it elsewhere."""

    def __init__(self) -> None:
        self.can_redraw = colours.has_terminal()
        self._height = 0
        self._size = os.terminal_size((0, 0))

    @property
    def is_used(self) -> bool:
        """Whether there is a text on the terminal."""
        return self._height > 0

    def draw(self, output: str) -> None:
        """Show a text, as far as it fits on the terminal."""
        if not self.can_redraw:
            write(f"{output}\n")
            return
        size = os.terminal_size((width(), os.get_terminal_size().lines or 24))
        lines = _fit(output.split("\n"), size)
        # After a change of its size, the terminal has moved the lines.
        back = f"\x1b[{self._height}A" if size == self._size else "\x1b[2J\x1b[H"
        sys.stdout.write(back if self._height else "")
        write("\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        self._height, self._size = len(lines), size


def _fit(lines: list[str], size: os.terminal_size) -> list[str]:
    """Cut lines to the size of the terminal, leaving the last line to the cursor."""
    room = max(1, size.lines - 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"({len(lines) - room + 1} more lines: enlarge the terminal)"]
    return [line[: size.columns] for line in lines]
