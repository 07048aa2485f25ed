"""Asks chronyd the same question over and over: one of those that `bench.py` compares.

    client.py NAME ADDRESS

reads lines "REPORT COUNT", and answers each with the wall time and the CPU time of one call, in
nanoseconds, or with nothing if it has no such report. It runs in the environment of what it
measures, and imports nothing else of ours.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

Calls = dict[str, Callable[[], Any]]

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


def python_library(address: str, resources: ExitStack) -> Calls:
    """Return the calls of the pychrony of this environment, on an open connection."""
    import pychrony

    waits = {"timeout": 60.0} if hasattr(pychrony, "get_all") else {}  # a busy machine's chronyd
    connection = resources.enter_context(pychrony.ChronyConnection(address, **waits))
    calls = {
        name: getattr(connection, method)
        for name, method in METHODS.items()
        if hasattr(connection, method)
    }
    if "everything" in calls:
        reports = [call for name, call in calls.items() if name != "everything"]
        calls["in-turn"] = lambda: [call() for call in reports]
    return calls


def chronyc(address: str, _: ExitStack) -> Calls:
    """Return calls that run chronyc; making something of its output is left to the caller."""
    command = ["chronyc", "-c", "-h", address]
    reports = [name for name in METHODS if name != "everything"]
    calls = {name: [*command, name] for name in reports}
    calls["everything"] = [*command, "-m", *reports]

    def run(arguments: list[str]) -> Callable[[], Any]:
        return lambda: subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True)

    return {name: run(arguments) for name, arguments in calls.items()}


def cpu_time() -> int:
    """Return the CPU time of this process and of those that it ran, in nanoseconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + round((used.ru_utime + used.ru_stime) * 1e9)


def main() -> None:
    """Answer until there are no more questions."""
    name, address = sys.argv[1:]
    with ExitStack() as resources:
        calls = (chronyc if name == "chronyc" else python_library)(address, resources)
        for line in sys.stdin:
            report, count = line.rsplit(maxsplit=1)
            call, times = calls.get(report), range(int(count))
            if call is None:
                print(flush=True)
                continue
            wall, cpu = time.perf_counter_ns(), cpu_time()
            for _ in times:
                call()
            cpu, wall = cpu_time() - cpu, time.perf_counter_ns() - wall
            print(wall / len(times), cpu / len(times), flush=True)


if __name__ == "__main__":
    main()
