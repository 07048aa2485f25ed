"""Makes lines as `--json --watch` writes them, for tests of what reads them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pychrony import AllReports
from pychrony._command.logs import Log
from pychrony._command.logs.columns import History
from pychrony.testing import make_source, make_tracking

START = 1_790_000_000
"""2026-09-21 14:13:20 UTC."""
ADDRESS = "/run/chrony/chronyd.sock"
SOURCE = "192.0.2.1"


def line(number: float, *, uptime: float | None = None, **answer: Any) -> dict[str, Any]:
    """Return a line some seconds after the start."""
    moment = datetime.fromtimestamp(START + number, timezone.utc)
    time = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    booted = {} if uptime is None else {"uptime": uptime}
    return {"time": time, **booted, "address": ADDRESS, "report": "all", **answer}


def answered(number: float, *, uptime: float | None = None, **changes: Any) -> dict[str, Any]:
    tracking = make_tracking(**{"offset": 2e-6, "root_dispersion": 1e-3, **changes})
    reports = AllReports(tracking=tracking, sources=[make_source(address=SOURCE)])
    return line(number, uptime=uptime, answer=reports.to_dict())


def failed(number: float) -> dict[str, Any]:
    return line(number, error={"error": "ChronyTimeoutError", "message": "no answer"})


def encoded(*lines: dict[str, Any] | bytes) -> list[bytes]:
    return [e if isinstance(e, bytes) else f"{json.dumps(e)}\n".encode() for e in lines]


def read(*lines: dict[str, Any] | bytes) -> Log:
    log = Log()
    log.read("x.log", encoded(*lines))
    return log


def only(log: Log) -> History:
    """Return what a log says about its chronyd."""
    found = log.history(ADDRESS)
    assert found is not None
    return found


def history(*files: list[dict[str, Any]]) -> History:
    log = Log()
    for number, lines in enumerate(files):
        log.read(f"{number}.log", encoded(*lines))
    return only(log)


def write(path: Path, *lines: dict[str, Any] | bytes) -> str:
    path.write_bytes(b"".join(encoded(*lines)))
    return str(path)
