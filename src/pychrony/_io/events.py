"""Drives conversations in asyncio event loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from ..exceptions import ChronyTimeoutError
from ._shim import ffi, lib
from .address import Address
from .client import Client, new_loop
from .conversation import NEVER, Conversation, Daemon, Waits, find
from .questions import Question

if TYPE_CHECKING:
    from ._shim import Loop

A = TypeVar("A")

AT_ONCE = 16
"""Maximum number of calls that a connection serves at the same time; from eight on, chronyd itself
is the bottleneck."""

_AWAITED: set[Client] = set()
"""Clients of calls in progress. A closed event loop leaves such calls to the garbage collector,
which may free a client and then resume the call, to end it."""

_OPENING: set[object] = set()
"""Calls that wait for their turn to open a socket."""


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop; raise `RuntimeError` where there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "pychrony.aio needs a running asyncio event loop; with any other, such as trio's, "
            "call the functions of pychrony in a thread"
        ) from None


class Calls:
    """The calls of one connection: it serves 16 at once, and the others wait in order."""

    daemon: Daemon  # from `connect()` on

    def __init__(self, events: asyncio.AbstractEventLoop) -> None:
        self.events = events
        self.loop = new_loop()
        self._watched = -1
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0  # when the timer goes off
        self._waiting: dict[asyncio.Future[None], Sequence[Client]] = {}  # until one is done
        self._free = AT_ONCE
        self._turns: dict[asyncio.Future[None], None] = {}  # of calls that wait, in order

    async def connect(self, address: Address, timeout: int, name: str) -> None:
        """Look up a host name, open a first socket, and let the event loop watch it."""
        places = await self._drive(find(address, timeout))
        self.daemon = Daemon(places, timeout, name, self.loop)
        self.daemon.open_first()
        self._watched = lib.shim_loop_fd(self.loop)
        self.events.add_reader(self._watched, self._step)

    def check(self) -> None:
        """Raise `RuntimeError` if another event loop is running."""
        if asyncio.get_running_loop() is not self.events:
            raise RuntimeError("this ChronyConnection was opened in another event loop")

    async def ask(self, question: Question[A], timeout: int) -> A:
        """Ask a question, and return the answer."""
        self.check()
        start = time.monotonic_ns()
        await self._take_turn(start + timeout if timeout >= 0 else NEVER)
        try:
            daemon = self.daemon
            client = daemon.take()
            if client is None:
                await _pace()
                if daemon.closed:
                    raise daemon.closed_error()
                client = daemon.take()  # one that was given back meanwhile
            return await self._drive(Conversation(daemon, question, timeout, start, client).run())
        finally:
            self._give_turn()

    def close(self) -> None:
        """Close all sockets, and let all calls fail."""
        self.daemon.close("task")
        for future in (*self._waiting, *self._turns):
            if not (future.done() or self.events.is_closed()):
                future.set_exception(self.daemon.closed_error())
        self.leave()

    def leave(self) -> None:
        """Leave the event loop."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watched >= 0 and not self.events.is_closed():
            self.events.remove_reader(self._watched)
        ffi.release(self.loop)

    async def _drive(self, waits: Waits[A]) -> A:
        """Wait for what a conversation waits for, until it ends; return its result."""
        with closing(waits):
            while True:
                try:
                    wait = next(waits)
                except StopIteration as end:
                    answer: A = end.value
                    return answer
                future = self.events.create_future()
                self._waiting[future] = wait.clients
                _AWAITED.update(wait.clients)
                try:
                    for client in wait.clients:
                        self._set_timer(client.due)
                    await _wait(future, wait.until)
                finally:
                    del self._waiting[future]
                    _AWAITED.difference_update(wait.clients)

    def _step(self) -> None:
        """Wake the calls that are done, and step again when that is due."""
        due = 0
        while due == 0:
            due = lib.shim_run(self.loop, 0)
            while due == 0 and lib.shim_finished(self.loop) >= 0:
                pass
        for future, clients in self._waiting.items():
            if not all(client.batch.running for client in clients):
                wake(future)
        if self._waiting:
            self._set_timer(due)

    def _set_timer(self, due: int) -> None:
        """Make sure that there is a step by then; an earlier timer is good enough."""
        if due >= NEVER:
            return
        at = time.monotonic_ns() + due
        if self._timer is not None:
            if self._due <= at:
                return
            self._timer.cancel()
        self._due = at
        self._timer = self.events.call_later(due / 1e9, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._step()

    async def _take_turn(self, until: int) -> None:
        """Wait until fewer than 16 calls are in progress."""
        if self._free:
            self._free -= 1
            return
        turn = self.events.create_future()
        self._turns[turn] = None
        try:
            await _wait(turn, until)
        except BaseException:
            if turn in self._turns:
                del self._turns[turn]
            else:
                self._give_turn()
            raise
        if turn in self._turns:
            del self._turns[turn]
            outcome = (
                f"no free slot within {self.daemon.timeout / 1e9:g} s: this connection's {AT_ONCE} "
                "concurrent calls are still waiting"
            )
            raise ChronyTimeoutError._compose("asking", self.daemon.label, outcome)

    def _give_turn(self) -> None:
        if self._turns:
            turn = next(iter(self._turns))
            del self._turns[turn]
            wake(turn)
        else:
            self._free += 1


async def _pace() -> None:
    """Let other callbacks run before a socket is opened, which can take milliseconds."""
    call = object()
    _OPENING.add(call)
    try:
        for _ in range(len(_OPENING)):
            await asyncio.sleep(0)
    finally:
        _OPENING.discard(call)


def wake(future: asyncio.Future[None]) -> None:
    """Set the result of a future, unless it is done or its event loop is closed."""
    if not (future.done() or future.get_loop().is_closed()):
        future.set_result(None)


async def wait_for(loop: Loop, nanoseconds: int) -> None:
    """Wait until a loop of the engine should be stepped, or for so many nanoseconds."""
    events = running_loop()
    future = events.create_future()
    descriptor = lib.shim_loop_fd(loop)
    if descriptor >= 0:
        events.add_reader(descriptor, wake, future)
    try:
        await _wait(future, time.monotonic_ns() + nanoseconds)
    finally:
        if descriptor >= 0:
            events.remove_reader(descriptor)


async def _wait(future: asyncio.Future[None], until: int) -> None:
    """Wait for a future, or until that time."""
    timer = None
    if until < NEVER:
        pause = max(0, until - time.monotonic_ns())
        timer = future.get_loop().call_later(pause / 1e9, wake, future)
    try:
        await future
    finally:
        if timer is not None:
            timer.cancel()
