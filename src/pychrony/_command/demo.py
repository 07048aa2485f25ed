"""Shows the reports of a private chronyd, for machines without chronyd: `pychrony demo`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from .._io.library import library_path
from .._testing.private_chronyd import PrivateChronyd
from ..connection import ChronyConnection
from ..exceptions import ChronyConnectionError
from .arguments import Parser, add_json
from .show import View, show

PATIENCE = 30.0  # seconds; it usually takes one or two

SETTLING = 0.5
"""Seconds for more measurements, so that the reports have interesting values."""

SERVER = "local stratum 5"
CLIENT = "smoothtime 400 0.01"  # turns on the smoothing report


ABOUT = """\
Show every report of a private chronyd that is synchronised to another private chronyd.
Both run in temporary folders and on free ports, and neither touches this machine's clock.
"""


def run(argv: Sequence[str]) -> int:
    """Start two private chronyds, and print every report of the one that follows the other."""
    options = _parser().parse(argv)
    library_path()  # without libchrony, there is no need to start them
    say("starting two private chronyds; neither touches the clock of this machine")
    with ExitStack() as running:
        try:
            server = running.enter_context(PrivateChronyd(SERVER))
            client = running.enter_context(PrivateChronyd(server.as_source(), CLIENT))
        except ChronyConnectionError:
            say("in a clone of pychrony, 'tools/run demo' downloads a chronyd")
            raise
        client.wait_until_synchronized(PATIENCE)
        time.sleep(SETTLING)
        connection = running.enter_context(ChronyConnection(client.address))
        show(View(connection, "all"), json=options.json)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="pychrony demo", description=ABOUT)
    parser.host_as = "none is needed"
    add_json(parser, "the reports")
    return parser


def say(message: str) -> None:
    """Show progress on stderr; stdout is for the reports."""
    print(f"pychrony demo: {message}", file=sys.stderr)
