"""Decides which targets the exporter may ask: networks and host names that the operator allows."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from ..._io.address import PORT, Address, parse_address

IP = IPv4Address | IPv6Address


class RefusedError(Exception):
    """A target that is not allowed; the message says which part of it."""


class Allowed(NamedTuple):
    """One entry of `--allow`: a network, or a pattern of host names, and chronyd's port there."""

    hosts: IPv4Network | IPv6Network | str
    port: int = PORT

    def covers(self, host: str | IP) -> bool:
        """Whether the entry is for a host name or an address."""
        if isinstance(self.hosts, str):
            return isinstance(host, str) and fnmatchcase(_bare(host), self.hosts)
        return not isinstance(host, str) and host in self.hosts


def parse_allowed(text: str) -> Allowed:
    """Parse NETWORK, NAME or PATTERN, with or without a port; raise `ValueError` if invalid."""
    hosts, port = _split_port(text)
    try:
        return Allowed(ip_network(hosts), port)
    except ValueError as error:
        if re.fullmatch(r"[\d.*]*\d[\d.*]*|.*[:/].*", hosts):
            raise ValueError(f"{text!r} is neither a network nor a host name: {error}") from None
    if not re.fullmatch(r"[\w*?-]+(\.[\w*?-]+)*\.?", hosts):
        raise ValueError(f"{text!r} is neither a network nor a host name")
    return Allowed(_bare(hosts), port)


async def permitted(
    target: str, entries: Sequence[Allowed], resolve: Callable[[Address], Awaitable[list[str]]]
) -> list[str]:
    """Return the addresses at which a target may be asked, with their port.

    A name that is allowed is resolved, and its addresses have to be allowed, too. Raises
    `RefusedError` if none is, and `ValueError` for a target that is invalid.
    """
    address = parse_address(target)
    if address.host.startswith("/"):
        raise RefusedError(f"path {address.host}")  # only the operator may choose a path
    if not address.is_name:
        hosts = [_unmapped(address.host)]
    else:
        _check(address.host, address.port, [e for e in entries if isinstance(e.hosts, str)])
        hosts = [_unmapped(host) for host in await resolve(address) if "%" not in host]
    networks = [entry for entry in entries if not isinstance(entry.hosts, str)]
    found, refused = [], RefusedError("no address")
    for host in dict.fromkeys(hosts):
        try:
            if networks or not address.is_name:
                _check(host, address.port, networks)
            elif not _is_elsewhere(host):
                raise RefusedError(f"address {host}")
        except RefusedError as error:
            refused = RefusedError(f"{error} of {address.host}") if address.is_name else error
        else:
            found += Address(str(host), address.port).places()
    if not found:
        raise refused
    return found


def _check(host: str | IP, port: int, entries: Sequence[Allowed]) -> None:
    ports = {entry.port for entry in entries if entry.covers(host)}
    if not ports:
        raise RefusedError(f"{'name' if isinstance(host, str) else 'address'} {host}")
    if port not in ports:
        raise RefusedError(f"port {port}")


def _is_elsewhere(host: IP) -> bool:
    """Whether an address may be another machine's."""
    return not (host.is_loopback or host.is_unspecified or host.is_link_local or host.is_multicast)


def _unmapped(host: str) -> IP:
    """Return an address; for an IPv4-mapped IPv6 address, the IPv4 address."""
    address = ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def _split_port(text: str) -> tuple[str, int]:
    """Split `10.0.0.0/8:1323`, `[2001:db8::/32]:1323` or `*.example.net:1323`."""
    match = re.fullmatch(r"(?:\[([^]]*)\]|([^:]*))(?::([^:]*))?", text)
    hosts, port = (match[1] or match[2] or "", match[3]) if match else (text, None)
    if port is None:
        return hosts, PORT
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} has a port that is not from 1 to 65535")
    return hosts, int(port)


def _bare(host: str) -> str:
    return host.lower().rstrip(".")
