"""Measures descriptors, memory and leftovers for the tests of faults, threads and leaks."""

from __future__ import annotations

import os
from pathlib import Path

LONG = bool(os.environ.get("PYCHRONY_LONG"))
"""Whether to run the long form: `tools/run long`."""

HANG = 20.0
"""Seconds after which something counts as hanging, on any machine."""


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
