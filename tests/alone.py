"""Runs programs in namespaces of their own, where chronyd's port, path and host names are free."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from textwrap import dedent

import pytest

Alone = Callable[[str], list[str]]

NAMESPACES = ["unshare", "--net", "--mount", *(["--map-root-user"] if os.geteuid() else [])]

PRELUDE = """
    import asyncio, errno, fcntl, os, socket, struct, subprocess, threading, time
    from contextlib import ExitStack
    from pathlib import Path
    import pychrony
    from pychrony import aio
    from scripted import OPEN_COMMANDS, ScriptedChronyd, script
    from scripted.faults import delay, drop, honest
    from scripted.wire import ntp_source, tracking
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        set_flags, up, running = 0x8914, 1, 0x40  # SIOCSIFFLAGS, IFF_UP, IFF_RUNNING
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", up | running))
    Path("/run/chrony").mkdir()

    class AtHome(ScriptedChronyd):
        host = "127.0.0.1"
        def _reserve_path(self, resources):
            self.address = "/run/chrony/chronyd.sock"
            return self.address
        def _reserve_port(self, resources):
            host = "::1" if self.transport == "udp6" else self.host
            self.address = "[::1]:323" if self.transport == "udp6" else f"{host}:323"
            return host, 323

    def at(host, stratum, **options):
        "A chronyd of that stratum at an address of this machine, or at its Unix socket."
        where = type("At", (AtHome,), {"host": host})
        transport = "unix" if host.startswith("/") else "udp6" if ":" in host else "udp"
        sources = [ntp_source(f"192.0.2.{number}") for number in range(1, stratum + 1)]
        return where(script(sources, tracking(stratum=stratum)), transport, **options)

    def name(**addresses):
        "Give names to addresses; look no name up elsewhere."
        lines = [f"{host} {name}" for name, found in addresses.items() for host in found.split()]
        for file, text in {"hosts": lines, "nsswitch.conf": ["hosts: files"]}.items():
            replace(file, text)

    def replace(file, lines):
        Path(f"/run/{file}").write_text("".join(f"{line}\\n" for line in lines))
        subprocess.run(["mount", "--bind", f"/run/{file}", f"/etc/{file}"], check=True)

    def ask(connection):
        print(connection.address, connection.transport.value, connection.get_tracking().stratum,
              connection.address)

    def asked(chronyd):
        "How many requests a chronyd has received since the last time."
        count = len(chronyd.requests)
        chronyd.requests.clear()
        return count
    """


@pytest.fixture
def alone() -> Alone:
    """Run a program in empty namespaces; return the lines that it prints."""
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACES, "true"]).returncode:
        pytest.skip("this system allows no namespaces, and its own chronyd is not to be touched")

    def run(code: str) -> list[str]:
        line = [*NAMESPACES, sys.executable, "-W", "error", "-c", dedent(PRELUDE) + dedent(code)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        return done.stdout.splitlines()

    return run
