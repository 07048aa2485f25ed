"""Judges the clocks of many hosts at the same time, and lists the worst first: `pychrony fleet`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from ..arguments import Parser, add_limits, add_output, add_timeout, checked, interval, limits
from ..exits import BAD, progress
from ..record import Output
from ..screen import Screen, rounds, width, write
from .rows import Row, judged
from .table import table, totals

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
  pychrony fleet --from hosts.txt --watch 60 --json --output fleet.log

A file of hosts has one host per line, with or without a port; '#' begins a comment. A line that is
not an address is listed as UNKNOWN.

exit codes:
    0  all clocks are OK
    1  at least one is not
    2  the command line is wrong, or the file of hosts cannot be read
    5  libchrony cannot be found or used
  130  Ctrl-C; shows the hosts that have answered; with --watch, Ctrl-C ends with 0
"""

PROGRESS_EVERY = 0.1  # seconds


def run(argv: Sequence[str]) -> int:
    """Judge all hosts, and return the exit code; with `--watch`, repeat until Ctrl-C."""
    options = _parser().parse(argv)
    options.limits = limits(options)
    options.hosts = list(dict.fromkeys([*options.hosts, *options.listed]))
    if not options.hosts:
        options.parser.error("no hosts given; name them, or read them with --from FILE")
    if options.output and not options.json:
        options.parser.error("--output is for lines of JSON: add --json")
    output = Output(options.output)
    if options.watch is None:
        return _round(options, output)
    screen = Screen()
    with suppress(KeyboardInterrupt):
        for _ in rounds(options.watch):
            _round(options, output, screen)
    return 0


@checked
def _listed(name: str) -> list[str]:
    """Read a file of hosts."""
    source = 0 if name == "-" else name
    try:
        with open(source, encoding="utf-8-sig", errors="replace", closefd=name != "-") as file:
            hosts = [*filter(None, (line.partition("#")[0].strip() for line in file))]
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise ValueError(f"reading the hosts from {name!r}: {words}") from None
    if not hosts:
        raise ValueError(f"no hosts in {name!r}")
    return hosts


def _round(options: argparse.Namespace, output: Output, screen: Screen | None = None) -> int:
    """Judge all hosts once; after Ctrl-C, show those that have answered."""
    begun, rows = time.monotonic(), list[Row]()
    try:
        _gather(rows, options, output)
    except KeyboardInterrupt:
        if not options.json and not (screen and screen.is_used):
            summary = totals(rows, time.monotonic() - begun)
            words = f"interrupted: of {len(options.hosts)} hosts, {summary}"
            write(_paragraphs(_table(rows, options), words))
        raise
    summary = totals(rows, time.monotonic() - begun)
    if screen and not options.json:  # the totals at the top stay visible
        words = f"{time.strftime('%H:%M:%S')}  {summary}"
        screen.draw(_paragraphs(words, _table(rows, options)))
    elif not options.json:
        write(_paragraphs(_table(rows, options), summary))
    return 0 if all(row.is_good for row in rows) else BAD


def _gather(rows: list[Row], options: argparse.Namespace, output: Output) -> None:
    """Judge all hosts; the terminal shows lines of JSON, or how many hosts have answered."""
    is_counting = sys.stderr.isatty() and not (options.json and sys.stdout.isatty())
    told = 0.0
    try:
        for row in judged(options.hosts, options.timeout, options.limits):
            rows.append(row)
            if options.json and not (options.bad and row.is_good):
                output.write(json.dumps(row.plain()))
            if is_counting and time.monotonic() >= told + PROGRESS_EVERY:
                told = time.monotonic()
                bad = sum(not row.is_good for row in rows)
                progress(f"{len(rows)} of {len(options.hosts)} hosts, {bad} bad")
    finally:
        if is_counting:
            progress("")


def _table(rows: list[Row], options: argparse.Namespace) -> str:
    """Return the table, the worst host first."""
    shown = [row for row in rows if not (options.bad and row.is_good)]
    shown.sort(key=lambda row: row.badness)
    return "\n".join(table(shown, width() if sys.stdout.isatty() else None))


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(filter(None, texts))


def _parser() -> Parser:
    parser = Parser(prog="pychrony fleet", description=DESCRIPTION, epilog=EPILOG)
    parser.host_as = "here it is 'pychrony fleet {}'"
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="host, with or without a port")
    parser.add_argument(
        "--from",
        dest="listed",
        type=_listed,
        default=[],
        metavar="FILE",
        help="read hosts from a file; '-' reads stdin",
    )
    add_timeout(parser, of="each host in total")
    add_limits(parser)
    parser.add_argument("--bad", action="store_true", help="show only hosts that are not OK")
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON for each host as it answers"
    )
    parser.add_argument(
        "--watch", type=interval, metavar="INTERVAL", help="repeat at this interval until Ctrl-C"
    )
    add_output(parser, "--json")
    return parser
