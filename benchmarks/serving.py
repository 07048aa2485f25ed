"""Measures the CPU time of chronyd itself while a client asks it for a list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from competitors import Competitor
from results import Label

CHRONYD = "chronyd"
CALLS = 3


def measure(
    pid: int, competitor: Competitor, asked: Label, rounds: int
) -> Iterator[tuple[Label, list[float]]]:
    """Ask as the label says; yield chronyd's time for one call under the label with its name."""
    competitor.ask(asked.what, 1)  # to open the sockets
    times = []
    for _ in range(rounds):
        before = cpu_time(pid)
        competitor.ask(asked.what, CALLS)
        times.append((cpu_time(pid) - before) / CALLS)
    yield asked._replace(client=CHRONYD, kind="cpu"), times


def cpu_time(pid: int) -> float:
    """Return the CPU time of a process, in seconds, to the nanosecond (proc(5))."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
