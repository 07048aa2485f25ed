"""Waits until the clock is good, for boot scripts and containers: `pychrony wait`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from .._waiting import SHORTEST_QUESTION, Waiting
from ..assessment import in_words
from ..connection import get_tracking
from ..exceptions import ChronyError
from ..models import TrackingStatus
from .arguments import Parser, add_address, add_local_ok, duration, or_none
from .exits import BAD, complain, progress
from .streams import width

DESCRIPTION = """\
Wait until the clock is synchronised to a source, as 'chronyc waitsync' does.

chronyd need not be running yet, and may restart in the meantime. The command also waits
while this user is not allowed to open chronyd's socket, since that may change at boot.
"""

EPILOG = """\
examples:
  pychrony wait
  pychrony wait --max-error 10ms --timeout 5m && start-the-database
  pychrony wait --quiet --timeout none

exit codes:
  0  the clock is good
  1  it was not good in time, or chronyd's answer or libchrony cannot be used
  2  the command line is wrong
"""

ANSWER_IN = 2.0
"""Seconds that one question may take, since a restart of chronyd can lose it."""


def run(argv: Sequence[str]) -> int:
    """Wait; return 0 once the clock is good, or 1 if it is not good in time."""
    parser = _parser()
    options = parser.parse(argv)
    try:
        waiting = Waiting(options.max_error, options.timeout, local_ok=options.local_ok)
    except ValueError as error:
        parser.error(str(error))
    progress = _Progress(waiting, quiet=options.quiet)
    try:
        tracking = _wait(waiting, options.address, progress)
    except ChronyError as error:
        complain(error.message)
        return BAD
    if not options.quiet:
        print(f"good after {waiting.passed:.1f} s: {in_words(tracking)}".replace("µ", "u"))
    return 0


def _wait(waiting: Waiting, address: str | None, progress: _Progress) -> TrackingStatus:
    try:
        while True:
            waiting.take(_ask(address, max(SHORTEST_QUESTION, waiting.left(ANSWER_IN))))
            if waiting.good is not None:
                return waiting.good
            progress.tell()
            time.sleep(waiting.pause)
    finally:
        progress.end()


def _ask(address: str | None, timeout: float) -> TrackingStatus | ChronyError:
    try:
        return get_tracking(address, timeout=timeout)
    except ChronyError as error:
        return error


class _Progress:
    """Shows the progress on stderr: in place on a terminal, otherwise what is new."""

    def __init__(self, waiting: Waiting, *, quiet: bool) -> None:
        self._waiting, self._quiet = waiting, quiet
        self._in_place = not quiet and sys.stderr.isatty()
        self._told = ""

    def tell(self) -> None:
        line = f"{self._waiting.passed:5.1f} s: {self._waiting.state}"
        if self._in_place:
            progress(line[: width() - 1])
        elif not self._quiet and self._waiting.obstacle != self._told:
            self._told = self._waiting.obstacle
            print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._in_place:
            progress("")


def _parser() -> Parser:
    parser = Parser(prog="pychrony wait", description=DESCRIPTION, epilog=EPILOG)
    add_address(parser)
    parser.add_argument(
        "--max-error",
        type=duration,
        metavar="BOUND",
        help="also wait until the error bound is at most this, such as 10ms or 2.5us",
    )
    parser.add_argument(
        "--timeout",
        type=or_none(duration),
        default=60.0,
        metavar="DURATION",
        help="how long to wait, such as 90s or 5m (default: 60s); 'none' waits for ever",
    )
    add_local_ok(parser)
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser
