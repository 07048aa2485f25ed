"""What the tests of faults, threads, processes and leaks measure."""

from __future__ import annotations

import os
from pathlib import Path

LONG = bool(os.environ.get("PYCHRONY_LONG"))
"""Whether to run the long form: `tools/run long`."""

HANG = 20.0
"""Seconds after which something that has not ended hangs, on any machine."""


def fds() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def memory() -> int:
    """How many bytes of memory this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def remains(address: str) -> list[str]:
    """The folders of clients beside chronyd's socket; none for a UDP address."""
    if not address.startswith("/"):
        return []
    return sorted(entry.name for entry in Path(address).parent.glob("libchrony.*"))
