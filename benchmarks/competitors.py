"""Prepares, starts and asks each of the clients that are compared."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import venv
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pychrony

HERE = Path(__file__).parent
OURS, AIO, RELEASED = "pychrony", "pychrony.aio", "pychrony 2.0.3"
C, CHRONYC = "C loop", "chronyc -c"

Commands = dict[str, Callable[[str], list[str]]]
"""For each competitor, the command line that asks a chronyd at an address."""


class Cost(NamedTuple):
    """The time of one call, in seconds."""

    wall: float
    cpu: float


def prepare(scratch: Path) -> Commands:
    """Compile the C loop into a folder, and find or make the environment of pychrony 2.0.3."""
    c_loop, released = compile_c(scratch, "c_loop"), released_python()
    library, client = pychrony.library_path(), str(HERE / "client.py")
    return {
        OURS: lambda address: [sys.executable, client, "pychrony", address],
        AIO: lambda address: [sys.executable, client, "aio", address],
        RELEASED: lambda address: [released, client, "pychrony", address],
        C: lambda address: [c_loop, library, address],
        CHRONYC: lambda address: [sys.executable, client, "chronyc", address],
    }


def compile_c(folder: Path, name: str) -> str:
    """Compile one of the C programs; return its path."""
    compiler, target = shlex.split(os.environ.get("CC", "cc")), str(folder / name)
    subprocess.run([*compiler, "-O2", str(HERE / f"{name}.c"), "-o", target, "-ldl"], check=True)
    return target


def released_python() -> str:
    """Return the Python of an environment with the published pychrony 2.0.3; make it once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = ".".join(map(str, sys.version_info[:3]))
    folder = cache / "pychrony" / f"pychrony-2.0.3-on-{version}"
    python, done = str(folder / "bin" / "python"), folder / "done"
    if not done.exists():
        print(f"bench: installing pychrony 2.0.3 into {folder}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        subprocess.run([*install, "pychrony==2.0.3"], check=True)
        done.touch()
    return python


class Competitor:
    """A competitor in its own process, with a connection to one chronyd."""

    def __init__(self, command: list[str], cpus: set[int], resources: ExitStack) -> None:
        self._command = command
        self._process = resources.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        os.sched_setaffinity(self._process.pid, cpus)

    def ask(self, report: str, calls: int) -> Cost | None:
        """Return the time of one of `count` calls; `None` if it has no such report."""
        assert self._process.stdin
        assert self._process.stdout
        print(report, calls, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{shlex.join(self._command)} ended")
        return Cost(*(float(part) / 1e9 for part in answer.split())) if answer.strip() else None

    def calls_in(self, report: str, seconds: float) -> int:
        """Return a number of calls that takes at least this long; 0 if it has no such report.

        Each number is tried twice: the first call opens sockets, and any may be interrupted.
        """
        calls = 1
        while True:
            costs = [self.ask(report, calls) for _ in range(2)]
            if None in costs:
                return 0
            if min(cost.wall for cost in costs if cost) * calls >= seconds:
                return calls
            calls *= 2

    def peak_memory(self) -> int:
        """Return the peak memory of the process, in bytes."""
        return peak_memory(self._process.pid)


def peak_memory(pid: int) -> int:
    """Return the peak memory of a process, in bytes; its rusage would include its parent's."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no peak memory of process {pid}")
