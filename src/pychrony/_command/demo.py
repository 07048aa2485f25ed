"""A demonstration that needs no chronyd of the machine's own: `pychrony demo`."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

from .._engine.library import library_path
from ..connection import ChronyConnection
from ..exceptions import ChronyConnectionError
from ..testing import PrivateChronyd
from .show import show

SAMPLES = 8
"""How many measurements of the source make reports worth reading."""
PATIENCE = 30.0  # seconds; a second or two will do

WIDEST = 45  # characters: a line of progress covers the one before

SERVER = "local stratum 5"
CLIENT = "smoothtime 400 0.01"  # so that there is a report of it


def demonstrate(*, json: bool) -> None:
    """Run a chronyd that follows another one, and print every report of it."""
    library_path()  # what is missing shows at once
    say("starting two private chronyds; neither touches the clock of this machine")
    with ExitStack() as running:
        try:
            server = running.enter_context(PrivateChronyd(SERVER))
            client = running.enter_context(PrivateChronyd(server.as_source(), CLIENT))
        except ChronyConnectionError:
            say("in a clone of pychrony, 'tools/run demo' brings a chronyd")
            raise
        connection = running.enter_context(ChronyConnection(client.address))
        _wait(connection)
        show(connection, "all", json=json)


def say(message: str, *, end: str = "\n") -> None:
    """Tell the user how far it is; stdout is for the reports."""
    print(f"pychrony demo: {message}", file=sys.stderr, end=end, flush=True)


def _wait(connection: ChronyConnection) -> None:
    """Wait until the clock follows the source, and has some measurements of it."""
    start = time.monotonic()
    in_place = sys.stderr.isatty()
    while True:
        synchronised = connection.get_tracking().is_synchronized()
        samples = max(stats.samples for stats in connection.get_source_stats())
        passed = time.monotonic() - start
        done = synchronised and samples >= SAMPLES
        state = "synchronised" if synchronised else "not synchronised yet"
        progress = f"{passed:4.1f} s: {state}, {samples} samples"
        say(progress.ljust(WIDEST if in_place else 0), end="\r" if in_place and not done else "\n")
        if done:
            return
        if passed > PATIENCE:
            raise ChronyConnectionError(
                f"synchronising a private chronyd: not done within {PATIENCE:g} s; "
                "see whether UDP between processes of this machine is blocked"
            )
        time.sleep(0.25)
