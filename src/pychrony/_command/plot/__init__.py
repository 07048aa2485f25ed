"""Draws a log of `--json --watch`: `pychrony plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..arguments import Parser
from ..exits import UNREACHABLE, UNUSABLE, USAGE, complain
from ..logs import Log, add_arguments, chosen, read
from ..logs.columns import SYNCHRONIZED, History
from ..logs.stretches import EARLIEST

KINDS = ("svg", "png", "pdf")

DESCRIPTION = """\
Draw a log of --json --watch: the clock's offset inside its error bound, frequency and skew, and the
offset and the reachability of each source.
"""

EPILOG = """\
examples:
  pychrony all --json --watch 60 >>clock.log    a line each minute, until Ctrl-C
  pychrony plot clock.log -o clock.svg
  pychrony plot clock.log* --since 2026-11-01 -o november.pdf

exit codes:
  0  the picture was written; lines of the log that could not be used are named on stderr
  1  a log cannot be read, or the picture cannot be written
  2  the command line is wrong, or matplotlib is missing
  4  the logs hold nothing to draw
"""


def run(argv: Sequence[str]) -> int:
    """Draw the logs."""
    parser = _parser()
    options = parser.parse(argv)
    kind = Path(options.output).suffix.lower().removeprefix(".")
    if kind not in KINDS:
        parser.error(f"--output {options.output!r} must end in {', '.join(f'.{k}' for k in KINDS)}")
    try:
        from .picture import draw, save
    except ImportError:
        complain("plot needs matplotlib: pip install 'pychrony[plot]'")
        return USAGE
    log = Log(EARLIEST if options.since is None else options.since, options.until)
    if not read(log, options.logs):
        return UNREACHABLE
    notes = log.notes()
    if log.early and options.since is None:
        notes.append(f"{log.early:,} lines from before 2000 left out: see --since 1970-01-01")
        complain(notes[-1])
    address, *others = chosen(parser, log, options.address)
    if others:
        parser.error(f"choose one with --address: the logs hold {', '.join(log.addresses())}")
    history = log.history(address)
    if history is None or not (history.sources or history.has(SYNCHRONIZED)):
        complain(f"nothing to draw: {_lack(history)}")
        return UNUSABLE
    title = f"chronyd at {address}" if address else "chronyd"
    try:
        save(draw(history, title, notes), options.output)
    except OSError as error:
        complain(f"writing {options.output}: {error.strerror}")
        return UNREACHABLE
    return 0


def _lack(history: History | None) -> str:
    """Return why a history cannot be drawn."""
    if history is None:
        return "a log comes from 'pychrony all --json --watch INTERVAL'"
    lines = f"{len(history.time):,} lines"
    if len(history.errors) == len(history.time):
        return f"all {lines} are errors ({', '.join(sorted(set(history.errors.values())))})"
    return f"in {lines}, the clock is never synchronised to a source"


def _parser() -> Parser:
    parser = Parser(prog="pychrony plot", description=DESCRIPTION, epilog=EPILOG)
    add_arguments(parser)
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="picture to write: .svg, .png or .pdf"
    )
    return parser
