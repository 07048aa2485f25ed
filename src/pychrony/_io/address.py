"""Validates the addresses and timeouts that callers give, and translates them for libchrony."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..exceptions import ChronyConnectionError

PORT = 323  # chronyd's default command port, as in candm.h of chrony
MAX_PATH = 107  # of a Unix socket: sun_path has 108 bytes
MAX_TIMEOUT = 1e9  # seconds: 31 years, far inside 64 bits of nanoseconds

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"((?:{_OCTET}\.){{3}}{_OCTET})(?::([0-9]{{1,5}}))?")


class Address(NamedTuple):
    """A valid address; an empty host lets libchrony choose."""

    host: str
    port: int = PORT

    @property
    def is_name(self) -> bool:
        """Whether it is a host name, which must be resolved."""
        return not (
            not self.host
            or self.host.startswith("/")
            or ":" in self.host
            or _IPV4.fullmatch(self.host)
        )

    def candidates(self) -> list[str]:
        """Return the addresses to try in turn, in libchrony's notation; resolve a host name.

        libchrony tries the Unix socket, 127.0.0.1 and ::1 in turn, but never gets beyond 127.0.0.1,
        even if chronyd is not there. So the last one is tried here.
        """
        if not self.host:
            return ["", f"[::1]:{PORT}"]
        if self.host.startswith("/"):
            return [self.host]
        if self.is_name:
            return self.usable(self.resolve())
        return [_join(self.host, self.port)]

    def resolve(self) -> Iterable[Any]:
        """Return what `socket.getaddrinfo()` knows of a host name; this may take seconds."""
        import socket  # slow to import, and only a host name needs it

        try:
            return socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise self.unresolved(error) from error

    def unresolved(self, error: Exception) -> ChronyConnectionError:
        """Return the error of a host name that could not be resolved."""
        words = getattr(error, "strerror", None) or error
        advice = "check the name, or give an IP address"
        return ChronyConnectionError._compose("resolving", self.host, str(words), advice)

    def usable(self, found: Iterable[Any]) -> list[str]:
        """Return the addresses of a resolved host name that libchrony can use."""
        hosts = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
        usable = [_join(host, self.port) for host in hosts if "%" not in host]
        if not usable:
            raise ChronyConnectionError._compose(
                "resolving",
                self.host,
                f"it only has {', '.join(hosts)}, and libchrony does not support scopes",
                "give another address of the host",
            )
        return usable


def parse_address(address: str | os.PathLike[str] | None) -> Address:
    """Check an address of any form; raise `TypeError` or `ValueError` if it is invalid."""
    if address is None:
        return Address("")
    path = not isinstance(address, str) and isinstance(address, os.PathLike)
    text = os.fspath(address) if path else address
    if not isinstance(text, str):
        raise TypeError(f"address must be a str, a path or None, not {type(address).__name__}")
    if not text:
        raise ValueError("address is empty; None stands for the local chronyd")
    if "\0" in text:
        raise ValueError(f"address {text!r} contains a null character")
    if text.startswith("/"):
        try:
            size = len(os.fsencode(text))
        except UnicodeEncodeError as error:
            raise ValueError(f"address {text!r} cannot be a path: {error.reason}") from None
        if size > MAX_PATH:
            raise ValueError(f"address {text!r} is longer than a socket's {MAX_PATH} bytes")
        return Address(text)
    if "://" in text and not path:
        host = re.split(r"[/?#]", text.partition("://")[2])[0] or "ntp.example.net"
        raise ValueError(f"address {text!r} is a URL; give the host alone, as in {host!r}")
    if path or "/" in text:
        raise ValueError(f"address {text!r} is a relative path; give the socket's absolute path")
    return _parse_host(text)


def parse_timeout(timeout: float | None) -> int:
    """Check a timeout; return nanoseconds, or -1 for none."""
    if timeout is None:
        return -1
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number or None, not {type(timeout).__name__}")
    if not 0 < timeout <= MAX_TIMEOUT:
        raise ValueError(
            f"timeout {timeout!r} must be above 0 and at most {MAX_TIMEOUT:.0f} seconds; "
            "None waits for ever"
        )
    return int(timeout * 1e9)


def _parse_host(text: str) -> Address:
    """Parse `host`, `host:port`, an IPv6 address, `[IPv6]` or `[IPv6]:port`."""
    if dotted := _IPV4.fullmatch(text):
        return Address(dotted[1], _parse_port(text, dotted[2]))
    match = re.fullmatch(r"\[([^]]*)\](?::(.*))?|([^:]*)(?::([^:]*))?|([^][]*)", text, re.DOTALL)
    if match is None:
        raise ValueError(f"address {text!r} is neither host, host:port nor [IPv6]:port")
    bracketed, port_behind, host, port, bare = match.groups()
    six = bracketed if bracketed is not None else bare
    if six is not None:
        _check_ipv6(text, six)
        return Address(six, _parse_port(text, port_behind))
    _check_name(text, host)
    return Address(host, _parse_port(text, port))


def _check_ipv6(text: str, host: str) -> None:
    from ipaddress import IPv6Address  # slow to import, and a Unix socket does not need it

    if "%" in host:
        raise ValueError(f"address {text!r} has a scope, which libchrony does not support")
    try:
        IPv6Address(host)
    except ValueError as error:
        raise ValueError(f"address {text!r} is not an IPv6 address: {error}") from None


def _check_name(text: str, host: str) -> None:
    if not re.fullmatch(r"(?!-)[\w-]+(\.[\w-]+)*\.?", host) or len(host) > 253:
        raise ValueError(f"address {text!r} has no valid host name")
    if re.fullmatch(r"\d+", host.rstrip(".").rpartition(".")[2]):
        raise ValueError(f"address {text!r} is not an IPv4 address")


def _parse_port(text: str, port: str | None) -> int:
    if port is None:
        return PORT
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 1 <= int(port) <= 65535):
        raise ValueError(f"address {text!r} has a port that is not from 1 to 65535")
    return int(port)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
