"""Tests whom a call asks where chronyd may be at several addresses."""

from __future__ import annotations

import pytest
from alone import Alone
from surroundings import needs_ipv6_in_kernel

WAYS = {
    "blocking": "pychrony.get_tracking({0})",
    "aio": "asyncio.run(aio.get_tracking({0}))",
    "many": "next(pychrony.get_many([{0}], 'tracking')).result().tracking",
}
every_way = pytest.mark.parametrize("way", WAYS)


@needs_ipv6_in_kernel
@pytest.mark.parametrize(
    ("silent", "there"),
    [("/", "127.0.0.1"), ("/", "::1"), ("127.0.0.1", "::1")],
)
@pytest.mark.parametrize("way", ["blocking", "aio"])
def test_a_silent_place_of_the_local_chronyd_is_left_for_the_next(
    silent: str, there: str, way: str, alone: Alone
) -> None:
    said = alone(
        f"""
        with at("{silent}", 2, fault=drop), at("{there}", 3):
            print({WAYS[way].format("")}.stratum)
            with pychrony.ChronyConnection() as connection:
                ask(connection)
                ask(connection)
        """
    )
    first, found = (
        place if place.startswith("/") else f"[{place}]:323" if ":" in place else f"{place}:323"
        for place in (silent.replace("/", "/var/run/chrony/chronyd.sock"), there)
    )
    kind = "unix_socket" if silent == "/" else "command_port"
    assert said == ["3", f"{first} {kind} 3 {found}", f"{found} command_port 3 {found}"]


@every_way
def test_a_silent_address_of_a_name_is_left_for_the_next(way: str, alone: Alone) -> None:
    said = alone(
        f"""
        name(two="127.0.0.2 127.0.0.3")
        with at("127.0.0.2", 2, fault=drop) as first, at("127.0.0.3", 3):
            start = time.monotonic()
            print({WAYS[way].format("'two'")}.stratum)
            print(0.25 < time.monotonic() - start)
            first.fault = honest
            print({WAYS[way].format("'two'")}.stratum)
        """
    )
    assert said == ["3", "True", "2"]


@every_way
def test_a_healthy_first_address_is_the_only_one_that_gets_a_datagram(
    way: str, alone: Alone
) -> None:
    said = alone(
        f"""
        name(two="127.0.0.2 127.0.0.3")
        with at("127.0.0.2", 2) as first, at("127.0.0.3", 3) as second:
            for _ in range(20):
                {WAYS[way].format("'two'")}
            print(asked(first) >= 20, asked(second))
        with at("/", 2) as first, at("127.0.0.1", 3) as second:
            for _ in range(20):
                pychrony.get_all()
            print(asked(first) >= 20, asked(second))
        """
    )
    assert said == ["True 0", "True 0"]


def test_the_wait_for_a_silent_address_is_at_most_a_quarter_of_the_timeout(alone: Alone) -> None:
    said = alone(
        """
        name(two="127.0.0.2 127.0.0.3")
        from contextlib import suppress
        with at("127.0.0.2", 2, fault=drop), at("127.0.0.3", 3) as second:
            start = time.monotonic()
            print(pychrony.get_tracking("two", timeout=8).stratum, time.monotonic() - start >= 0.3)
            with pychrony.ChronyConnection("two", timeout=0.8) as connection:
                start = time.monotonic()
                with suppress(pychrony.ChronyTimeoutError):  # of a busy machine
                    connection.get_tracking()
                print(len(second.requests) > 1, time.monotonic() - start >= 0.2)
        """
    )
    assert said == ["3 True", "True True"]


@pytest.mark.parametrize("names", ["()", "('tracking', 'sources')"])
def test_all_reports_of_a_call_come_from_one_address(names: str, alone: Alone) -> None:
    """The first address begins to answer at about the time at which the second is asked."""
    said = alone(
        f"""
        name(two="127.0.0.2 127.0.0.3")
        seen = set()
        with at("127.0.0.2", 2) as first, at("127.0.0.3", 3):
            for pause in range(24, 36):
                first.fault = delay(pause / 100)
                with pychrony.ChronyConnection("two") as connection:
                    reports = connection.get_all(*{names})
                    seen.add((reports.tracking.stratum, len(reports.sources)))
        print(seen <= {{(2, 2), (3, 3)}})
        """
    )
    assert said == ["True"]


def test_the_address_that_answered_is_asked_first_from_then_on(alone: Alone) -> None:
    said = alone(
        """
        name(two="127.0.0.2 127.0.0.3")

        async def main():
            async with aio.ChronyConnection("two") as connection:
                print((await connection.get_tracking()).stratum, asked(first) > 0)
                for _ in range(5):
                    await connection.get_tracking()
                print(asked(first), asked(second))
                first.fault, second.fault = honest, drop
                print((await connection.get_tracking()).stratum)

        with at("127.0.0.2", 2, fault=drop) as first, at("127.0.0.3", 3) as second:
            with pychrony.ChronyConnection("two") as connection:
                print(connection.get_tracking().stratum, asked(first) > 0)
                for _ in range(5):
                    connection.get_tracking()
                print(asked(first), asked(second))
                first.fault, second.fault = honest, drop
                print(connection.get_tracking().stratum)
            first.fault, second.fault = drop, honest
            asked(first), asked(second)
            asyncio.run(main())
        """
    )
    assert said == ["3 True", "0 6", "2"] * 2


def test_an_earlier_address_is_asked_again_for_what_is_refused(alone: Alone) -> None:
    said = alone(
        """
        with at("/", 2) as unix, at("127.0.0.1", 3, opencommands=OPEN_COMMANDS):
            unix.fault = drop
            with pychrony.ChronyConnection() as connection:
                ask(connection)
                unix.fault = honest
                print(connection.get_server_stats().ntp_requests > 0, connection.address)
                ask(connection)
            unix.fault = drop
            with pychrony.ChronyConnection() as connection:
                ask(connection)
                unix.fault = honest
                reports = connection.get_all()
                print(reports.tracking.stratum, len(reports.ntpdata), reports.address)
        """
    )
    path, port = "/var/run/chrony/chronyd.sock", "127.0.0.1:323"
    assert said == [
        f"{path} unix_socket 3 {port}",
        f"True {path}",
        f"{path} unix_socket 2 {path}",
        f"{path} unix_socket 3 {port}",
        f"2 2 {path}",
    ]


def test_a_refusal_stands_if_the_earlier_address_stays_silent(alone: Alone) -> None:
    said = alone(
        """
        with at("/", 2, fault=drop), at("127.0.0.1", 3, opencommands=OPEN_COMMANDS):
            with pychrony.ChronyConnection() as connection:
                for _ in range(2):
                    start = time.monotonic()
                    try:
                        connection.get_server_stats()
                    except pychrony.ChronyPermissionError as error:
                        print(str(error)[:64], time.monotonic() - start < 30)
                reports = connection.get_all()
                print(reports.tracking.stratum, len(reports.missing))
        """
    )
    words = "reading serverstats from 127.0.0.1:323: not authorized; ask thro"
    assert said == [f"{words} True"] * 2 + ["3 4"]


@every_way
def test_if_none_answers_the_error_names_each_address_and_its_result(
    way: str, alone: Alone
) -> None:
    said = alone(
        f"""
        name(three="127.0.0.2 127.0.0.3 127.0.0.4")
        with at("127.0.0.2", 2, fault=drop), at("127.0.0.4", 2, fault=drop):
            start = time.monotonic()
            try:
                {WAYS[way].format("'three'")}
            except pychrony.ChronyTimeoutError as error:
                print(error)
            print(4.9 < time.monotonic() - start < 30)
        """
    )
    assert said == [
        "reading tracking from three: not found at 127.0.0.2:323 (no answer), 127.0.0.3:323 "
        "(connection refused) or 127.0.0.4:323 (no answer); chronyd is stuck, or uses another "
        "version of the protocol",
        "True",
    ]


def test_a_name_with_a_thousand_addresses_ends_with_its_error(alone: Alone) -> None:
    said = alone(
        """
        import socket
        name(many=" ".join(f"127.1.{n // 250}.{n % 250 + 1}" for n in range(1000)))
        print(len(socket.getaddrinfo("many", 323, type=socket.SOCK_DGRAM)))
        [answer] = pychrony.get_many(["many"], "tracking", timeout=50)
        print(type(answer.error).__name__, str(answer.error).count("connection refused"))
        try:
            pychrony.get_tracking("many", timeout=50)
        except pychrony.ChronyConnectionError as error:
            print(str(error).count("connection refused"))
        """
    )
    known, *counted = said  # musl returns no more than 48
    assert int(known) >= 48
    assert counted == [f"ChronyConnectionError {known}", known]


@pytest.mark.parametrize(
    "command",
    ["check -H two", "wait --address two", "tracking --address two", "fleet two"],
)
def test_every_command_finds_the_address_that_answers(command: str, alone: Alone) -> None:
    said = alone(
        f"""
        name(two="127.0.0.2 127.0.0.3")
        import sys
        with at("127.0.0.2", 2, fault=drop), at("127.0.0.3", 3):
            done = subprocess.run([sys.executable, "-m", "pychrony", *{command.split()}],
                                  capture_output=True, text=True)
            print(done.returncode, done.stderr)
        """
    )
    assert said == ["1 " if command.startswith(("check", "fleet")) else "0 "]


@needs_ipv6_in_kernel
def test_a_link_local_address_is_told_to_need_a_scope(alone: Alone) -> None:
    said = alone(
        """
        name(neighbour="fe80::1", both="fe80::1 127.0.0.2")
        with at("127.0.0.2", 3):
            print(pychrony.get_tracking("both").stratum)
        for address in ("neighbour", "fe80::1"):
            try:
                pychrony.get_tracking(address)
            except pychrony.ChronyConnectionError as error:
                print(error)
        """
    )
    assert said == [
        "3",
        "resolving neighbour: it only has fe80::1, which needs a scope; libchrony does not support "
        "scopes; give another address of the host",
        "connecting to [fe80::1]:323: invalid argument; libchrony does not support scopes, which "
        "link-local addresses need; give another address of the host",
    ]
