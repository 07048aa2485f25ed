"""The `pychrony` command: runs the module of a subcommand, and turns errors into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..exceptions import ChronyError
from .exits import BROKEN_PIPE, INTERRUPTED, UNREACHABLE, complain, exit_code
from .streams import discard_output, prepare

COMMANDS = {
    "check": "Judge the clock in one line, as a monitoring plug-in (Nagios, Icinga, Sensu)",
    "wait": "Wait until the clock is synchronised, for boot scripts and containers",
    "fleet": "Judge the clocks of many hosts, and list the worst first",
    "exporter": "Serve the reports as metrics to Prometheus",
    "plot": "Draw a log of --json --watch",
    "history": "Sum up a log of --json --watch for each day, for an audit of the clock",
    "doctor": "Diagnose this machine and suggest fixes",
    "demo": "Show every report of a private chronyd that is synchronised to another one",
}
"""Subcommands with their own module and parser, and what each does.

The other subcommands show reports; their parser is in `reports`.
"""

UNWRITTEN = {"check": 3}
"""Exit codes for output that cannot be written; 1 and 141 would be states of a plug-in."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default the process's; return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    command = arguments[0] if arguments else ""
    prepare()
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except ChronyError as error:
        complain(error.message)
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # for example with '| head'
        discard_output()
        return UNWRITTEN.get(command, BROKEN_PIPE)
    except OSError as error:
        complain(f"writing {error.filename or 'the output'}: {error.strerror}")
        discard_output()
        return UNWRITTEN.get(command, UNREACHABLE)


def _run(arguments: list[str]) -> int:
    # Imported when needed, so that no command waits for the imports of others, and by import
    # statements, so that PyInstaller and the like see them.
    match arguments:
        case ["check", *options]:
            from .check import run
        case ["wait", *options]:
            from .wait import run
        case ["fleet", *options]:
            from .fleet import run
        case ["exporter", *options]:
            from .exporter import run
        case ["plot", *options]:
            from .plot import run
        case ["history", *options]:
            from .history import run
        case ["doctor", *options]:
            from .doctor import run
        case ["demo", *options]:
            from .demo import run
        case _:
            from .reports import run as show

            return show(arguments, COMMANDS)
    return run(options)
