"""Drives clients from an asyncio event loop, and waits for them there."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ..exceptions import ChronyConnectionError, ChronyTimeoutError
from ._shim import ffi, lib
from .address import Address
from .client import Client, new_loop, remaining
from .names import Found, Member
from .pool import Pool

if TYPE_CHECKING:
    from ._shim import Loop

AT_ONCE = 16
"""The most calls of a connection that are served at the same time; with more than eight, chronyd
itself is the bottleneck."""
TOGETHER = 4096
"""The most sockets that are closed together."""


class Driver:
    """Drives the clients of all connections in one event loop, through one descriptor."""

    def __init__(self, events: asyncio.AbstractEventLoop) -> None:
        self.events = events
        self.loop = new_loop()
        self._users = 0
        self._closing = False
        self._watched = -1
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0  # when the timer goes off
        self._waiting: dict[int, asyncio.Future[None]] = {}

    @classmethod
    def of(cls, events: asyncio.AbstractEventLoop) -> Driver:
        """Return the driver of an event loop, and count one more connection."""
        driver = _DRIVERS.get(events)
        if driver is None:
            driver = _DRIVERS[events] = cls(events)
        driver._users += 1
        return driver

    def check(self) -> None:
        """Raise `RuntimeError` if another event loop is running."""
        if asyncio.get_running_loop() is not self.events:
            raise RuntimeError("this ChronyConnection was opened in another event loop")

    def watch(self) -> None:
        """Let the event loop watch the descriptor, which exists once a socket is open."""
        if self._watched < 0:
            self._watched = lib.shim_loop_fd(self.loop)
            self.events.add_reader(self._watched, self._drive)

    def close(self, pool: Pool) -> None:
        """Close a connection; the sockets of all that are closed at the same time close together.

        Closing them one by one would take quadratic time (see `close_spares()` in sockets.c). They
        wait for that as spare sessions, until the callbacks that are now ready have run.
        """
        if not self._closing and not self.events.is_closed():
            self._closing = True
            lib.shim_spare_sessions(self.loop, TOGETHER)
            self.events.call_soon(self._close_spares)
        pool.close()

    def _close_spares(self) -> None:
        self._closing = False
        if self._users > 0:  # otherwise, they were closed with the loop
            lib.shim_spare_sessions(self.loop, 0)

    def release(self) -> None:
        """Leave the event loop after the last connection."""
        self._users -= 1
        if self._users > 0:
            return
        del _DRIVERS[self.events]
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

    def wait(self, client: Client, turns: Turns) -> asyncio.Future[None]:
        """Return what to await until the batch of a client is done, or its connection is closed.

        The batch has just been started. The caller ends the wait with `stop_waiting()`, however it
        went.
        """
        tag = client.tag
        future = self._waiting[tag] = turns.under_way[tag] = self.events.create_future()
        self._take(client.due)
        return future

    def stop_waiting(self, client: Client, turns: Turns) -> None:
        """Forget the batch of a client."""
        self._waiting.pop(client.tag, None)
        turns.under_way.pop(client.tag, None)

    def _drive(self) -> None:
        self._take(lib.shim_step(self.loop))

    def _take(self, due: int) -> None:
        """Wake the calls that a step has finished, and step again after `due` nanoseconds."""
        while due == 0 and (tag := lib.shim_finished(self.loop)) >= 0:
            future = self._waiting.pop(tag, None)
            if future is not None and not future.done():
                future.set_result(None)
            due = lib.shim_step_blindly(self.loop) if self._waiting else -1
        if due >= 0:
            self._set_timer(due)

    def _set_timer(self, due: int) -> None:
        """Make sure that a step comes by then; an earlier timer will do, and saves a new one."""
        at = time.monotonic_ns() + due
        if self._timer is not None:
            if self._due <= at:
                return
            self._timer.cancel()
        self._due = at
        self._timer = self.events.call_later(due / 1e9, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._drive()


_DRIVERS: dict[asyncio.AbstractEventLoop, Driver] = {}


class Turns:
    """Limits how many calls of a connection are served at once; the others wait in order."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._free = AT_ONCE
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.under_way: dict[int, asyncio.Future[None]] = {}
        """What the calls in progress wait for, by the tags of their clients."""

    def take(self) -> bool:
        """Take a turn if one is free."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def wait(self, timeout: int) -> int:
        """Wait for a turn; return the rest of the timeout, in nanoseconds."""
        start = time.monotonic_ns()
        events = asyncio.get_running_loop()
        turn = events.create_future()
        self._waiting.append(turn)
        timer = (
            events.call_later(timeout / 1e9, self._give_up, turn, timeout) if timeout >= 0 else None
        )
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give()  # the turn came together with the cancellation
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return remaining(timeout, start)

    def give(self) -> None:
        """End a turn."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def end(self) -> None:
        """Let all calls fail."""
        for future in (*self._waiting, *self.under_way.values()):
            if not future.done():
                future.set_exception(
                    ChronyConnectionError._compose(
                        "asking", self._pool.label, "closed by another task"
                    )
                )

    def _give_up(self, turn: asyncio.Future[None], timeout: int) -> None:
        if not turn.done():
            turn.set_exception(
                ChronyTimeoutError._compose(
                    "asking",
                    self._pool.label,
                    f"no answer within {timeout / 1e9:g} s to the {AT_ONCE} calls of this "
                    "connection that came first",
                )
            )


async def look_up(address: Address, events: asyncio.AbstractEventLoop) -> list[str]:
    """Return the addresses to try in turn; a host name is resolved by the event loop."""
    if not address.is_name:
        return address.candidates()
    try:
        found = await events.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise address.unresolved(error) from error
    return address.usable(found)


class Waiter:
    """Waits for many daemons in an event loop, and resolves their names there."""

    def __init__(self, events: asyncio.AbstractEventLoop) -> None:
        self._events = events
        self._future: asyncio.Future[None] | None = None
        self._tasks: dict[asyncio.Task[list[str]], Member] = {}
        self._found: deque[Found] = deque()

    async def wait(self, loop: Loop, nanoseconds: int) -> None:
        """Wait until the loop is ready, a name is resolved or a time (if not negative) is over."""
        descriptor = lib.shim_loop_fd(loop)
        self._future = self._events.create_future()
        timer = None
        if nanoseconds >= 0:
            timer = self._events.call_later(nanoseconds / 1e9, self._wake)
        if descriptor >= 0:
            self._events.add_reader(descriptor, self._wake)
        try:
            await self._future
        finally:
            self._future = None
            if descriptor >= 0:
                self._events.remove_reader(descriptor)
            if timer is not None:
                timer.cancel()

    def start(self, member: Member) -> None:
        """Start to resolve the name of a daemon."""
        task = self._events.create_task(look_up(member.address, self._events))
        self._tasks[task] = member
        task.add_done_callback(self._resolved)

    def found(self) -> Iterator[Found]:
        """Yield the results since the last call."""
        while self._found:
            yield self._found.popleft()

    def close(self) -> None:
        """Cancel what is not resolved yet."""
        for task in self._tasks:
            task.cancel()

    def _resolved(self, task: asyncio.Task[list[str]]) -> None:
        member = self._tasks.pop(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, ChronyConnectionError):
            self._found.append(Found(member, [], error))
        else:
            self._found.append(Found(member, task.result()))
        self._wake()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
