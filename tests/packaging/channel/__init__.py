"""Makes a conda channel in a folder from parts of this machine and from wheels.

Its packages have the names that the recipes ask for. Python, the compiler and chronyd refer to
those of this machine; packages written in Python come from wheels. So the recipes are solved, built
and tested as they are, and only the versions differ from conda-forge's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .machine import Interpreter, add_chrony, add_compiler, add_python, add_stable_abi, interpreter
from .packages import PLATFORM, Channel
from .wheels import add_wheel, download

__all__ = ["PLATFORM", "Channel", "interpreter", "make_channel"]


def make_channel(folder: Path, pythons: list[Interpreter], chronyd: Path) -> Channel:
    """Make the channel that both recipes can be built and tested from, the oldest Python first."""
    channel = Channel(folder)
    add_compiler(channel, "cc", sysroot="2.17")
    add_stable_abi(channel)
    add_chrony(channel, chronyd)
    for python in pythons:
        add_python(channel, python)
    with ThreadPoolExecutor() as pool:
        downloads = pool.map(lambda python: download(python, folder / python.series), pythons)
        for python, wheels in zip(pythons, downloads, strict=True):
            for wheel in wheels:
                add_wheel(channel, wheel, python)
    channel.index()
    return channel
