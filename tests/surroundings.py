"""Detects what differs between the machines that run the tests."""

from __future__ import annotations

import platform
import socket

import pytest

GLIBC = platform.libc_ver()[0] == "glibc"
"""Whether Python runs on glibc, and not on musl."""


def _has_ipv6(*host: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
            for name in host:
                any_socket.bind((name, 0))
    except OSError:
        return False
    return True


IPV6 = _has_ipv6("::1")
"""Whether there is `::1`; some containers have no IPv6."""

needs_ipv6 = pytest.mark.skipif(not IPV6, reason="there is no ::1 here")
needs_ipv6_in_kernel = pytest.mark.skipif(not _has_ipv6(), reason="this kernel has no IPv6")
udp6 = pytest.param("udp6", marks=needs_ipv6)

both = pytest.mark.parametrize("transport", ["udp", "unix"])
"""Runs a test over UDP, and over a Unix socket."""
