"""Decides which targets the exporter may ask: networks and host names that the operator allows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from ..._io.address import PORT, parse_address


class Allowed(NamedTuple):
    """One entry of `--allow`: a network, or a pattern of host names, and chronyd's port there."""

    hosts: IPv4Network | IPv6Network | str
    port: int = PORT

    def covers(self, host: str, port: int) -> bool:
        """Whether the entry allows a host and port; names are compared as text, not resolved."""
        if port != self.port:
            return False
        if isinstance(self.hosts, str):
            return not _is_address(host) and fnmatchcase(_bare(host), self.hosts)
        return _is_address(host) and ip_address(host) in self.hosts


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


def is_allowed(target: str, entries: Iterable[Allowed]) -> bool:
    """Whether a target may be asked; raise `ValueError` if it is invalid."""
    host, port = parse_address(target)
    if host.startswith("/"):
        return False  # only the operator may choose a path
    return any(entry.covers(host, port) for entry in entries)


def _split_port(text: str) -> tuple[str, int]:
    """Split `10.0.0.0/8:1323`, `[2001:db8::/32]:1323` or `*.example.net:1323`."""
    match = re.fullmatch(r"\[([^]]*)\](?::(.*))?|([^:]*):([^:]*)", text)
    if match is None:
        return text, PORT
    bracketed, port_behind, hosts, port = match.groups()
    if bracketed is not None:
        hosts, port = bracketed, port_behind
    if port is None:
        return hosts, PORT
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} has a port that is not from 1 to 65535")
    return hosts, int(port)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _bare(host: str) -> str:
    return host.lower().rstrip(".")
