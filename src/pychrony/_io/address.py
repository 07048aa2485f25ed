"""Validates the addresses and timeouts that callers give, and translates them for libchrony."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from ..exceptions import ChronyConnectionError

PORT = 323  # chronyd's default command port, as in candm.h of chrony
MAX_PATH = 107  # of a Unix socket: sun_path has 108 bytes
MAX_TIMEOUT = 1e9  # seconds: 31 years, far inside 64 bits of nanoseconds

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"((?:{_OCTET}\.){{3}}{_OCTET})(?::([0-9]{{1,5}}))?")


class Address(NamedTuple):
    """A valid address; an empty host stands for the chronyd on this machine."""

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

    def places(self) -> list[str]:
        """Return the addresses to try in turn, in libchrony's notation; not for a host name."""
        if not self.host:
            return local_places()
        return [self.host if self.host.startswith("/") else _join(self.host, self.port)]

    def usable(self, hosts: Iterable[str]) -> list[str]:
        """Return those IP addresses of a host name that libchrony can use, with the port."""
        usable = [_join(host, self.port) for host in hosts if not _needs_scope(host)]
        if not usable:
            raise ChronyConnectionError._compose(
                "resolving",
                self.host,
                f"it only has {', '.join(hosts)}, which needs a scope",
                "libchrony does not support scopes; give another address of the host",
            )
        return usable


def local_places() -> list[str]:
    """Return where chronyd may be on this machine, in the order in which to look for it."""
    run = "/var/run" if os.path.isdir("/var/run") else "/run"
    return [f"{run}/chrony/chronyd.sock", f"127.0.0.1:{PORT}", f"[::1]:{PORT}"]


def parse_address(address: str | os.PathLike[str] | None) -> Address:
    """Check an address of any form; raise `TypeError` or `ValueError` if it is invalid."""
    if address is None:
        return Address("")
    path = not isinstance(address, str) and isinstance(address, os.PathLike)
    text = os.fspath(address) if path else address
    if not isinstance(text, str):
        raise TypeError(f"address must be a str, a path or None, not {type(address).__name__}")
    if not text:
        raise ValueError("address is empty; leave it out to ask the local chronyd")
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


def _needs_scope(host: str) -> bool:
    """Whether an IP address is link-local, which the system accepts only with an interface."""
    return "%" in host or re.match("fe[89ab][0-9a-f]:", host, re.IGNORECASE) is not None


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
