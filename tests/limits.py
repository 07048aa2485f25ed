"""Limits of what tests wait for; measures descriptors, memory and leftovers."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

LONG = bool(os.environ.get("PYCHRONY_LONG"))
"""Whether to run the long form: `tools/run long`."""

HANG = 20.0
"""Seconds after which something counts as hanging, on any machine."""

PATIENCE = 300.0
"""Seconds to wait for what must come, even on a machine that is very busy."""


def wait_until(condition: Callable[[], T]) -> T:
    """Call a function again and again; return its first true result."""
    end = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return result


@contextmanager
def meanwhile(function: Callable[[], object], threads: int = 1) -> Iterator[None]:
    """Let threads call a function again and again until the end of the block."""
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            function()

    with ThreadPoolExecutor(threads) as pool:
        calls = [pool.submit(repeat) for _ in range(threads)]
        try:
            yield
        finally:
            over.set()
        for call in calls:
            call.result(HANG)


def fds() -> int:
    """Return the number of open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def memory() -> int:
    """Return the memory in use by this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def remains(address: str) -> list[str]:
    """Return the folders of clients beside chronyd's socket; none for a UDP address."""
    if not address.startswith("/"):
        return []
    return sorted(entry.name for entry in Path(address).parent.glob("libchrony.*"))


@contextmanager
def nothing_left(address: str = "") -> Iterator[None]:
    """Check that a block leaves no descriptor open, and no folder beside chronyd's socket."""
    gc.collect()
    before = fds()
    yield
    assert (fds(), remains(address)) == (before, [])
