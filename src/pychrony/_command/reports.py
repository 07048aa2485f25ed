"""Implements the subcommands that show reports, such as `pychrony tracking`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from .._model.meanings import summary
from .._version import __version__
from ..connection import ChronyConnection
from ..models import MODELS
from .arguments import TIMEOUT, Parser, add_address, add_json, add_output, add_timeout, interval
from .exits import USAGE
from .record import Output, log
from .render import keys
from .screen import width
from .show import View, show, watch

DESCRIPTION = "Show chronyd's monitoring reports, under chronyc's names for them."

EPILOG = """\
examples:
  pychrony tracking                        the system clock
  pychrony sources --watch 2               the sources, every two seconds
  pychrony sourcestats --address ntp.example.net
  pychrony tracking --json | jq .offset    'pychrony tracking --help' describes each key
  pychrony all --json --watch 60 >>log     one line of JSON every minute
  pychrony doctor                          diagnose this machine and suggest fixes

exit codes:
    0  the report was shown; for 'all', at least one report was, and others show the reason
    1  chronyd cannot be reached or does not answer, or the output cannot be written
    2  the command line is wrong
    3  this user is not allowed to read the report
    4  chronyd's answer cannot be used
    5  libchrony cannot be found or used
  130  Ctrl-C; with --watch, Ctrl-C ends with 0
  141  the program that reads the output, such as 'head', closed it
"""

HABITS = {
    "-c": "here it is '--json', which names each value",
    "-p": "here it is '--address HOST:PORT'",
    "-N": "libchrony does not give the names that were configured, only addresses",
    "sourcename": "libchrony does not give the names that were configured, only addresses",
    "clients": "libchrony does not offer it",
    "waitsync": "here it is 'pychrony wait'",
    **dict.fromkeys(
        ("add", "burst", "delete", "makestep", "offline", "online", "reload", "reselect"),
        "pychrony only reads reports",
    ),
}
"""Options and commands of chronyc's that are different here, and what to use instead."""

EVERYTHING = "Every report; unreadable reports show the reason, and the exit code stays 0"


def run(argv: Sequence[str], others: Mapping[str, str]) -> int:
    """Show a report; `others` are the subcommands with their own parsers, listed in the help."""
    explain = not {"-h", "--help"}.isdisjoint(argv)  # field descriptions are slow to load
    options = _parser(others, explain=explain).parse(argv)
    error = options.parser.error
    if options.report is None:
        options.parser.print_help(sys.stderr)
        return USAGE
    if options.report in others:
        error(f"the options of '{options.report}' come after it")
    if options.output and not (options.json and options.watch):
        error("--output is for lines of JSON: add --json and --watch")
    if options.resolve and options.json:
        error("--resolve is for text: JSON has the addresses")
    chrony = ChronyConnection(options.address, timeout=options.timeout)
    resolve_in = (options.timeout or TIMEOUT) if options.resolve else 0.0
    view = View(chrony, options.report, options.everything, resolve_in)
    if options.watch and options.json:
        log(view, options.watch, Output(options.output))
        return 0
    with chrony:
        if options.watch:
            watch(view, options.watch)
        else:
            show(view, json=options.json, explain=options.explain)
    return 0


def _parser(others: Mapping[str, str], *, explain: bool) -> Parser:
    """Build the parser; `explain` describes the keys of the reports."""
    parser = Parser(prog="pychrony", description=DESCRIPTION, epilog=EPILOG)
    _add_options(parser)
    parser.set_defaults(resolve=False, explain=False)
    # Behind the name of a report, an option that is not given keeps its value from before.
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_options(common)
    common.add_argument(
        "-v", action="store_true", dest="explain", help="explain the columns of a list"
    )
    parser.add_argument(
        "-v",
        "--version",
        action="version",
        version=f"pychrony {__version__}",
        help="show the version",
    )
    commands = parser.add_subparsers(dest="report", metavar="REPORT")
    parser.commands, parser.habits = commands.choices, HABITS

    def add(name: str, about: str) -> Parser:
        return commands.add_parser(
            name, help=_lower(about), description=f"{about}.", parents=[common]
        )

    for name, model in MODELS.items():
        report = add(name, summary(model))
        report.epilog = keys(model, width()) if explain else None
        if name in ("sources", "sourcestats"):
            report.add_argument(
                "--resolve",
                action="store_true",
                help="show the sources' names by reverse DNS, if there is an answer in time",
            )
    add("all", EVERYTHING)
    for name, about in others.items():
        commands.add_parser(name, help=_lower(about), add_help=False)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_address(parser)
    add_timeout(parser)
    add_json(parser, "the report")
    parser.add_argument(
        "-a",
        "--all",
        action="store_true",
        dest="everything",
        help="also show sources whose host name chronyd has not resolved, as --json always does",
    )
    parser.add_argument(
        "--watch",
        type=interval,
        metavar="INTERVAL",
        help="repeat at this interval, such as 2s or 1m, until Ctrl-C; with --json, print one line "
        "each time, with the time, the address, and the answer or the error",
    )
    add_output(parser, "--json --watch")
    parser.add_argument("-n", action="store_true", dest="numeric", help=argparse.SUPPRESS)


def _lower(about: str) -> str:
    return about[0].lower() + about[1:]
