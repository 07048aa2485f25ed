"""Asks chronyd the same question repeatedly; `bench.py` compares several such clients.

    client.py NAME ADDRESS

reads lines "REPORT COUNT", and answers each with the wall time and the CPU time of one call, in
nanoseconds, or with an empty line if it has no such report. It runs in the environment of the
pychrony that it measures, and imports nothing else of this project.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

Calls = dict[str, Callable[[int], Any]]
"""For each report, a function that makes a number of calls."""

METHODS = {
    "tracking": "get_tracking",
    "sources": "get_sources",
    "sourcestats": "get_source_stats",
    "selectdata": "get_select_data",
    "activity": "get_activity",
    "authdata": "get_auth_data",
    "ntpdata": "get_ntp_data",
    "serverstats": "get_server_stats",
    "rtcdata": "get_rtc_data",
    "smoothing": "get_smoothing",
    "everything": "get_all",
}


def blocking(address: str, resources: ExitStack) -> Calls:
    """Return the calls of this environment's pychrony, on an open connection."""
    import pychrony

    waits = {"timeout": 60.0} if hasattr(pychrony, "get_all") else {}  # a busy machine's chronyd
    connection = resources.enter_context(pychrony.ChronyConnection(address, **waits))
    calls = {
        name: repeat(getattr(connection, method))
        for name, method in METHODS.items()
        if hasattr(connection, method)
    }
    if "everything" in calls:
        reports = [call for name, call in calls.items() if name != "everything"]
        calls["in-turn"] = repeat(lambda: [call(1) for call in reports])
        calls["undecoded"] = repeat(undecoded(connection))
    return calls


def undecoded(connection: Any) -> Callable[[], None]:
    """Return a call that reads the sources as `get_sources()` does, but does not decode them."""
    from pychrony._io.questions import Question

    class Undecoded(Question[None]):
        def answer(self, client: Any) -> None:
            assert not client.batch.asks[0].error

    question = Undecoded("sources")
    return lambda: connection._ask(question)


def awaited(address: str, resources: ExitStack) -> Calls:
    """Return the calls of `pychrony.aio`, on an open connection in one event loop."""
    import asyncio

    from pychrony import aio

    loop = asyncio.new_event_loop()
    resources.callback(loop.close)
    connection = aio.ChronyConnection(address, timeout=60.0)
    loop.run_until_complete(connection.__aenter__())
    resources.callback(lambda: loop.run_until_complete(connection.aclose()))

    def run(method: Callable[[], Awaitable[Any]]) -> Callable[[int], Any]:
        async def ask(times: int) -> None:
            for _ in range(times):
                await method()

        return lambda times: loop.run_until_complete(ask(times))

    return {name: run(getattr(connection, method)) for name, method in METHODS.items()}


def chronyc(address: str, _: ExitStack) -> Calls:
    """Return calls that run chronyc, without parsing its output."""
    command = ["chronyc", "-c", "-h", address]
    reports = [name for name in METHODS if name != "everything"]
    calls = {name: [*command, name] for name in reports}
    calls["everything"] = [*command, "-m", *reports]

    def run(arguments: list[str]) -> Callable[[int], Any]:
        return repeat(
            lambda: subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True)
        )

    return {name: run(arguments) for name, arguments in calls.items()}


def repeat(call: Callable[[], Any]) -> Callable[[int], Any]:
    """Return a function that makes a number of these calls, one after the other."""

    def run(times: int) -> None:
        for _ in range(times):
            call()

    return run


CLIENTS = {"pychrony": blocking, "aio": awaited, "chronyc": chronyc}


def cpu_time() -> int:
    """Return the CPU time of this process and of those that it ran, in nanoseconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + round((used.ru_utime + used.ru_stime) * 1e9)


def answer(calls: Calls) -> None:
    """Answer until there are no more questions."""
    for line in sys.stdin:
        report, count = line.rsplit(maxsplit=1)
        call, times = calls.get(report), int(count)
        if call is None:
            print(flush=True)
            continue
        measure(call, times)


def measure(call: Callable[[int], Any], times: int) -> None:
    """Make a number of calls, and print the time of one."""
    wall, cpu = time.perf_counter_ns(), cpu_time()
    call(times)
    cpu, wall = cpu_time() - cpu, time.perf_counter_ns() - wall
    print(wall / times, cpu / times, flush=True)


def main() -> None:
    """Answer for one of the clients."""
    name, address = sys.argv[1:]
    with ExitStack() as resources:
        answer(CLIENTS[name](address, resources))


if __name__ == "__main__":
    main()
