"""Measures the start of a program: import time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from competitors import CHRONYC, OURS, RELEASED, Commands, Competitor, peak_memory, released_python
from results import Label

BASE, ALL_NAMES = "cffi, dataclasses, enum", "pychrony, all names"
IMPORTS = {
    BASE: "import _cffi_backend, dataclasses, enum",
    OURS: "import pychrony",
    ALL_NAMES: "from pychrony import *",
    RELEASED: "import pychrony",
}

CHECK, CHECK_BASE = "pychrony check", "argparse, dataclasses, cffi"

# Without bytecode, Python would compile the sources of an editable package at each start.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}

# The interpreter is running and the bytecode exists: this measures the import alone.
_TIMED = """
import time
wall, cpu = time.perf_counter_ns(), time.process_time_ns()
{statement}
print(time.perf_counter_ns() - wall, time.process_time_ns() - cpu)
"""


def imports(starts: int) -> Iterator[tuple[Label, list[float]]]:
    """Import in new processes, in turn; the first times write bytecode, and are left out."""
    times: dict[str, list[list[float]]] = {name: [] for name in IMPORTS}
    for _ in range(starts):
        for name, statement in IMPORTS.items():
            python = released_python() if name == RELEASED else sys.executable
            command = [python, "-c", _TIMED.format(statement=statement)]
            output = subprocess.run(
                command, env=ENVIRONMENT, capture_output=True, check=True
            ).stdout
            times[name].append([int(part) / 1e9 for part in output.split()])
    for name, measured in times.items():
        for kind, values in zip(("wall", "cpu"), zip(*measured[1:], strict=True), strict=True):
            yield Label(name, "import", kind), list(values)


def checks(address: str, starts: int) -> Iterator[tuple[Label, list[float]]]:
    """Run the monitoring plug-in from start to end, in turn with the imports it is compared to."""
    commands = {
        CHECK_BASE: [sys.executable, "-c", f"import {CHECK_BASE}"],
        CHECK: [sys.executable, "-m", *CHECK.split(), "--local-ok", "--address", address],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(starts):
        for name, command in commands.items():
            times[name].append(_run(command))
    for name, measured in times.items():
        for kind, values in zip(("wall", "cpu"), zip(*measured[1:], strict=True), strict=True):
            yield Label(name, "start", kind), list(values)


def _run(command: list[str]) -> tuple[float, float]:
    """Run a command that succeeds; return its wall and CPU time in seconds."""
    begun = time.perf_counter()
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    process = os.posix_spawn(command[0], command, ENVIRONMENT, file_actions=silent)
    _, status, usage = os.wait4(process, 0)
    passed = time.perf_counter() - begun
    if status:
        raise RuntimeError(f"{command} ended with status {os.waitstatus_to_exitcode(status)}")
    return passed, usage.ru_utime + usage.ru_stime


def memory(address: str, commands: Commands) -> Iterator[tuple[Label, list[float]]]:
    """Ask for `tracking` and `sources` once."""
    for name, command in commands.items():
        with ExitStack() as resources:
            if name == CHRONYC:
                peak = memory_of_chronyc(address)
            else:
                competitor = Competitor(command(address), os.sched_getaffinity(0), resources)
                competitor.ask("tracking", 1)
                competitor.ask("sources", 1)
                peak = competitor.peak_memory()
        yield Label(name, "sources", "memory"), [peak]


def memory_of_chronyc(address: str) -> int:
    """Keep chronyc running until its memory has been measured."""
    command = ["chronyc", "-c", "-h", address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as chronyc:
        assert chronyc.stdin
        assert chronyc.stdout
        chronyc.stdin.write(b"sources\ntracking\n")
        chronyc.stdin.flush()
        for line in chronyc.stdout:
            if line.count(b",") > 10:  # tracking's
                break
        return peak_memory(chronyc.pid)
