"""Reads logs of `--json --watch`, for `plot` and `history`."""

from __future__ import annotations

import argparse
import gzip
import math
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from io import BufferedReader

from ..arguments import Parser
from ..exits import complain
from .columns import History
from .lines import Line, parse

GZIP = b"\x1f\x8b"
"""How a compressed file begins."""
LONGEST = 1 << 24
"""Maximum bytes of a line. A longer one is read in parts, and none of them can be used."""


class Log:
    """Everything that was read from the files."""

    def __init__(self, since: float | None = None, until: float | None = None) -> None:
        """Leave out lines before `since`, and from `until` on, in seconds since 1970."""
        self.since = -math.inf if since is None else since
        self.until = math.inf if until is None else until
        self.histories = defaultdict[str | None, History](History)
        """By the address of the chronyd; `None` for lines without an address."""
        self.lines = 0
        self.early = 0
        """How many lines are from before `since`."""
        self.unusable: Counter[str] = Counter()
        """How many lines cannot be used, by the reason."""
        self.first: dict[str, str] = {}
        """File and number of the first of them, such as `clock.log:17`."""
        self.lacking: Counter[str] = Counter()
        """How many lines lack a field."""

    def read(self, name: str, lines: Iterable[bytes]) -> None:
        """Read the lines of a file."""
        for history in self.histories.values():
            history.begin_file()
        try:
            for number, text in enumerate(lines, 1):
                self.lines += 1
                reason = self._take(text)
                if reason:
                    self._leave_out(reason, f"{name}:{number}")
        except (EOFError, zlib.error):
            self._leave_out("cut off inside a compressed file", name)

    def _leave_out(self, reason: str, where: str) -> None:
        self.unusable[reason] += 1
        self.first.setdefault(reason, where)

    def _take(self, text: bytes) -> str:
        """Add a line, or return why it cannot be used."""
        line = parse(text)
        if not isinstance(line, Line):
            return line
        self.early += line.time < self.since
        if self.since <= line.time < self.until:
            self.histories[line.address].add(line)
            self.lacking.update(line.lacking)
        return ""

    def addresses(self) -> list[str]:
        """Return the addresses of all chronyds in the log."""
        return [address for address in self.histories if address is not None]

    def history(self, address: str | None) -> History | None:
        """Return what the log says about a chronyd."""
        if len(self.addresses()) == 1 and None in self.histories:
            # The address was not known until chronyd had answered.
            self.histories[self.addresses()[0]].add_errors_of(self.histories.pop(None))
        return self.histories.get(address)

    def notes(self) -> list[str]:
        """Return what was left out, and why."""
        left_out = [
            f"{number:,} of {self.lines:,} lines left out: {reason} (first: {self.first[reason]})"
            for reason, number in self.unusable.items()
        ]
        return left_out + [f"{number:,} lines lack {name}" for name, number in self.lacking.items()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the logs, and the options that choose from them."""
    parser.add_argument(
        "logs",
        nargs="+",
        metavar="LOG",
        help="output of 'pychrony all --json --watch INTERVAL', also compressed (.gz), or of "
        "tracking or sources instead of all; '-' reads stdin",
    )
    parser.add_argument(
        "--address", help="use the lines about this chronyd: its 'address' in the logs"
    )
    for name, which in (("since", "from this time on"), ("until", "before this time")):
        parser.add_argument(
            f"--{name}",
            type=_time,
            metavar="TIME",
            help=f"use the lines {which} (UTC), such as 2026-11-29 or 2026-11-29T12:00",
        )


def read(log: Log, names: Iterable[str]) -> bool:
    """Read the files; explain what cannot be used, and return whether all could be read."""
    for name in names:
        try:
            with _opened(name) as lines:
                log.read("stdin" if name == "-" else name, lines)
        except OSError as error:
            complain(f"reading {name}: {error.strerror or error}")
            return False
    for note in log.notes():
        complain(note)
    return True


def chosen(parser: Parser, log: Log, address: str | None) -> list[str | None]:
    """Return the addresses of the chronyds that are meant, by default of all."""
    known = log.addresses()
    if address is not None and address not in known:
        parser.error(f"no line is about {address}: the logs hold {', '.join(known) or 'none'}")
    return [address] if address else [*known] or [None]


@contextmanager
def _opened(name: str) -> Iterator[Iterable[bytes]]:
    with sys.stdin.buffer if name == "-" else open(name, "rb") as file:
        assert isinstance(file, BufferedReader)
        unpacked = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == GZIP else file
        yield iter(partial(unpacked.readline, LONGEST), b"")


def _time(text: str) -> float:
    try:
        time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time such as 2026-11-29 or 2026-11-29T12:00"
        ) from None
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()
