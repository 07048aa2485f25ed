"""Judges the clocks of many hosts at the same time, and lists the worst first: `pychrony fleet`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .._model.durations import seconds
from .._model.placeholders import is_resolved
from ..assessment import Assessment, State, judge
from ..exceptions import ChronyLibraryError
from ..many import get_many
from ..models import Answer, Source, TrackingStatus
from .arguments import Limits, Parser, add_limits, duration_or_none, interval, limits
from .show import Screen, now, rounds, width, write
from .values import NOTHING

ALL_GOOD, ANY_BAD = 0, 1

DESCRIPTION = """\
Judge the clocks of many hosts at the same time, and list the worst first.

Each host must allow this one to ask: see 'cmdallow' and 'bindcmdaddress' in chrony.conf.
"""

EPILOG = """\
examples:
  pychrony fleet ntp1.example.net ntp2.example.net
  pychrony fleet --from hosts.txt --bad --warning 10ms --sources 3
  pychrony fleet --from - --json <hosts.txt | jq 'select(.state != "OK")'
  pychrony fleet --from hosts.txt --watch 60

A file of hosts has one host per line, with or without a port; '#' begins a comment.

exit codes:
  0  all clocks are OK
  1  at least one is not
  2  the command line is wrong, or the file of hosts cannot be read
"""

HEADINGS = ("host", "state", "bound", "offset", "stratum", "reference", "usable", "what is wrong")
ON_THE_RIGHT = {"bound", "offset", "stratum", "usable"}

PROGRESS_EVERY = 0.1  # seconds


class Row(NamedTuple):
    """The result for one host."""

    host: str
    assessment: Assessment
    error: str | None
    """Name of the exception, if there are no reports."""
    wrong: str
    """The reasons in a few words."""
    clock: TrackingStatus | None
    """The clock, if it is synchronised."""
    sources: list[Source] | None
    """Those whose name is resolved."""

    @property
    def usable(self) -> int | None:
        """How many sources are usable; `None` if that is not known."""
        return None if self.sources is None else sum(map(Source.is_usable, self.sources))

    @property
    def bound(self) -> float | None:
        """The error bound in seconds, if the clock has one."""
        if self.clock is None or self.clock.is_local_reference():
            return None
        return self.clock.error_bound


def run(argv: Sequence[str]) -> int:
    """Judge all hosts, and return the exit code; with `--watch`, repeat until Ctrl-C."""
    parser = _parser()
    options = parser.parse(argv)
    wanted = limits(parser, options)
    hosts = list(dict.fromkeys([*options.hosts, *_listed(parser, options.file)]))
    if not hosts:
        parser.error(
            f"no hosts in {options.file!r}"
            if options.file
            else "no hosts given; name them, or read them with --from FILE"
        )
    if options.watch is None:
        return _round(hosts, options, wanted, None)
    screen = Screen()
    try:
        for _ in rounds(options.watch):
            _round(hosts, options, wanted, screen)
    except KeyboardInterrupt:
        pass
    return ALL_GOOD


def _listed(parser: argparse.ArgumentParser, name: str | None) -> Iterator[str]:
    """Read a file of hosts."""
    if name is None:
        return
    try:
        with open(0 if name == "-" else name, errors="replace", closefd=name != "-") as file:
            for line in file:
                yield from filter(None, [line.partition("#")[0].strip()])
    except OSError as error:
        parser.error(f"reading the hosts from {name!r}: {(error.strerror or str(error)).lower()}")


def _round(
    hosts: list[str], options: argparse.Namespace, wanted: Limits, screen: Screen | None
) -> int:
    begun, rows = time.monotonic(), []
    for row in _progress(_judged(hosts, options.timeout, wanted), len(hosts), options.json):
        rows.append(row)
        if options.json and not (options.bad and row.assessment.state is State.OK):
            write(json.dumps(_plain(row)))
    if not options.json:
        text = _text(rows, time.monotonic() - begun, bad_only=options.bad)
        screen.draw(f"{time.strftime('%H:%M:%S')}\n\n{text}") if screen else write(text)
    return ALL_GOOD if all(row.assessment.state is State.OK for row in rows) else ANY_BAD


def _judged(hosts: list[str], timeout: float | None, wanted: Limits) -> Iterator[Row]:
    for answer in get_many(hosts, "tracking", "sources", timeout=timeout):
        if isinstance(answer.error, ChronyLibraryError):
            raise answer.error  # the same for all hosts
        yield _row(answer, wanted)


def _row(answer: Answer, wanted: Limits) -> Row:
    if answer.reports is None:
        assert answer.error is not None
        found = judge(answer.error, **wanted)
        error = answer.error
        return Row(answer.address, found, type(error).__name__, error._outcome, None, None)
    found, tracking = judge(answer.reports, **wanted), answer.reports.tracking
    clock = tracking if tracking and tracking.is_synchronized() else None
    words = "; ".join(found.reasons)
    sources = answer.reports.sources
    known = None if sources is None else [*filter(is_resolved, sources)]
    return Row(answer.address, found, None, words, clock, known)


def _progress(rows: Iterable[Row], total: int, to_json: bool) -> Iterator[Row]:
    """Show on the terminal how many hosts have answered, unless lines of JSON show it."""
    if not sys.stderr.isatty() or (to_json and sys.stdout.isatty()):
        yield from rows
        return
    told, bad = 0.0, 0
    for done, row in enumerate(rows, 1):
        bad += row.assessment.state is not State.OK
        if time.monotonic() >= told + PROGRESS_EVERY:
            told = time.monotonic()
            print(
                f"\r{done} of {total} hosts, {bad} bad\x1b[K", end="", file=sys.stderr, flush=True
            )
        yield row
    print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _plain(row: Row) -> dict[str, Any]:
    clock = row.clock
    return {
        "time": now(),
        "host": row.host,
        "state": row.assessment.state.name,
        "reasons": list(row.assessment.reasons),
        "error": row.error,
        "error_bound": row.bound,
        "offset": clock and clock.offset,
        "stratum": clock and clock.stratum,
        "reference": clock and _reference(clock),
        "usable_sources": row.usable,
        "sources": None if row.sources is None else len(row.sources),
    }


def _text(rows: list[Row], took: float, *, bad_only: bool) -> str:
    """Return the table, the worst host first, and the totals."""
    rows = sorted(rows, key=_badness)
    shown = [row for row in rows if not (bad_only and row.assessment.state is State.OK)]
    table = _table([HEADINGS, *map(_cells, shown)]) if shown else []
    states = Counter(row.assessment.state for row in rows)
    counts = ", ".join(f"{states[state]} {state.name}" for state in State if states[state])
    hosts = f"{len(rows)} host{'s' if len(rows) > 1 else ''}"
    return "\n".join([*table, *([""] if table else []), f"{hosts} in {took:.1f} s: {counts}"])


def _badness(row: Row) -> tuple[int, float, str]:
    bound = float("inf") if row.bound is None else row.bound
    return -row.assessment.state.severity, -bound, row.host


def _cells(row: Row) -> tuple[str, ...]:
    clock, bound = row.clock, row.bound
    return (
        row.host,
        row.assessment.state.name,
        NOTHING if bound is None else seconds(bound),
        seconds(clock.offset, sign="+") if clock else NOTHING,
        str(clock.stratum) if clock else NOTHING,
        _reference(clock) if clock else NOTHING,
        NOTHING if row.sources is None else f"{row.usable}/{len(row.sources)}",
        row.wrong,
    )


def _reference(clock: TrackingStatus) -> str:
    return clock.reference_ip or clock.reference_id_name


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Align the columns; on a terminal, cut the lines to its width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = []
    for *cells, last in rows:
        aligned = [
            cell.rjust(size) if heading in ON_THE_RIGHT else cell.ljust(size)
            for cell, size, heading in zip(cells, widths, HEADINGS, strict=False)
        ]
        lines.append("  ".join([*aligned, last]).rstrip())
    return [line[: width()] for line in lines] if sys.stdout.isatty() else lines


def _parser() -> Parser:
    parser = Parser(prog="pychrony fleet", description=DESCRIPTION, epilog=EPILOG)
    parser.host_as = "pychrony fleet {}"
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="host, with or without a port")
    parser.add_argument(
        "--from", dest="file", metavar="FILE", help="read hosts from a file; '-' reads stdin"
    )
    parser.add_argument(
        "--timeout",
        type=duration_or_none,
        default=5.0,
        metavar="DURATION",
        help="how long to wait for each host in total (default: 5s); 'none' waits for ever",
    )
    add_limits(parser)
    parser.add_argument("--bad", action="store_true", help="show only hosts that are not OK")
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON for each host as it answers"
    )
    parser.add_argument(
        "--watch", type=interval, metavar="INTERVAL", help="repeat at this interval until Ctrl-C"
    )
    return parser
