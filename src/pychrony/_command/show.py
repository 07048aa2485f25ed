"""Asks for one report or all, and shows them: once, or again and again."""

from __future__ import annotations

import locale
import os
import shutil
import sys
import textwrap
import time
from typing import Any

from .._engine.failures import is_off
from ..connection import ChronyConnection
from ..exceptions import ChronyError
from ..models import MODELS, AllReports
from .render import all_text, answer_of, as_json, text

PIPE_WIDTH = 120
"""Columns of the text when it does not go to a terminal."""


def show(connection: ChronyConnection, report: str, *, json: bool) -> None:
    """Print a report, or "all"."""
    answers = ask(connection, report)
    write(as_json(_payload(answers, report)) if json else _text(answers, report))


def watch(connection: ChronyConnection, report: str, every: float, *, json: bool) -> None:
    """Print a report again and again until Ctrl-C, over the last one where the terminal can.

    Once it has worked, an error is shown like an answer: chronyd may come back.
    """
    screen = Screen()
    try:
        _show_round(connection, report, every, screen, json=json)
        due = time.monotonic()
        while True:
            due = max(due + every, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                _show_round(connection, report, every, screen, json=json)
            except ChronyError as error:
                if json:
                    print(f"pychrony: {error.message}", file=sys.stderr, flush=True)
                else:
                    words = textwrap.fill(error.message, width(), break_long_words=False)
                    screen.draw(f"{_header(connection, report, every)}\n\n{words}")
    except KeyboardInterrupt:
        if screen.can_redraw:
            print()  # away from the ^C


def ask(connection: ChronyConnection, report: str) -> AllReports:
    """Return a report, or all; raise what is wrong if none can be read."""
    names = list(MODELS) if report == "all" else [report]
    answers = connection.get_all(*names)
    errors = [error for name, error in answers.missing.items() if not is_off(name, error)]
    if errors and len(answers.missing) == len(names):
        raise errors[0]
    return answers


def write(output: str) -> None:
    """Print text, with a substitute for what the terminal's character set lacks."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX") or not _can_encode("µ", encoding):
        output = output.replace("µ", "u")
    print(output.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def width() -> int:
    """Return the columns of the terminal."""
    return shutil.get_terminal_size((PIPE_WIDTH, 24)).columns


class Screen:
    """Draws each text over the one before, on a terminal; else one below the other."""

    def __init__(self) -> None:
        self.can_redraw = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._height = 0
        self._size = os.terminal_size((0, 0))

    def draw(self, output: str) -> None:
        """Show a text; what does not fit on the terminal is cut off."""
        if not self.can_redraw:
            write(f"{output}\n")
            return
        size = shutil.get_terminal_size()
        lines = _fit(output.split("\n"), size)
        # A terminal that changed its size has moved the lines.
        back = f"\x1b[{self._height}A" if size == self._size else "\x1b[2J\x1b[H"
        sys.stdout.write(back if self._height else "")
        write("\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        self._height, self._size = len(lines), size


def _fit(lines: list[str], size: os.terminal_size) -> list[str]:
    """Cut lines to the terminal, whose last line is the cursor's."""
    room = max(1, size.lines - 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"({len(lines) - room + 1} more lines: enlarge the terminal)"]
    return [line[: size.columns] for line in lines]


def _show_round(
    connection: ChronyConnection, report: str, every: float, screen: Screen, *, json: bool
) -> None:
    answers = ask(connection, report)
    if json:
        write(as_json(_payload(answers, report), indent=None))
    else:
        screen.draw(f"{_header(connection, report, every)}\n\n{_text(answers, report)}")


def _header(connection: ChronyConnection, report: str, every: float) -> str:
    return f"{report} from {connection.address} at {time.strftime('%H:%M:%S')}, every {every:g} s"


def _text(answers: AllReports, report: str) -> str:
    if report == "all":
        return all_text(answers, width())
    return text(MODELS[report], answer_of(answers, report), width())


def _payload(answers: AllReports, report: str) -> Any:
    return answers if report == "all" else getattr(answers, report)


def _can_encode(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
