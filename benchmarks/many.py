"""Asks very many daemons at once; `bench.py` compares it with `c_many.c`.

    many.py PORT SILENT_PORT

reads lines "SCENARIO COUNT", and answers each with the wall time and the CPU time of one address,
in nanoseconds. The addresses are in 127.0.0.0/8; nobody answers at the second port. "tracking" asks
all of them with `get_many()`; in "silent", every twentieth is at the second port. "cancel" starts
that many tasks, all at the silent port, and measures how long they take to end once cancelled.
"import" asks nothing: it is for the memory in use before.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator

import client

from pychrony import aio, get_many

SILENT_SHARE = 20
"""One in this many addresses does not answer."""


def addresses(count: int, port: str, silent: str) -> Iterator[str]:
    """Return that many addresses; none of them is the first or last of a network."""
    for number in range(256, count + 256):
        last = silent if number % SILENT_SHARE == 0 else port
        yield f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}:{last}"


def ask(count: int, port: str, silent: str) -> None:
    """Ask all of them, and check that those that should answer did."""
    answered = sum(
        answer.reports is not None
        for answer in get_many(addresses(count, port, silent), "tracking", timeout=1.0)
    )
    expected = count if port == silent else count - len(range(0, count, SILENT_SHARE))
    if abs(answered - expected) > 1:
        raise RuntimeError(f"{answered} of {expected} daemons answered")


async def cancel(count: int, silent: str) -> None:
    """Cancel tasks that wait for an answer; print how long they take to end, per task."""
    descriptors = len(os.listdir("/proc/self/fd"))
    tasks = [
        asyncio.create_task(aio.get_tracking(address, timeout=60.0))
        for address in addresses(count, silent, silent)
    ]
    await asyncio.sleep(0.5)
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    if not all(task.cancelled() for task in tasks):
        raise RuntimeError("a task ended before it was cancelled")
    await asyncio.sleep(0)
    if len(os.listdir("/proc/self/fd")) > descriptors:
        raise RuntimeError("descriptors are left behind")
    print(wall / count, cpu / count, flush=True)


def main() -> None:
    """Answer until there are no more questions."""
    port, silent = sys.argv[1:]
    calls: client.Calls = {
        "tracking": lambda count: ask(count, port, port),
        "silent": lambda count: ask(count, port, silent),
        "import": lambda count: None,
    }
    for line in sys.stdin:
        scenario, count = line.split()
        if scenario == "cancel":
            asyncio.run(cancel(int(count), silent))
        else:
            client.measure(calls[scenario], int(count))


if __name__ == "__main__":
    main()
