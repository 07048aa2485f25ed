"""Draws a log of `--json --watch`: `pychrony plot`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import Parser
from ..exits import UNREACHABLE, UNUSABLE, USAGE, complain

if TYPE_CHECKING:
    from .history import Log

KINDS = ("svg", "png", "pdf")

EPILOG = """\
examples:
  pychrony all --json --watch 60 >>clock.log    a line each minute, until Ctrl-C
  pychrony plot clock.log -o clock.svg
  zcat clock.log.*.gz | pychrony plot - clock.log -o clock.pdf

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
        import matplotlib  # noqa: F401
    except ImportError:
        complain("plot needs matplotlib: pip install 'pychrony[plot]'")
        return USAGE
    from .history import Log

    log = Log()
    for name in options.logs:
        try:
            _read(log, name)
        except OSError as error:
            complain(f"reading {name}: {error.strerror}")
            return UNREACHABLE
    notes = [
        f"{lines.number:,} of {log.lines:,} lines left out: {reason} (first: {lines.first})"
        for reason, lines in log.unusable.items()
    ]
    for note in notes:
        complain(note)
    return _draw(log, options.address, options.output, kind, notes)


def _read(log: Log, name: str) -> None:
    if name == "-":
        log.read("stdin", sys.stdin.buffer)
        return
    with open(name, "rb") as lines:
        log.read(name, lines)


def _draw(log: Log, address: str | None, output: str, kind: str, notes: Sequence[str]) -> int:
    known = log.addresses()
    if address is None and len(known) > 1:
        complain(f"choose a chronyd with --address: the logs hold {', '.join(known)}")
        return USAGE
    if address is not None and address not in known:
        complain(f"no line is about {address}: the logs hold {', '.join(known) or 'none'}")
        return USAGE
    history = log.history(address)
    if history is None or history.is_empty():
        complain("nothing to draw: a log comes from 'pychrony all --json --watch INTERVAL'")
        return UNUSABLE
    from .picture import draw, save

    title = f"chronyd at {address or known[0]}"
    try:
        save(draw(history, title, notes), output, kind)
    except OSError as error:
        complain(f"writing {output}: {error.strerror}")
        return UNREACHABLE
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="pychrony plot",
        description="Draw a log of --json --watch: the clock's offset inside its error bound, "
        "frequency and skew, and the offset and the reachability of each source.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "logs",
        nargs="+",
        metavar="LOG",
        help="output of 'pychrony all --json --watch INTERVAL', or of tracking or sources instead "
        "of all; '-' reads stdin",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="picture to write: .svg, .png or .pdf"
    )
    parser.add_argument(
        "--address", help="draw this chronyd, if the logs are about several: its 'address' there"
    )
    return parser
