"""Measures how late calls of many threads end, if each opens and closes its own sockets."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from competitors import OURS
from results import Label

import pychrony
from pychrony.testing import PrivateChronyd

THREADS, TIMEOUT = 16, 0.05
DEADLINES = Label(OURS, "silence", "wall")
"""How long each call takes until it raises `ChronyTimeoutError`."""


def measure(calls: int) -> Iterator[tuple[Label, list[float]]]:
    """Let each thread make a number of calls, one after the other, to a chronyd that is stopped."""
    print("bench: many threads", file=sys.stderr)
    with PrivateChronyd("local stratum 5") as chronyd, ThreadPoolExecutor(THREADS) as threads:
        os.kill(chronyd.pid, signal.SIGSTOP)
        try:
            asking = threads.map(_wait, THREADS * calls * [chronyd.address])
            yield DEADLINES, list(asking)
        finally:
            os.kill(chronyd.pid, signal.SIGCONT)


def _wait(address: str) -> float:
    start = time.perf_counter()
    try:
        pychrony.get_sources(address, timeout=TIMEOUT)
    except pychrony.ChronyTimeoutError:
        return time.perf_counter() - start
    raise RuntimeError("a chronyd that is stopped has answered")
