"""Drives conversations in asyncio event loops; all connections share one descriptor."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from ..exceptions import ChronyTimeoutError
from ._shim import ffi, lib
from .address import Address
from .client import Client, new_loop
from .conversation import NEVER, Conversation, Daemon, Waits, find, remaining
from .questions import Question

if TYPE_CHECKING:
    from ._shim import Loop

A = TypeVar("A")

AT_ONCE = 16
"""Maximum number of calls that a connection serves at the same time; from eight on, chronyd itself
is the bottleneck."""


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop; raise `RuntimeError` where there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "pychrony.aio needs a running asyncio event loop; with any other, such as trio's, "
            "call the functions of pychrony in a thread"
        ) from None


class Driver:
    """Steps the clients of all connections in one event loop, and wakes the calls."""

    def __init__(self, events: asyncio.AbstractEventLoop) -> None:
        self.events = events
        self.loop = new_loop()
        self._users = 0
        self._watched = -1
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0  # when the timer goes off
        self._waiting: dict[int, asyncio.Future[None]] = {}  # by the client's tag
        self._opening = asyncio.Lock()

    @classmethod
    def of(cls, events: asyncio.AbstractEventLoop) -> Driver:
        """Return the driver of an event loop, and count one more connection."""
        driver = _DRIVERS.get(events)
        if driver is None:
            driver = _DRIVERS[events] = cls(events)
        driver._users += 1
        return driver

    def release(self) -> None:
        """Leave the event loop after the last connection."""
        self._users -= 1
        if self._users > 0:
            return
        _DRIVERS.pop(self.events, None)
        if self._timer is not None:
            self._timer.cancel()
        if self._watched >= 0 and not self.events.is_closed():
            self.events.remove_reader(self._watched)
        ffi.release(self.loop)

    def release_from_anywhere(self) -> None:
        """Release it for a connection that was dropped, possibly in another thread."""
        with suppress(RuntimeError):  # the event loop is closed
            self.events.call_soon_threadsafe(self.release)
            return
        self.release()

    def check(self) -> None:
        """Raise `RuntimeError` if another event loop is running."""
        if asyncio.get_running_loop() is not self.events:
            raise RuntimeError("this ChronyConnection was opened in another event loop")

    def watch(self) -> None:
        """Let the event loop watch the descriptor, which exists once a socket has been opened."""
        if self._watched < 0:
            self._watched = lib.shim_loop_fd(self.loop)
            self.events.add_reader(self._watched, self._step)

    async def pace(self) -> None:
        """Let other callbacks run before a socket is opened, which can take milliseconds."""
        async with self._opening:
            await asyncio.sleep(0)

    def expect(self, clients: Iterable[Client], future: asyncio.Future[None]) -> None:
        """Set the result of the future once one of these clients, which were started, is done."""
        _AWAITED.update(clients)
        for client in clients:
            self._waiting[client.tag] = future
            self._set_timer(client.due)

    def forget(self, clients: Iterable[Client]) -> None:
        """Do not set it any more."""
        _AWAITED.difference_update(clients)
        for client in clients:
            self._waiting.pop(client.tag, None)

    def _step(self) -> None:
        """Wake the calls that are done, and step again when that is due."""
        due = 0
        while due == 0:
            due = lib.shim_run(self.loop, 0)
            while due == 0 and (tag := lib.shim_finished(self.loop)) >= 0:
                future = self._waiting.pop(tag, None)
                if future is not None:
                    wake(future)
            if not self._waiting:
                return
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


_AWAITED: set[Client] = set()
"""Clients of calls in progress. A closed event loop leaves such calls to the garbage collector,
which may free a client and then resume the call, to end it."""

_DRIVERS: WeakValueDictionary[asyncio.AbstractEventLoop, Driver] = WeakValueDictionary()
"""A driver lives as long as a connection or its event loop needs it."""


class Calls:
    """The calls of one connection: it serves 16 at once, and the others wait in order."""

    daemon: Daemon  # from `connect()` on

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._free = AT_ONCE
        self._turns: deque[asyncio.Future[None]] = deque()
        self._waiting: set[asyncio.Future[None]] = set()

    async def connect(self, address: Address, timeout: int, name: str) -> None:
        """Look up a host name, and open a first socket."""
        places = await self._drive(find(address, timeout))
        self.daemon = Daemon(places, timeout, name, self.driver.loop)
        self.daemon.open_first()
        self.driver.watch()

    async def ask(self, question: Question[A], timeout: int) -> A:
        """Ask a question, and return the answer."""
        self.driver.check()
        timeout = await self._take_turn(timeout)
        try:
            daemon = self.daemon
            start = time.monotonic_ns()
            client = daemon.take()
            if client is None:
                await self.driver.pace()
                if daemon.closed:
                    raise daemon.closed_error()
                client = daemon.take()  # one that was given back meanwhile
            return await self._drive(Conversation(daemon, question, timeout, start, client).run())
        finally:
            self._give_turn()

    def close(self) -> None:
        """Close all sockets, and let all calls fail."""
        self.daemon.close("task")
        for future in self._waiting:
            if not (future.done() or self.driver.events.is_closed()):
                future.set_exception(self.daemon.closed_error())

    async def _drive(self, waits: Waits[A]) -> A:
        """Wait for what a conversation waits for, until it ends; return its result."""
        events = self.driver.events
        with closing(waits):
            while True:
                try:
                    wait = next(waits)
                except StopIteration as end:
                    answer: A = end.value
                    return answer
                future = events.create_future()
                try:
                    self.driver.expect(wait.clients, future)
                    await self._wait(future, wait.until)
                finally:
                    self.driver.forget(wait.clients)

    async def _wait(self, future: asyncio.Future[None], until: int) -> None:
        """Wait for a future, or until that time; `close()` ends the wait with an error."""
        timer = None
        if until < NEVER:
            pause = max(0, until - time.monotonic_ns())
            timer = self.driver.events.call_later(pause / 1e9, wake, future)
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
            if timer is not None:
                timer.cancel()

    async def _take_turn(self, timeout: int) -> int:
        """Wait for a turn; return the rest of the timeout, in nanoseconds."""
        if self._free:
            self._free -= 1
            return timeout
        start = time.monotonic_ns()
        turn = self.driver.events.create_future()
        self._turns.append(turn)
        try:
            await self._wait(turn, start + timeout if timeout >= 0 else NEVER)
        except BaseException:
            if not self._withdraw(turn):
                self._give_turn()
            raise
        if self._withdraw(turn):
            outcome = (
                f"no free slot within {self.daemon.timeout / 1e9:g} s: this connection's {AT_ONCE} "
                "concurrent calls are still waiting"
            )
            raise ChronyTimeoutError._compose("asking", self.daemon.label, outcome)
        return remaining(timeout, start, time.monotonic_ns())

    def _withdraw(self, turn: asyncio.Future[None]) -> bool:
        """Give up waiting for a turn; return whether it has not come."""
        with suppress(ValueError):
            self._turns.remove(turn)
            return True
        return False

    def _give_turn(self) -> None:
        if self._turns:
            wake(self._turns.popleft())
        else:
            self._free += 1


def wake(future: asyncio.Future[None]) -> None:
    """Set the result of a future that may be done already."""
    if not future.done():
        future.set_result(None)


async def wait_for(loop: Loop, nanoseconds: int) -> None:
    """Wait until a loop of the engine should be stepped, or for so many nanoseconds."""
    events = running_loop()
    future = events.create_future()
    descriptor = lib.shim_loop_fd(loop)
    timer = events.call_later(nanoseconds / 1e9, wake, future) if nanoseconds < NEVER else None
    if descriptor >= 0:
        events.add_reader(descriptor, wake, future)
    try:
        await future
    finally:
        if descriptor >= 0:
            events.remove_reader(descriptor)
        if timer is not None:
            timer.cancel()
