"""Looks up names in threads that the end of the program does not wait for."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from ipaddress import ip_address

from .._io import names
from .._io.address import Address
from .._io.events import wake
from .._io.failures import lookup_failure

AT_ONCE = 32
"""Maximum number of threads for names of addresses."""
KEPT = 3600.0
"""Seconds to remember the name of an address, or that it has none."""
CACHE = 100_000
"""Maximum number of names to remember."""


class Lookups:
    """Looks up addresses and names for an event loop."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)
        self._names: dict[str, tuple[float, str]] = {}

    async def addresses(self, address: Address) -> list[str]:
        """Return the addresses of a host name; raise `ChronyConnectionError` if it has none."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        look_up = names.look_up(address.host)
        names.notify(look_up, lambda: loop.call_soon_threadsafe(wake, future))
        await future
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
        """Look up a name in a thread; its result is kept even if it comes too late."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def finish(name: str) -> None:
            self._free.release()
            if len(self._names) >= CACHE:
                self._names.clear()
            self._names[address] = time.monotonic() + KEPT, name
            wake(future)

        def work() -> None:
            name = _name_of(address)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish, name)

        await self._free.acquire()
        try:
            threading.Thread(target=work, name="pychrony lookup", daemon=True).start()
        except RuntimeError:  # the system allows no further thread
            self._free.release()
        else:
            await future


def _name_of(address: str) -> str:
    """Return the name of an address by reverse DNS; empty if it has none."""
    try:
        ip_address(address)
        return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except (OSError, ValueError):
        return ""
