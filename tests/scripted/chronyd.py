"""Runs a chronyd that follows a script: a thread, a socket, and a dict from request to answer."""

from __future__ import annotations

import heapq
import itertools
import math
import os
import select
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from .faults import honest
from .requests import Answer, Entry, Fault, Request, Script
from .scripts import script
from .wire import VERSION, Command, Record, Status, n_sources, response

Transport = Literal["udp", "udp6", "unix"]


class ScriptedChronyd:
    """A chronyd that answers from a script, on a free loopback port or a Unix socket.

    `script`, `fault` and `opencommands` may be replaced at any time. What goes wrong in a script
    or a fault is raised by `close()`.
    """

    address: str  # as libchrony takes it
    requests: list[Request]  # the last ten thousand at least, also those that got no answer

    def __init__(
        self,
        answers: Script | None = None,
        transport: Transport = "udp",
        *,
        fault: Fault = honest,
        opencommands: Collection[Command] = tuple(Command),
    ) -> None:
        self.script = script() if answers is None else answers
        self.transport = transport
        self.opencommands = opencommands
        self.requests = []  # threads may iterate over a list while others append to it
        self._fault = fault
        self._number = 0
        self._lock = threading.RLock()  # a fault may restart the server from its own thread
        self._polling = threading.Lock()  # a poll() in progress keeps a closed socket alive
        self._socket: socket.socket | None = None
        self._due: list[_Due] = []
        self._order = itertools.count()
        self._thread = threading.Thread(target=self._run, name="scripted chronyd", daemon=True)
        self._ending = False
        self._failure: BaseException | None = None

    def __enter__(self) -> ScriptedChronyd:
        with ExitStack() as resources:
            self._waker, self._wakened = (
                resources.enter_context(end) for end in socket.socketpair()
            )
            self._waker.setblocking(False)
            reserve = self._reserve_path if self.transport == "unix" else self._reserve_port
            self._place = reserve(resources)
            self.start()
            self._resources = resources.pop_all()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End for good; raise the error of a script or fault, if there was one."""
        self.stop()
        self._ending = True
        self._wake()
        self._thread.join()
        self._resources.close()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    @property
    def listening(self) -> bool:
        """Whether it is running: started, and not stopped by a test or a fault."""
        with self._lock:
            return self._socket is not None

    @property
    def fault(self) -> Fault:
        """What happens to the answers; a new fault counts them from 0."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        with self._lock:
            self._fault, self._number = fault, 0

    def start(self) -> None:
        """Listen, after `stop()` at the same address."""
        with self._lock:
            self._socket = self._bind()
            self._wake()

    def stop(self, *, crash: bool = False) -> None:
        """Close the port, and discard answers that were to be sent.

        The file of a Unix socket is removed, unless `crash` is set.
        """
        with self._lock:
            self._due.clear()
            self._wake()
            if self._socket is not None:
                with self._polling:
                    self._socket.close()
                self._socket = None
                if self.transport == "unix" and not crash:
                    Path(self.address).unlink(missing_ok=True)

    def restart(self, answers: Script | None = None, *, crash: bool = False) -> None:
        """Stop and start at the same address, optionally with another script."""
        with self._lock:
            self.stop(crash=crash)
            if answers is not None:
                self.script = answers
            self.start()

    def replace(self, answers: Script | None = None) -> None:
        """Restart without a moment in which nobody listens.

        A request in such a moment is refused, so that the result of a call would depend on its
        timing. Tests about that stop chronyd, and start it later.
        """
        with self._lock:
            old = self._socket
            self._due.clear()
            if answers is not None:
                self.script = answers
            self._socket = self._bind(over=True)
            self._wake()
            if old is not None:
                with self._polling:
                    old.close()

    def _reserve_path(self, resources: ExitStack) -> str:
        # libchrony allows the folder 62 bytes. In memory, sockets and folders come and go at a
        # fraction of the cost.
        memory = os.access("/dev/shm", os.W_OK | os.X_OK)
        folder = tempfile.mkdtemp(prefix="chronyd.", dir="/dev/shm" if memory else "/tmp")
        resources.callback(shutil.rmtree, folder, ignore_errors=True)
        self.address = f"{folder}/chronyd.sock"
        return self.address

    def _reserve_port(self, resources: ExitStack) -> Any:
        # This socket, which is connected to itself and receives nothing, reserves the port
        # while chronyd is stopped. Bound with SO_REUSEPORT, it could get a port in such use.
        holder = resources.enter_context(socket.socket(self._family(), socket.SOCK_DGRAM))
        holder.bind(("::1" if self.transport == "udp6" else "127.0.0.1", 0))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        place = holder.getsockname()
        holder.connect(place)
        self.address = f"[::1]:{place[1]}" if self.transport == "udp6" else f"127.0.0.1:{place[1]}"
        return place

    def _family(self) -> socket.AddressFamily:
        families = {"udp": socket.AF_INET, "udp6": socket.AF_INET6, "unix": socket.AF_UNIX}
        return families[self.transport]

    def _bind(self, *, over: bool = False) -> socket.socket:
        listener = socket.socket(self._family(), socket.SOCK_DGRAM)
        listener.setblocking(False)
        if self.transport != "unix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(self._place)
        elif over:
            listener.bind(f"{self._place}.new")
            Path(f"{self._place}.new").replace(self._place)
        else:
            Path(self._place).unlink(missing_ok=True)
            listener.bind(self._place)
        return listener

    def _wake(self) -> None:
        with suppress(OSError):  # it will wake up anyway, or has ended
            self._waker.send(b"!")

    def _run(self) -> None:
        try:
            while not self._ending:
                self._wait()
                with self._lock:
                    self._receive()
                    self._send_due()
        except BaseException as failure:
            self._failure = failure
            self.stop()

    def _wait(self) -> None:
        with self._lock:
            poll = select.poll()
            poll.register(self._wakened, select.POLLIN)
            if self._socket is not None:
                poll.register(self._socket, select.POLLIN)
            pause = max(0.0, self._due[0].time - time.monotonic()) if self._due else None
            self._polling.acquire()
        try:
            ready = poll.poll(None if pause is None else math.ceil(pause * 1000))
        finally:
            self._polling.release()
        if (self._wakened.fileno(), select.POLLIN) in ready:
            self._wakened.recv(4096)

    def _receive(self) -> None:
        for _ in range(64):  # then send the answers
            if self._socket is None:
                return
            try:
                raw, client = self._socket.recvfrom(4096)
            except BlockingIOError:
                return
            self._handle(Request(raw, client))
            self._send_due()  # chronyd answers a request before it reads the next one

    def _handle(self, request: Request) -> None:
        self.requests.append(request)
        if len(self.requests) > 20_000:
            del self.requests[:10_000]
        reply = self._reply(request)
        if reply is not None:
            number, self._number = self._number, self._number + 1
            self._schedule(request.client, iter(self._fault(request, reply, number)))

    def _reply(self, request: Request) -> bytes | None:
        entry = None if request.is_dropped() else self._judge(request)
        if entry is None:
            return None
        command = int.from_bytes(request.raw[4:6], "big")
        if isinstance(entry, Status):
            return response(command, request.sequence, status=entry)
        return response(command, request.sequence, reply=entry.layout.reply, body=entry.body)

    def _judge(self, request: Request) -> Entry:
        """Check a request as chronyd does, in the same order."""
        if request.raw[0] != VERSION:
            return Status.BADPKTVERSION
        command = request.command
        if command is None:
            return Status.INVALID
        default = self._count() if command is Command.N_SOURCES else Status.INVALID
        entry = self._resolve(self.script.get(command, default), request)
        if isinstance(entry, Record) and len(request.raw) < entry.layout.length:
            return Status.BADPKTLENGTH
        if self.transport != "unix" and command not in self.opencommands:
            return Status.UNAUTH
        return entry

    def _count(self) -> int:
        """Return the number of sources, for a script that does not give it."""
        return max((len(a) for a in self.script.values() if isinstance(a, Sequence)), default=0)

    def _resolve(self, answer: Answer, request: Request) -> Entry:
        if answer is None or isinstance(answer, Record | Status):
            return answer
        if isinstance(answer, int):
            return n_sources(sources=answer)
        if isinstance(answer, Mapping):
            return answer.get(request.address or b"", Status.NOSUCHSOURCE)
        if isinstance(answer, Sequence):
            index = request.index or 0
            return answer[index] if index < len(answer) else Status.NOSUCHSOURCE
        return self._resolve(answer(request), request)

    def _schedule(self, client: Any, plan: Iterator[tuple[float, bytes]]) -> None:
        """Queue the plan's next datagram."""
        for pause, datagram in plan:
            due = time.monotonic() + pause
            heapq.heappush(self._due, _Due(due, next(self._order), datagram, client, plan))
            return

    def _send_due(self) -> None:
        now = time.monotonic()
        ready = []
        while self._due and self._due[0].time <= now:
            ready.append(heapq.heappop(self._due))
        for due in ready:
            if self._send(due.datagram, due.client):
                self._schedule(due.client, due.plan)

    def _send(self, datagram: bytes, client: Any) -> bool:
        """Send; return whether the client exists. A full queue loses datagrams, as in chronyd."""
        if self._socket is None or not client:
            return False
        try:
            self._socket.sendto(datagram, client)
        except BlockingIOError:
            return True
        except (ConnectionError, FileNotFoundError, PermissionError):
            return False
        return True


class _Due(NamedTuple):
    """A datagram to send at a certain time, and what follows it; ordered by time, then number."""

    time: float
    order: int
    datagram: bytes
    client: Any
    plan: Iterator[tuple[float, bytes]]
