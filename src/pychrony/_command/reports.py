"""The subcommands that show reports, on the terminal or as JSON: `pychrony tracking`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from .._engine.fields import Report
from .._engine.meanings import summary
from .._version import __version__
from ..connection import ChronyConnection
from ..models import MODELS
from .arguments import Parser, add_address, interval, seconds_or_none
from .exits import exit_code
from .render import as_json, keys
from .show import show, watch, width, write

DESCRIPTION = "Show the monitoring reports of chronyd, under chronyc's names."

DEFAULTS = {"address": None, "timeout": 1.0, "json": False, "watch": None}

EPILOG = """\
examples:
  pychrony tracking                        the system clock
  pychrony sources --watch 2               the sources, anew every two seconds
  pychrony sourcestats --address ntp.example.net
  pychrony tracking --json | jq .offset    in seconds; 'pychrony tracking --help' has the keys
  pychrony all --json --watch 60 >>log     a line of JSON every minute
  pychrony doctor                          what works here, and what to do about the rest

exit codes:
    0  the report was shown; for 'all': at least one was, and each other says why it was not
    1  chronyd cannot be reached or does not answer, or the output cannot be written
    2  the command line is wrong
    3  this user may not read the report
    4  chronyd's answer cannot be used
    5  libchrony cannot be found or used
  130  Ctrl-C, except with --watch, which ends with 0
  141  the output was closed by its reader, such as 'head'
"""

EVERYTHING = "Every report; one that cannot be read says why, and is no error"
DOCTOR = "What pychrony finds on this machine, what this user may read, and what to do"
DEMO = "Run two private chronyds, one following the other, and show every report"


class _Parser(Parser):
    report: type[Report] | None = None
    """What the help is about, if it is about one report."""

    def format_help(self) -> str:
        """Describe the fields of the report, which takes time that only the help needs."""
        if self.report is not None:
            self.epilog = keys(self.report, width())
        return super().format_help()


def run(argv: Sequence[str], others: Mapping[str, str]) -> int:
    """Show a report; `others` are the subcommands with parsers of their own, for the help."""
    parser = _parser(others)
    options = parser.parse_args(argv, argparse.Namespace(**DEFAULTS))
    if options.report in others:
        parser.error(f"the options of '{options.report}' come after it")
    if options.report in ("doctor", "demo"):
        if options.watch is not None:
            parser.error(f"{options.report} takes no --watch")
        return _examine(parser, options) if options.report == "doctor" else _demo(parser, options)
    with _connection(parser, options) as connection:
        if options.watch is None:
            show(connection, options.report, json=options.json)
        else:
            watch(connection, options.report, options.watch, json=options.json)
    return 0


def _examine(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from .doctor import diagnosis_text, examine

    _connection(parser, options)  # checks what it is given
    diagnosis = examine(options.address, options.timeout)
    write(as_json(diagnosis) if options.json else diagnosis_text(diagnosis))
    return exit_code(diagnosis.problem) if diagnosis.problem else 0


def _demo(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.address is not None:
        parser.error("demo takes no --address: it asks a chronyd of its own")
    from .demo import demonstrate

    demonstrate(json=options.json)
    return 0


def _connection(parser: argparse.ArgumentParser, options: argparse.Namespace) -> ChronyConnection:
    try:
        return ChronyConnection(options.address, timeout=options.timeout)
    except ValueError as error:
        parser.error(str(error))


def _parser(others: Mapping[str, str]) -> argparse.ArgumentParser:
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_options(common)
    parser = _Parser(prog="pychrony", description=DESCRIPTION, epilog=EPILOG, parents=[common])
    parser.add_argument("--version", action="version", version=f"pychrony {__version__}")
    commands = parser.add_subparsers(dest="report", metavar="REPORT", required=True)

    def add(name: str, about: str) -> _Parser:
        return commands.add_parser(
            name,
            help=about[0].lower() + about[1:],
            description=f"{about}.",
            parents=[common],
        )

    for name, model in MODELS.items():
        add(name, summary(model)).report = model
    add("all", EVERYTHING)
    add("doctor", DOCTOR)
    add("demo", DEMO)
    for name, about in others.items():
        commands.add_parser(name, help=about[0].lower() + about[1:], add_help=False)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_address(parser)
    parser.add_argument(
        "--timeout",
        type=seconds_or_none,
        metavar="SECONDS",
        help="how long to wait for chronyd in all (1); 'none': for ever",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON: fields under pychrony's names, in seconds and ppm, enums by name",
    )
    parser.add_argument(
        "--watch",
        type=interval,
        metavar="SECONDS",
        help="ask again and again, until Ctrl-C; with --json, a line each time",
    )
