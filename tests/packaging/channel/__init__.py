"""Makes a conda channel in a folder from parts of this machine and from wheels.

Its packages have the names that the recipes ask for. Python, the compiler and chronyd refer to
those of this machine; packages written in Python come from wheels. So the recipes are solved, built
and tested as they are, and only the versions differ from conda-forge's.
"""

from __future__ import annotations

from pathlib import Path

from .machine import Interpreter, add_chrony, add_compiler, add_python, add_stable_abi, interpreter
from .packages import PLATFORM, Channel
from .wheels import add_wheels

__all__ = ["PLATFORM", "Channel", "interpreter", "make_channel"]


def make_channel(folder: Path, pythons: list[Interpreter], chronyd: Path) -> Channel:
    """Make the channel that both recipes can be built and tested from."""
    channel = Channel(folder)
    add_compiler(channel)
    add_stable_abi(channel)
    add_chrony(channel, chronyd)
    for python in pythons:
        add_python(channel, python)
        add_wheels(channel, python, folder / python.series)
    channel.index()
    return channel
