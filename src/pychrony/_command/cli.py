"""The `pychrony` command: chronyd's reports on the terminal, or as JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .._version import __version__
from ..connection import ChronyConnection
from ..exceptions import (
    ChronyDataError,
    ChronyError,
    ChronyLibraryError,
    ChronyPermissionError,
)
from ..models import MODELS
from .render import as_json, keys, summary
from .show import show, watch, write

UNREACHABLE, USAGE, DENIED, UNUSABLE, NO_LIBRARY = 1, 2, 3, 4, 5
INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13  # as a shell reports these signals

MAX_INTERVAL = 1_000_000  # seconds; what no one waits for is a slip

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default the process's; return its exit code."""
    try:
        try:
            return _run(_parser(), argv)
        finally:
            if sys.stdout is not None:  # it is with '>&-'
                sys.stdout.flush()
    except ChronyError as error:
        complain(error.message)
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # such as with '| head'
        _discard_output()
        return BROKEN_PIPE
    except OSError as error:
        complain(str(error) if error.filename else f"writing the output: {error.strerror}")
        _discard_output()
        return UNREACHABLE


def exit_code(error: ChronyError) -> int:
    """Return the exit code for an error."""
    codes: dict[type[ChronyError], int] = {
        ChronyLibraryError: NO_LIBRARY,
        ChronyPermissionError: DENIED,
        ChronyDataError: UNUSABLE,
    }
    return codes.get(type(error), UNREACHABLE)


def complain(message: str) -> None:
    """Write a line to stderr."""
    print(f"pychrony: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        complain(message)
        self.exit(USAGE, "see 'pychrony --help'\n")


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    options = parser.parse_args(argv, argparse.Namespace(**DEFAULTS))
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


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_options(common)
    parser = _Parser(
        prog="pychrony",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=raw,
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pychrony {__version__}")
    commands = parser.add_subparsers(dest="report", metavar="REPORT", required=True)

    def add(name: str, about: str, details: str = "") -> None:
        commands.add_parser(
            name,
            help=about[0].lower() + about[1:],
            description=f"{about}.",
            epilog=details,
            formatter_class=raw,
            parents=[common],
            allow_abbrev=False,
        )

    for name, model in MODELS.items():
        add(name, summary(model), keys(model))
    add("all", EVERYTHING)
    add("doctor", DOCTOR)
    add("demo", DEMO)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        help="path of chronyd's Unix socket, or a host with or without a port; by default the "
        "local chronyd's socket, else 127.0.0.1, else ::1",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds_or_none,
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
        type=_interval,
        metavar="SECONDS",
        help="ask again and again, until Ctrl-C; with --json, a line each time",
    )


def _seconds_or_none(text: str) -> float | None:
    return None if text.lower() == "none" else _seconds(text)


def _interval(text: str) -> float:
    interval = _seconds(text)
    if not 0 < interval <= MAX_INTERVAL:
        raise argparse.ArgumentTypeError(f"{text} must be above 0, and at most {MAX_INTERVAL}")
    return interval


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None


def _discard_output() -> None:
    """Keep Python from flushing at its end what cannot be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
