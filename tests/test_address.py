"""Tests which forms of addresses and timeouts are accepted, and which are refused."""

from __future__ import annotations

import math
import os
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import pychrony
from pychrony import ChronyConnection
from pychrony._io.address import Address, parse_address, parse_timeout


class Elsewhere(os.PathLike[Any]):
    """A path of another kind than `pathlib`'s."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return self.path


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        (None, Address("")),
        ("/run/chrony/chronyd.sock", Address("/run/chrony/chronyd.sock")),
        (Path("/run/chrony/chronyd.sock"), Address("/run/chrony/chronyd.sock")),
        (PurePosixPath("/a b:c"), Address("/a b:c")),
        (Elsewhere("/a b:c"), Address("/a b:c")),
        ("/" + 106 * "x", Address("/" + 106 * "x")),
        ("192.0.2.1", Address("192.0.2.1", 323)),
        ("192.0.2.1:1", Address("192.0.2.1", 1)),
        ("192.0.2.1:65535", Address("192.0.2.1", 65535)),
        ("::1", Address("::1", 323)),
        ("2001:db8::1", Address("2001:db8::1", 323)),
        ("::1:1234", Address("::1:1234", 323)),
        ("::ffff:192.0.2.1", Address("::ffff:192.0.2.1", 323)),
        ("[2001:db8::1]", Address("2001:db8::1", 323)),
        ("[2001:db8::1]:324", Address("2001:db8::1", 324)),
        ("localhost", Address("localhost", 323)),
        ("localhost:11323", Address("localhost", 11323)),
        ("time-1.example.org.", Address("time-1.example.org.", 323)),
        ("time_1", Address("time_1", 323)),
        ("4.example", Address("4.example", 323)),
        ("übung.example", Address("übung.example", 323)),
    ],
)
def test_an_address_is_a_path_an_ip_address_or_a_name(address: Any, parsed: Address) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    ("address", "places"),
    [
        (None, ["/var/run/chrony/chronyd.sock", "127.0.0.1:323", "[::1]:323"]),
        ("/run/chronyd.sock", ["/run/chronyd.sock"]),
        ("192.0.2.1", ["192.0.2.1:323"]),
        ("[2001:db8::1]:324", ["[2001:db8::1]:324"]),
    ],
)
def test_libchrony_is_given_what_it_can_take(address: str | None, places: list[str]) -> None:
    assert parse_address(address).places() == places


@pytest.mark.parametrize(
    "address",
    [
        b"/run/chrony/chronyd.sock",
        Elsewhere(b"/run/chrony/chronyd.sock"),
        323,
        0,
        True,
        1.5,
        ["127.0.0.1"],
        ("127.0.0.1", 323),
        object(),
    ],
)
def test_an_address_of_another_type_is_named(address: Any) -> None:
    with pytest.raises(TypeError, match="address must be a str, a path or None, not "):
        ChronyConnection(address)
    with pytest.raises(TypeError, match="address"):
        pychrony.get_tracking(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        " ",
        "\0",
        "/run/\0chronyd.sock",
        "/" + 107 * "x",
        "/" + 54 * "ü",
        "/\ud800",
        Path("chronyd.sock"),
        "run/chronyd.sock",
        "~/chronyd.sock",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:1\n",
        "localhost:٣٢٣",
        "127.0.0.1:" + 5000 * "9",
        "127.0.0.1\n",
        "127.1",
        "127.0.0.1.5",
        "127.0.0.256",
        "127.0.0.01",
        "2130706433",
        "[127.0.0.1]:323",
        "[]",
        "[::1",
        "::1]",
        "[::1]323",
        "[::1]:0",
        "[[::1]]",
        "[::1]:1:2",
        "[localhost]:323",
        ":::",
        "fe80::1%eth0",
        "[fe80::1%1]:323",
        "a:b:c",
        ":323",
        "local host",
        "-v",
        ".example",
        "host\n",
        "\ud800",
        254 * "x",
        "http://192.0.2.1",
    ],
    ids=lambda address: repr(address)[:30],
)
def test_an_address_that_cannot_be_one_is_named(address: str) -> None:
    with pytest.raises(ValueError, match=r"\Aaddress "):
        ChronyConnection(address)
    with pytest.raises(ValueError, match=r"\Aaddress "):
        pychrony.get_report("tracking", address)


@pytest.mark.parametrize(
    ("timeout", "nanoseconds"),
    [
        (None, -1),
        (1, 1_000_000_000),
        (0.25, 250_000_000),
        (1e-9, 1),
        (5e-324, 0),
        (1e9, 10**18),
        (10**9, 10**18),
    ],
)
def test_a_timeout_is_a_number_of_seconds(timeout: Any, nanoseconds: int) -> None:
    assert parse_timeout(timeout) == nanoseconds


@pytest.mark.parametrize("timeout", [True, False, "1", b"2", [1], 1j, Decimal(1), object()])
def test_a_timeout_of_another_type_is_named(timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout must be a number or None, not "):
        ChronyConnection("127.0.0.1", timeout=timeout)
    with pytest.raises(TypeError, match="timeout"):
        pychrony.get_sources("127.0.0.1", timeout=timeout)


@pytest.mark.parametrize(
    "timeout",
    [0, 0.0, -0.0, -1, -1e-9, math.nan, math.inf, -math.inf, 1.1e9, 10**9 + 1, 1e300, 10**400],
    ids=lambda timeout: repr(timeout)[:20],
)
def test_a_timeout_that_cannot_be_one_is_named(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"\Atimeout "):
        ChronyConnection("127.0.0.1", timeout=timeout)
    with pytest.raises(ValueError, match=r"\Atimeout "):
        pychrony.get_activity("127.0.0.1", timeout=timeout)
