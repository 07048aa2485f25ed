"""Writes an inventory of the names in Python's manual that this manual links to."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

PLACE = Path(__file__).parents[2] / "build/docs/objects.inv"
"""The same in each build: Sphinx reads all pages again if a setting is not what it was."""

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
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    written = PLACE.with_suffix(f".{os.getpid()}")  # another build may read it now
    written.write_bytes(HEADER.encode() + zlib.compress("\n".join([*entries, ""]).encode()))
    return written.replace(PLACE)
