"""Runs a chronyd that follows a script: a socket in an event loop with its own thread."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from .faults import honest
from .scripts import Answer, Entry, Fault, Request, Script, script
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
        self.fault = fault
        self._socket: socket.socket | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> ScriptedChronyd:
        with ExitStack() as resources:
            self._loop = asyncio.new_event_loop()
            resources.callback(self._loop.close)
            self._loop.set_exception_handler(self._fail)
            reserve = self._reserve_path if self.transport == "unix" else self._reserve_port
            self._place = reserve(resources)
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
            self._thread.start()
            resources.callback(self._thread.join)
            resources.callback(self._loop.call_soon_threadsafe, self._loop.stop)
            self.start()
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End for good; raise the error of a script or fault, if there was one."""
        self.stop()
        self._resources.close()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    @property
    def listening(self) -> bool:
        """Whether it is running: started, and not stopped by a test or a fault."""
        return self._socket is not None

    @property
    def fault(self) -> Fault:
        """What happens to the answers; a new fault counts them from 0."""
        return self._fault[0]

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault, itertools.count()

    def start(self) -> None:
        """Listen, after `stop()` at the same address."""
        self._call(self._listen)

    def stop(self, *, crash: bool = False) -> None:
        """Close the port, and discard answers that were to be sent.

        The file of a Unix socket is removed, unless `crash` is set.
        """
        self._call(self._leave, crash)

    def restart(self, answers: Script | None = None, *, crash: bool = False) -> None:
        """Stop and start at the same address, optionally with another script."""
        self.stop(crash=crash)
        self.script = self.script if answers is None else answers
        self.start()

    def replace(self, answers: Script | None = None) -> None:
        """Restart without a moment in which nobody listens.

        A request in such a moment is refused, so that the result of a call would depend on its
        timing. Tests about that stop chronyd, and start it later.
        """
        self._call(self._succeed, answers)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the thread that serves; faults are there already."""

        async def call() -> None:
            function(*arguments)

        if threading.current_thread() is self._thread:
            function(*arguments)
        else:
            asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _fail(self, _: object, context: dict[str, Any]) -> None:
        self._failure = context.get("exception")
        self._leave()

    def _listen(self, *, over: bool = False) -> None:
        self._socket = self._bind(over=over)
        self._loop.add_reader(self._socket, self._receive, self._socket)

    def _leave(self, crash: bool = False) -> None:
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        if self.transport == "unix" and not crash:
            Path(self.address).unlink(missing_ok=True)

    def _succeed(self, answers: Script | None) -> None:
        old = self._socket
        self.script = self.script if answers is None else answers
        self._listen(over=True)
        if old is not None:
            self._loop.remove_reader(old)
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

    def _receive(self, listener: socket.socket) -> None:
        try:
            request = Request(*listener.recvfrom(4096))
        except BlockingIOError:
            return
        self.requests.append(request)
        if len(self.requests) > 20_000:
            del self.requests[:10_000]
        reply = self._reply(request)
        if reply is not None:
            fault, numbers = self._fault
            plan = iter(fault(request, reply, next(numbers)))
            self._carry_on(listener, request.client, plan, at_once=True)

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

    def _carry_on(
        self,
        listener: socket.socket,
        client: Any,
        plan: Iterator[tuple[float, bytes]],
        *,
        at_once: bool = False,
    ) -> None:
        """Send the plan's next datagram when its time has come, and then those that follow.

        chronyd answers a request before it reads the next one, so the first one may go at once.
        """
        for pause, datagram in plan:
            if pause or not at_once:
                self._loop.call_later(pause, self._send, listener, client, plan, datagram)
            else:
                self._send(listener, client, plan, datagram)
            return

    def _send(
        self,
        listener: socket.socket,
        client: Any,
        plan: Iterator[tuple[float, bytes]],
        datagram: bytes,
    ) -> None:
        if listener is not self._socket or not client:
            return
        try:
            listener.sendto(datagram, client)
        except BlockingIOError:
            pass  # a full queue loses datagrams, as in chronyd
        except (ConnectionError, FileNotFoundError, PermissionError):
            return  # the client is gone
        self._carry_on(listener, client, plan)
