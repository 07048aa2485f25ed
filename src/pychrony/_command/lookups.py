"""Looks up addresses and names for an event loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Collection, Mapping
from ipaddress import ip_address

from .._io.address import Address
from .._io.failures import lookup_failure
from .._io.names import LookUp, LookUps, hosts

KEPT = 3600.0
"""Seconds to remember the name of an address, or that it has none."""
CACHE = 100_000
"""Maximum number of names to remember."""

_known: dict[str, tuple[float, str]] = {}  # the name of each address, and until when to keep it


async def addresses_of(address: Address) -> list[str]:
    """Return the addresses of a host name; raise `ChronyConnectionError` if it has none."""
    look_up = hosts.poll(LookUp(address.host))
    while not look_up.done:
        await asyncio.sleep(look_up.pause() / 1e9)
        look_up = hosts.poll(look_up)
    if look_up.error is not None:
        raise lookup_failure(address.host, look_up.error) from look_up.error
    return look_up.found


async def names_of(addresses: Collection[str], timeout: float) -> Mapping[str, str]:
    """Return the names of addresses that are found within `timeout` seconds."""
    now = time.monotonic()
    end = now + timeout
    missing = [LookUp(a) for a in addresses if _known.get(a, (0.0, ""))[0] <= now]
    while missing := [look_up for look_up in map(_names.poll, missing) if not look_up.done]:
        left = end - time.monotonic()
        if left <= 0:
            break
        await asyncio.sleep(min(missing[0].pause() / 1e9, left))
    found = {a: _known[a][1] for a in addresses if a in _known}
    return {address: name for address, name in found.items() if name}


def _name_of(address: str) -> list[str]:
    """Look up a name by reverse DNS, and remember it even if it comes too late for a call."""
    try:
        ip_address(address)
        name = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except (OSError, ValueError):
        name = ""
    if len(_known) >= CACHE:
        _known.clear()
    _known[address] = time.monotonic() + KEPT, name
    return [name]


_names = LookUps(_name_of, 32)
