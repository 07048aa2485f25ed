"""Looks up names in threads that the end of the program does not wait for."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import TypeVar

from .._io.address import Address
from .._io.failures import lookup_failure
from .._io.names import LookUp

AT_ONCE = 32
"""Maximum number of threads."""
KEPT = 3600.0
"""Seconds to remember the name of an address, or that it has none."""
CACHE = 100_000
"""Maximum number of names to remember."""

R = TypeVar("R")


class Lookups:
    """Looks up addresses and names for an event loop."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)
        self._names: dict[str, tuple[float, str]] = {}

    async def addresses(self, address: Address) -> list[str]:
        """Return the addresses of a host name; raise `ChronyConnectionError` if it has none."""
        look_up = LookUp(address.host)
        await self.in_thread(look_up.run)
        if look_up.error is not None:
            raise lookup_failure(address.host, look_up.error) from look_up.error
        return look_up.found

    async def names(self, addresses: Collection[str], timeout: float) -> Mapping[str, str]:
        """Return the names of addresses that are found within `timeout` seconds."""
        now = time.monotonic()
        kept = {a: entry for a in addresses if (entry := self._names.get(a)) and entry[0] > now}
        tasks = [asyncio.ensure_future(self._look_up(a)) for a in addresses if a not in kept]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()
        found = {a: self._names[a][1] for a in addresses if a in self._names}
        return {address: name for address, name in found.items() if name}

    async def _look_up(self, address: str) -> None:
        name = await self.in_thread(lambda: _name_of(address))
        if len(self._names) >= CACHE:
            self._names.clear()
        self._names[address] = time.monotonic() + KEPT, name

    async def in_thread(self, function: Callable[[], R]) -> R:
        """Run a function in a thread, and return its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()

        def finish(result: R | None, error: BaseException | None) -> None:
            self._free.release()
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)

        def work() -> None:
            result, error = None, None
            try:
                result = function()
            except Exception as problem:
                error = problem
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, result, error)

        await self._free.acquire()
        threading.Thread(target=work, name="pychrony lookup", daemon=True).start()
        return await future


def _name_of(address: str) -> str:
    """Return the name of an address by reverse DNS; empty if it has none."""
    try:
        ip_address(address)
        return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except (OSError, ValueError):
        return ""
