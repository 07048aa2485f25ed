"""Measures asking ten thousand daemons at once: one chronyd that has all their addresses."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from competitors import AIO, HERE, OURS, C, Competitor, compile_c
from results import Label

import pychrony
from pychrony.testing import PrivateChronyd

TRACKING, SILENT, CANCEL, IMPORT = "tracking", "silent", "cancel", "import"
DAEMONS, TASKS = 10_000, 1_000


def label(client: str, scenario: str, kind: str) -> Label:
    """Return the label of a scenario's time, for all of its daemons or tasks together."""
    return Label(client, f"many, {scenario}", kind)


def measure(scratch: Path, rounds: int, daemons: int) -> Iterator[tuple[Label, list[float]]]:
    """Ask a number of daemons, round by round; times are of one round, for all of them."""
    print("bench: many daemons", file=sys.stderr)
    with (
        ExitStack() as resources,
        PrivateChronyd("local stratum 5", "bindcmdaddress 0.0.0.0") as chronyd,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
    ):
        silent.bind(("0.0.0.0", 0))  # never read, so that requests get no answer
        ports = chronyd.command_address.rpartition(":")[2], str(silent.getsockname()[1])
        every = os.sched_getaffinity(0)
        c_many = [compile_c(scratch, "c_many"), pychrony.library_path(), ports[0]]
        many = [sys.executable, str(HERE / "many.py"), *ports]
        competitors = {
            C: Competitor(c_many, every, resources),
            OURS: Competitor(many, every, resources),
            AIO: Competitor(many, every, resources),
        }
        yield from race(competitors, rounds, daemons)
        yield from memory(Competitor(many, every, resources), daemons)


def race(
    competitors: dict[str, Competitor], rounds: int, daemons: int
) -> Iterator[tuple[Label, list[float]]]:
    """Ask in each way in turn, in a different order each time; the first round is a warm-up."""
    ways = [(C, TRACKING, daemons), (OURS, TRACKING, daemons), (OURS, SILENT, daemons)]
    ways.append((AIO, CANCEL, TASKS))
    walls: dict[Label, list[float]] = {}
    for turn in range(rounds + 1):
        for name, scenario, count in random.sample(ways, len(ways)):
            cost = competitors[name].ask(scenario, count)
            assert cost
            for kind in ("wall", "cpu") if turn else ():
                values = walls.setdefault(label(name, scenario, kind), [])
                values.append(getattr(cost, kind) * count)
    yield from walls.items()


def memory(fresh: Competitor, daemons: int) -> Iterator[tuple[Label, list[float]]]:
    """Ask once in a new process, and return by how much that raises its peak memory."""
    fresh.ask(IMPORT, 1)
    yield label(OURS, IMPORT, "memory"), [fresh.peak_memory()]
    fresh.ask(TRACKING, daemons)
    yield label(OURS, TRACKING, "memory"), [fresh.peak_memory()]
