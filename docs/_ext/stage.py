"""Provides a small network in its own namespaces for the manual's examples and pictures.

The manual shows a machine with a chronyd, and a fleet of hosts with names. This file provides both,
as real chronyds that do not touch the clock. The machine's own chronyd has its socket in
/run/chrony and listens on port 323; its servers and the hosts of the fleet have addresses and names
reserved for documentation (RFC 5737, RFC 2606). The namespaces are isolated: they need no network,
and nothing of the real machine is seen or changed. Run as a program, this file is the process
inside them.
"""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

MACHINE = "127.0.0.1"
SERVERS = {
    "ntp1.example.net": "192.0.2.1",
    "ntp2.example.net": "192.0.2.2",
    "ntp3.example.net": "192.0.2.3",
}
FAST = "iburst minpoll -4 maxpoll -4"  # synchronised in a second
FLEET = {
    "web1.example.net": ("198.51.100.11", [f"server {SERVERS['ntp1.example.net']} {FAST}"]),
    "web2.example.net": ("198.51.100.12", [f"server {SERVERS['ntp2.example.net']} {FAST}"]),
    "db1.example.net": ("198.51.100.13", ["server 192.0.2.99 iburst"]),  # where nobody answers
    "db2.example.net": ("198.51.100.14", None),  # without a chronyd
}
LOCAL = [
    *(f"server {address} {FAST}" for address in SERVERS.values()),
    "combinelimit 1000000",  # so that it is certain which sources are combined
    "bindcmdaddress /run/chrony/chronyd.sock",
    "bindcmdaddress ::1",
    "smoothtime 400 0.01",
]


class Output(NamedTuple):
    """The output of a command, both streams together, and its exit code."""

    text: str
    code: int


class Stage:
    """Starts the network, and runs commands on its machine; a context manager."""

    def __enter__(self) -> Stage:
        self.folder = Path(tempfile.mkdtemp(prefix="pychrony-stage-"))
        user = ["--map-root-user"] if os.geteuid() else []
        command = ["unshare", *user, "--net", "--mount", sys.executable, __file__, str(self.folder)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment(),
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.__exit__(None, None, None)
            raise RuntimeError(
                "the network for the manual's examples did not start, see above; it takes root, or "
                "user namespaces (on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()  # the end of its input tells it to stop
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self,
        command: str,
        *,
        folder: Path | None = None,
        terminal: tuple[int, int] | None = None,
        stdin: str | None = None,
        timeout: float = 300,  # machines can be busy
    ) -> Output:
        """Run a shell command on the machine, on a terminal of this size if one is given."""
        place = folder or self.folder
        inside = self.inside(place, "sh", "-c", command)
        if terminal:
            return run_on_terminal(inside, place, self.environment(), *terminal, timeout)
        done = subprocess.run(
            inside,
            cwd=place,
            env=self.environment() | {"COLUMNS": "100"},
            input=stdin or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        return Output(done.stdout, done.returncode)

    def inside(self, folder: Path, *command: str) -> list[str]:
        """Return the command line that runs a command in a folder of the machine."""
        user = ["--user", "--preserve-credentials"] if os.geteuid() else []
        place = ["sh", "-c", 'cd "$0" && exec "$@"', str(folder)]
        return [
            "nsenter",
            f"--target={self._process.pid}",
            *user,
            "--net",
            "--mount",
            *place,
            *command,
        ]

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the machine, where the loader finds libchrony."""
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "HOME", "PYTHONPATH")}
        kept["PATH"] = f"{sysconfig.get_path('scripts')}:{kept['PATH']}"
        library = os.environ.get("PYCHRONY_LIBCHRONY")
        if library:
            kept["LD_LIBRARY_PATH"] = os.path.dirname(library)
        return kept | {"LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def run_on_terminal(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    columns: int,
    lines: int,
    timeout: float,
) -> Output:
    """Run a command on a terminal, and return its output with escape sequences."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, 0x5414, struct.pack("HHHH", lines, columns, 0, 0))  # TIOCSWINSZ
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment | {"TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        written = b""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not part:
                break
            written += part
        else:
            process.kill()
    os.close(ours)
    return Output(written.decode().replace("\r\n", "\n"), process.returncode)


# ---- Inside ----


def hold(folder: Path) -> None:
    """Set everything up, report that, and wait until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    addresses = [*SERVERS.values(), *(address for address, _ in FLEET.values())]
    for number, address in enumerate([MACHINE, *addresses]):
        add_address(f"lo:{number}" if number else "lo", address)
    write_hosts(folder)
    hosts = {address: [f"local stratum {n}"] for n, address in enumerate(SERVERS.values(), 1)}
    hosts |= {address: lines for address, lines in FLEET.values() if lines is not None}
    daemons = [start(folder, address, lines) for address, lines in hosts.items()]
    daemons.append(start(folder, MACHINE, LOCAL))
    try:
        wait_until_synchronized()
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()


def add_address(interface: str, address: str) -> None:
    """Give the loopback interface another address, and switch it on (netdevice(7))."""
    set_address, set_flags, is_up = 0x8916, 0x8914, 0x1  # SIOCSIFADDR, SIOCSIFFLAGS, IFF_UP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        name = interface.encode()
        place = struct.pack("16sH2x4s8x", name, socket.AF_INET, socket.inet_aton(address))
        fcntl.ioctl(control, set_address, place)
        fcntl.ioctl(control, set_flags, struct.pack("16sH14x", name, is_up))


def write_hosts(folder: Path) -> None:
    """Give the addresses their names, in this namespace's view of /etc/hosts."""
    places = SERVERS | {name: address for name, (address, _) in FLEET.items()}
    lines = [f"{address} {name}\n" for name, address in {"localhost": MACHINE, **places}.items()]
    hosts = folder / "hosts"
    hosts.write_text("".join(lines))
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)


def start(folder: Path, address: str, lines: list[str]) -> subprocess.Popen[bytes]:
    """Start a chronyd at its own address, with chrony's default ports."""
    place = folder / address
    place.mkdir(mode=0o700)
    Path("/run/chrony").mkdir(mode=0o700, exist_ok=True)
    configuration = [
        f"bindaddress {address}",
        f"bindacqaddress {address}",
        f"bindcmdaddress {address}",
        "cmdallow all",
        "allow all",
        f"pidfile {place}/chronyd.pid",
        *lines,
    ]
    if lines is not LOCAL:
        configuration.append(f"bindcmdaddress {place}/chronyd.sock")
    (place / "chrony.conf").write_text("\n".join([*configuration, ""]))
    four = [] if lines is LOCAL else ["-4"]  # else all would listen on ::1
    with (place / "log").open("wb") as log:
        return subprocess.Popen(
            ["chronyd", *four, "-x", "-d", "-u", "root", "-f", str(place / "chrony.conf")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_until_synchronized() -> None:
    """Wait until the machine and the good hosts of the fleet have some measurements."""
    import pychrony

    good = [address for address, lines in FLEET.values() if lines and FAST in lines[0]]
    deadline = time.monotonic() + 300
    for address in (None, *good):
        while True:
            try:
                enough = min(s.samples for s in pychrony.get_source_stats(address)) >= 8
            except pychrony.ChronyError:
                enough = False
            if enough and pychrony.get_tracking(address).is_synchronized():
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"the chronyd at {address or MACHINE} is not synchronised")
            time.sleep(0.05)


if __name__ == "__main__":
    hold(Path(sys.argv[1]))
