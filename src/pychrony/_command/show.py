"""Reads one report or all, and shows them once or every few seconds."""

from __future__ import annotations

import locale
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from typing import Any

from .._io.failures import is_off
from ..connection import ChronyConnection
from ..exceptions import ChronyError, ChronyLibraryError
from ..models import MODELS, AllReports
from . import colours
from .grid import wrapped
from .lists import LAYOUTS, explained
from .render import all_text, answer_of, as_json, text

NO_PAUSE = 0.001  # seconds

PIPE_WIDTH = 120
"""Number of columns if the text does not go to a terminal."""
RESOLVING = 5.0
"""Seconds to wait for names of sources if there is no other limit."""


class Names:
    """Replaces the addresses of sources by their names, which it remembers."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = RESOLVING if timeout is None else timeout
        self._known: dict[str, str] = {}

    def put_into(self, answers: AllReports) -> AllReports:
        """Return the reports with names in place of addresses, as far as they are found in time."""
        import asyncio
        from dataclasses import replace

        from .lookups import Lookups

        records = {name: getattr(answers, name) or [] for name in ("sources", "sourcestats")}
        addresses = {record.address for listed in records.values() for record in listed}
        if new := addresses - self._known.keys():
            found = asyncio.run(Lookups().names(new, self._timeout))
            self._known |= {address: found.get(address, address) for address in new}
        named: dict[str, Any] = {
            name: [replace(record, address=self._known[record.address]) for record in listed]
            for name, listed in records.items()
            if listed
        }
        return replace(answers, **named)


def show(
    connection: ChronyConnection,
    report: str,
    everything: bool = False,
    names: Names | None = None,
    *,
    json: bool,
    explain: bool = False,
) -> None:
    """Print a report, or "all".

    With `everything`, also sources whose name is not resolved; `explain` adds the meaning of the
    columns of a list.
    """
    answers = ask(connection, report, names)
    write(as_json(_payload(answers, report)) if json else _text(answers, report, everything))
    if explain and report in LAYOUTS and not json:
        write(f"\n{explained(MODELS[report], width())}")


def watch(
    connection: ChronyConnection,
    report: str,
    everything: bool,
    names: Names | None,
    *,
    every: float,
) -> None:
    """Print a report every few seconds until Ctrl-C, on a terminal in place of the previous one.

    After the first answer, errors are shown in place of answers, since chronyd may come back.
    """
    screen = Screen()
    answered = False
    with suppress(KeyboardInterrupt):
        for _ in rounds(every):
            try:
                shown = _text(ask(connection, report, names), report, everything)
                answered = True
            except ChronyError as error:
                if not answered:
                    raise
                shown = wrapped(error.message, width())
            screen.draw(f"{_header(connection, report, every)}\n\n{shown}")
    if screen.can_redraw:
        print()  # after the ^C


def log(connection: ChronyConnection, report: str, every: float, output: Output) -> None:
    """Print one line of JSON every few seconds until Ctrl-C, whatever happens.

    It has the time, the address, the report, and either its answer or the error.
    """
    address = None
    with ExitStack() as opened, suppress(KeyboardInterrupt):
        for _ in rounds(every):
            at, uptime = _times()
            line: dict[str, Any] = {
                "time": at,
                "uptime": uptime,
                "address": address,
                "report": report,
            }
            try:
                if connection.address is None:  # until there is something to connect to
                    opened.enter_context(connection)
                line["answer"] = _payload(ask(connection, report), report)
            except ChronyLibraryError as error:
                output.write(as_json({**line, "error": error}, indent=None))
                raise  # trying again does not help
            except ChronyError as error:
                line["error"] = error
            line["address"] = address = connection.address or address
            output.write(as_json(line, indent=None))


def rounds(every: float) -> Iterator[None]:
    """Yield at once, and then once per interval; skip intervals that have already passed."""
    due = time.monotonic()
    while True:
        yield
        due = max(due + every, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def now() -> str:
    """Return the time as text, for a line of JSON."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _times() -> tuple[str, float]:
    """Return the time, and that since boot: the difference changes only if the clock is set."""
    for _ in range(5):
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        at = now()
        if time.clock_gettime(time.CLOCK_BOOTTIME) - before < NO_PAUSE:
            break
    return at, round(before, 6)


def ask(connection: ChronyConnection, report: str, names: Names | None = None) -> AllReports:
    """Return a report, or all of them; raise the first error if none can be read."""
    wanted = list(MODELS) if report == "all" else [report]
    answers = connection.get_all(*wanted)
    errors = [error for name, error in answers.missing.items() if not is_off(name, error)]
    if errors and len(answers.missing) == len(wanted):
        raise errors[0]
    return answers if names is None else names.put_into(answers)


def write(output: str) -> None:
    """Print text, in colour on a terminal, with substitutes for what its encoding lacks."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX") or not _can_encode("µ", encoding):
        output = output.replace("µ", "u")
    if colours.wanted():
        output = colours.coloured(output)
    print(output.encode(encoding, "backslashreplace").decode(encoding), flush=True)


class Output:
    """Where lines of JSON go: stdout, or the end of a file, which logrotate may move away."""

    def __init__(self, name: str | None) -> None:
        """Raise `OSError` if the file cannot be opened."""
        self._name = name
        if name is not None:
            with open(name, "a"):
                pass
            # The file is opened for each line: the signal only must not end the program.
            signal.signal(signal.SIGHUP, lambda *_: None)

    def write(self, line: str) -> None:
        """Write a line at once."""
        if self._name is None:
            write(line)
            return
        with open(self._name, "a", encoding="utf-8") as file:
            print(line, file=file)


def width() -> int:
    """Return the number of columns of the terminal."""
    return shutil.get_terminal_size((PIPE_WIDTH, 24)).columns


class Screen:
    """Draws each text in place of the previous one on a terminal, and below it elsewhere."""

    def __init__(self) -> None:
        self.can_redraw = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
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
        size = shutil.get_terminal_size()
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


def _header(connection: ChronyConnection, report: str, every: float) -> str:
    return f"{report} from {connection.address} at {time.strftime('%H:%M:%S')}, every {every:g} s"


def _text(answers: AllReports, report: str, everything: bool) -> str:
    if report == "all":
        return all_text(answers, width(), everything=everything)
    return text(MODELS[report], answer_of(answers, report), width(), everything=everything)


def _payload(answers: AllReports, report: str) -> Any:
    return answers if report == "all" else getattr(answers, report)


def _can_encode(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
