"""Records reports as lines of JSON, with the time: `--json --watch`."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from typing import Any

from ..exceptions import ChronyError, ChronyLibraryError
from .render import as_json
from .screen import rounds, write
from .show import View

READINGS = 3
"""How often to read two times, of which the difference must change only if the clock is set."""


def log(view: View, every: float, output: Output) -> None:
    """Print one line of JSON every few seconds until Ctrl-C, whatever happens.

    It has the time, the address, the report, and either its answer or the error.
    """
    connection, address = view.connection, None
    with ExitStack() as opened, suppress(KeyboardInterrupt):
        for _ in rounds(every):
            _, at, uptime = min(_times() for _ in range(READINGS))
            line: dict[str, Any] = {
                "time": at,
                "uptime": uptime,
                "address": address,
                "report": view.report,
            }
            try:
                if connection.address is None:  # until there is something to connect to
                    opened.enter_context(connection)
                line["answer"] = view.payload(view.ask())
            except ChronyLibraryError as error:
                output.write(as_json({**line, "error": error}, indent=None))
                raise  # trying again does not help
            except ChronyError as error:
                line["error"] = error
            line["address"] = address = connection.address or address
            output.write(as_json(line, indent=None))


def now() -> str:
    """Return the time as text, for a line of JSON."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _times() -> tuple[float, str, float]:
    """Return the time, and that since boot, behind the seconds that it took to read both."""
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    at = now()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - uptime, at, round(uptime, 6)


class Output:
    """Where lines of JSON go: stdout, or the end of a file, which logrotate may move away."""

    def __init__(self, name: str | None) -> None:
        """Raise `OSError` if the file cannot be opened."""
        self._name = name
        if name is not None:
            with open(name, "a"):
                pass
            # The file is opened for each line, so SIGHUP only has to be kept from ending us.
            signal.signal(signal.SIGHUP, lambda *_: None)

    def write(self, line: str) -> None:
        """Write a line at once."""
        if self._name is None:
            write(line)
            return
        with open(self._name, "a", encoding="utf-8") as file:
            print(line, file=file)
