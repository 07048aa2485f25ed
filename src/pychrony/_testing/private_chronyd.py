"""Runs a real chronyd for tests and demonstrations: `pychrony.testing.PrivateChronyd`."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from ..connection import get_activity, get_tracking
from ..exceptions import ChronyConnectionError, ChronyTimeoutError

# A shell script that reads the process ID of each chronyd started. When the pipe closes, even
# because this process was killed, it ends the last chronyd and removes the folder.
_GUARD = 'while read -r line; do pid=$line; done; [ -z "$pid" ] || kill -KILL "$pid"; rm -rf "$1"'

_HOSTS = ("127.0.0.1", "::1")

# In seconds; each usually takes some hundredths, but machines can be busy.
_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0


class PrivateChronyd:
    """Runs a private chronyd, on free ports and in a temporary folder; a context manager.

    It is a real chronyd, but never touches the system clock, needs no privileges, and communicates
    with this machine only. `configuration` has lines for chrony.conf, besides those for ports and
    sockets; paths in them are relative to `folder`. Two of them make a server and its client:

        with PrivateChronyd("local stratum 5") as server, PrivateChronyd(server.as_source()) as own:
            own.wait_until_synchronized()
            print(pychrony.get_tracking(own.address))

    Entering it raises `ChronyConnectionError` if chronyd is not installed or does not start.
    """

    address: str
    """Path of chronyd's Unix socket."""
    command_address: str
    """Address of the command port, such as `127.0.0.1:41234`; the port is open on `::1`, too."""
    ntp_port: int
    """UDP port where chronyd serves NTP, on 127.0.0.1 and ::1."""
    folder: Path
    """Temporary working folder; it is removed at the end."""

    def __init__(self, *configuration: str) -> None:
        self._configuration = configuration
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivateChronyd:
        with ExitStack() as resources:
            self._enter(resources)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._resources.close()

    @property
    def pid(self) -> int:
        """Process ID, which changes with a restart."""
        return self._running().pid

    @property
    def log(self) -> str:
        """Everything that chronyd has logged since the first start."""
        return (self.folder / "log").read_text(errors="replace")

    def as_source(
        self, options: str = "iburst minpoll -4 maxpoll -4", *, host: str = "127.0.0.1"
    ) -> str:
        """Return the configuration line that makes this chronyd the source of another one.

        With the default options, the other chronyd is synchronised in less than a second.
        """
        return f"server {host} port {self.ntp_port} {options}"

    def start(self) -> None:
        """Start chronyd again after `stop()`, at the same addresses, and wait until it answers."""
        if self._process is not None:
            raise RuntimeError("this chronyd is running already")
        self._remove_remains()
        self._process = self._launch()
        self._tell_guard(str(self._process.pid))
        self._wait(self._answers, _START_TIMEOUT, "starting", "no answer")

    def stop(self, *, crash: bool = False) -> None:
        """Stop chronyd, even if it is paused; after a crash, its socket file remains."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGKILL if crash else signal.SIGTERM)
        process.send_signal(signal.SIGCONT)  # a paused process only reacts to SIGKILL
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None
        self._tell_guard("")

    def restart(self, *, crash: bool = False) -> None:
        """Stop chronyd and start it at the same addresses, without its measurements."""
        self.stop(crash=crash)
        self.start()

    def pause(self) -> None:
        """Let chronyd hang: it keeps its sockets open, but does not answer."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let chronyd continue after `pause()`."""
        self._running().send_signal(signal.SIGCONT)

    def wait_until_synchronized(self, timeout: float = 10.0) -> None:
        """Wait until the clock is synchronised to a source, or to chronyd itself (`local`).

        Raises `ChronyTimeoutError` after `timeout` seconds.
        """
        self._wait(self._is_synchronized, timeout, "synchronising", "not synchronised")

    def _enter(self, resources: ExitStack) -> None:
        program = _find_chronyd()
        self.folder = _make_folder()
        resources.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.address = f"{self.folder}/chronyd.sock"
        self.ntp_port, command_port = _reserve_port(resources), _reserve_port(resources)
        self.command_address = f"127.0.0.1:{command_port}"
        self._write_configuration(command_port)
        self._command = [self._unconfined(program), *self._options()]
        guard = ["/bin/sh", "-c", _GUARD, "sh", str(self.folder)]
        self._guard = resources.enter_context(
            subprocess.Popen(guard, bufsize=0, stdin=subprocess.PIPE, start_new_session=True)
        )
        resources.callback(self.stop)
        self.start()

    def _launch(self) -> subprocess.Popen[bytes]:
        try:
            with (self.folder / "log").open("ab") as log:
                return subprocess.Popen(
                    self._command,
                    cwd=self.folder,
                    start_new_session=True,  # Ctrl-C is not meant for it
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        except OSError as error:
            raise ChronyConnectionError(
                f"starting a private chronyd: {error}; if its folder allows no programs, "
                "set TMPDIR to another",
                errno=error.errno,
            ) from error

    def _write_configuration(self, command_port: int) -> None:
        lines = (
            *(f"bindaddress {host}" for host in _HOSTS),
            *(f"allow {host}" for host in _HOSTS),
            *(f"bindcmdaddress {host}" for host in (*_HOSTS, self.address)),
            f"port {self.ntp_port}",
            f"cmdport {command_port}",
            f"pidfile {self.folder}/chronyd.pid",
            *self._configuration,
        )
        (self.folder / "chrony.conf").write_text("\n".join(lines) + "\n")

    def _options(self) -> list[str]:
        """Return options: -x leaves the clock alone, -d stays in front, -U allows any user."""
        try:
            user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            raise ChronyConnectionError(
                f"starting a private chronyd: user {os.geteuid()} has no name, which chronyd needs"
            ) from None
        unprivileged = ["-U"] if os.geteuid() else []
        return ["-x", "-d", *unprivileged, "-u", user, "-f", f"{self.folder}/chrony.conf"]

    def _unconfined(self, program: str) -> str:
        """Return a program that AppArmor does not confine: a copy of the system's chronyd.

        AppArmor confines the system's chronyd, by its path, to the system's files. A chronyd from
        elsewhere is not copied: it may be a script that needs the files beside it.
        """
        if os.path.dirname(program) not in _SYSTEM_FOLDERS:
            return program
        return shutil.copy(program, f"{self.folder}/chronyd")

    def _remove_remains(self) -> None:
        """Remove files that survived a crash: the pidfile may name another process by now."""
        for name in ("chronyd.pid", "chronyd.sock"):
            (self.folder / name).unlink(missing_ok=True)

    def _tell_guard(self, pid: str) -> None:
        assert self._guard.stdin is not None
        with suppress(BrokenPipeError):  # the guard has ended
            self._guard.stdin.write(f"{pid}\n".encode())

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this chronyd is not running")
        return self._process

    def _answers(self) -> bool:
        try:
            get_activity(self.address, timeout=0.2)
        except ChronyConnectionError:
            return False
        return True

    def _is_synchronized(self) -> bool:
        return get_tracking(self.address).is_synchronized()

    def _wait(self, is_done: Callable[[], bool], timeout: float, action: str, failure: str) -> None:
        deadline = time.monotonic() + timeout
        while (status := self._running().poll()) is None and not is_done():
            if time.monotonic() > deadline:
                words = self._explain(action, f"{failure} within {timeout:g} s")
                raise ChronyTimeoutError(words)
            time.sleep(0.01)
        if status is not None:
            raise ChronyConnectionError(self._explain(action, f"it ended with status {status}"))

    def _explain(self, action: str, what: str) -> str:
        return f"{action} a private chronyd: {what}; its log:\n{self.log.rstrip()}"


_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin")


def _find_chronyd() -> str:
    """Return the path of chronyd; daemons are not always on an ordinary user's PATH."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS))
    program = shutil.which("chronyd", path=path)
    if program is None:
        raise ChronyConnectionError(
            f"looking for chronyd: it is not on PATH, nor in {', '.join(_SYSTEM_FOLDERS)}; install "
            "it with 'apt install chrony' (Debian, Ubuntu) or 'dnf install chrony' (Fedora, RHEL)"
        )
    return os.path.abspath(program)


def _make_folder() -> Path:
    """Create a folder with a short path, of which libchrony allows at most 62 bytes."""
    roomy = len(os.fsencode(tempfile.gettempdir())) < 40
    return Path(tempfile.mkdtemp(prefix="chronyd.", dir=None if roomy else "/tmp"))


def _reserve_port(resources: ExitStack) -> int:
    """Return a free UDP port of the loopback addresses, and reserve it until the end.

    The sockets that hold the port set SO_REUSEADDR after they are bound, so that chronyd, which
    sets it too, can bind to the same port. They receive nothing, since they are connected to
    themselves.
    """
    while True:
        with ExitStack() as sockets:
            port = _hold(sockets, socket.AF_INET, "127.0.0.1", 0)
            try:
                _hold(sockets, socket.AF_INET6, "::1", port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                # else this machine has no IPv6
            resources.enter_context(sockets.pop_all())
            return port


def _hold(sockets: ExitStack, family: socket.AddressFamily, host: str, port: int) -> int:
    holder = sockets.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    holder.bind((host, port))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound = holder.getsockname()
    holder.connect(bound)
    return int(bound[1])
