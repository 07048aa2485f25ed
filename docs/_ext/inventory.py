"""Writes an inventory of the names in Python's manual that this manual links to."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path

HEADER = """\
# Sphinx inventory version 2
# Project: Python
# Version: 3
# The remainder of this file is compressed using zlib.
"""


def write(names: Path) -> Path:
    """Write the inventory for lines of a role, a page, and the names explained there."""
    entries = [
        f"{name} py:{role} 1 {page}.html#{name} -"
        for role, page, *listed in map(str.split, names.read_text().splitlines())
        for name in listed
    ]
    target = Path(tempfile.mkdtemp(prefix="pychrony-docs-")) / "objects.inv"
    target.write_bytes(HEADER.encode() + zlib.compress("\n".join([*entries, ""]).encode()))
    return target
