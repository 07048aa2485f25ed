"""Tests timeouts, repetitions, and answers that are late or wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from connected import connected
from limits import HANG, remains
from scripted import Fault, ScriptedChronyd, Transport, in_turn, script
from scripted.faults import at, delay, dies, drip, drop, duplicate, honest, on
from scripted.wire import SERVERSTATS, Command, ntp_source, tracking
from surroundings import both

import pychrony
from pychrony import ChronyConnection, ChronyConnectionError, ChronyTimeoutError


@contextmanager
def no_longer_than(limit: float, *, at_least: float = 0.0) -> Iterator[None]:
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert at_least <= took < limit


def sources_at(*addresses: str) -> dict[Command, Any]:
    return script([ntp_source(address) for address in addresses])


# How long a call waits.


def connection_with(connection: ChronyConnection, timeout: float) -> ChronyConnection:
    """The same connection, with more patience."""
    connection._timeout = int(timeout * 1e9)
    return connection


@both
def test_the_timeout_is_for_all_records_of_a_list_together(transport: Transport) -> None:
    sources = sources_at(*(f"192.0.2.{number}" for number in range(1, 100)))
    with (
        connected(sources, transport, fault=delay(0.15), timeout=0.25) as (_, connection),
        no_longer_than(HANG, at_least=0.25),
        pytest.raises(ChronyTimeoutError),
    ):
        connection.get_sources()


def test_no_timeout_waits_until_chronyd_answers() -> None:
    beyond_the_default = 5.2
    with ScriptedChronyd(fault=delay(beyond_the_default)) as chronyd:
        assert pychrony.get_tracking(chronyd.address, timeout=None).stratum == 3


@pytest.mark.parametrize("timeout", [1e-9, 1e-300, 1e9])
def test_the_least_and_the_longest_timeout_work(timeout: float) -> None:
    with ScriptedChronyd() as chronyd, no_longer_than(HANG):
        try:
            assert pychrony.get_tracking(chronyd.address, timeout=timeout).stratum == 3
        except ChronyTimeoutError:
            assert timeout < 1


@both
def test_an_answer_that_comes_twice_is_not_taken_for_the_next(transport: Transport) -> None:
    strata = [tracking(stratum=stratum) for stratum in range(1, 16)]
    answers = {Command.TRACKING: in_turn(*strata)}
    with connected(answers, transport, fault=duplicate) as (_, connection):
        read = [connection.get_tracking().stratum for _ in strata]
    assert read == list(range(1, 16))


@both
@pytest.mark.parametrize("fault", [drop, drip(0.01)], ids=["silence", "junk"])
def test_a_wait_costs_no_processor_time(fault: Fault, transport: Transport) -> None:
    with ScriptedChronyd(transport=transport, fault=fault) as chronyd:
        before = time.thread_time()
        with pytest.raises(ChronyTimeoutError):
            pychrony.get_sources(chronyd.address, timeout=0.5)
        assert time.thread_time() - before < 0.15


# Lists that change while they are read.


# chronyd restarts.


@both
def test_a_chronyd_that_stops_within_a_call_is_waited_for(transport: Transport) -> None:
    listed = sources_at("192.0.2.1", "192.0.2.2")
    with connected(listed, transport, timeout=3) as (chronyd, connection):
        connection.get_sources()
        chronyd.fault = at({1}, dies(chronyd))
        back = threading.Timer(0.3, chronyd.start)
        back.start()
        read = connection.get_sources()
        back.join()
    assert [record.address for record in read] == ["192.0.2.1", "192.0.2.2"]


def test_a_chronyd_that_stops_while_its_answer_is_awaited_is_not_called_silent() -> None:
    with connected(transport="unix", fault=delay(0.5), timeout=1) as (chronyd, connection):
        connection.get_tracking()  # so slow that it repeats nothing for longer than its timeout
        chronyd.fault = dies(chronyd)
        with pytest.raises(ChronyConnectionError, match="no such file or directory") as raised:
            connection.get_tracking()
    assert not isinstance(raised.value, ChronyTimeoutError)


def test_another_version_of_chronyd_may_come_back() -> None:
    with connected(transport="unix") as (chronyd, connection):
        for reply in (25, 14, 22, 24, 25):
            chronyd.restart(script(None, SERVERSTATS[reply](received_ntp_requests=reply)))
            read = connection.get_server_stats()
            assert read.ntp_requests == reply
            assert (read.nts_ke_connections is None) is (reply == 14)


# Remains of one call do not affect the next.


@pytest.mark.parametrize("command", [Command.SOURCESTATS, Command.AUTHDATA, Command.NTPDATA])
def test_a_call_that_timed_out_half_way_does_not_spoil_the_next(command: Command) -> None:
    methods = ("get_auth_data", "get_ntp_data", "get_sources", "get_tracking")
    with connected(transport="unix") as (chronyd, connection):
        right = {method: getattr(connection, method)() for method in methods}
        for failing in ("get_auth_data", "get_ntp_data"):
            for method in methods:
                chronyd.fault = on(command, drop)
                connection_with(connection, 0.02)
                with suppress(ChronyTimeoutError):
                    assert getattr(connection, failing)() == right[failing]
                chronyd.fault = honest
                connection_with(connection, HANG)
                assert getattr(connection, method)() == right[method]


def test_answers_that_come_after_their_call_are_not_taken_for_those_of_the_next() -> None:
    numbered = {Command.TRACKING: in_turn(*(tracking(stratum=n) for n in range(1, 16)))}
    with connected(numbered, "unix", fault=delay(0.1), timeout=0.02) as (chronyd, connection):
        for _ in range(3):
            with suppress(ChronyTimeoutError):  # none if this machine stood still
                connection.get_tracking()
        asked = sum(request.command is Command.TRACKING for request in chronyd.requests)
        connection_with(connection, HANG)
        assert connection.get_tracking().stratum > asked


# A socket whose other end is full.


def test_requests_wait_while_chronyds_queue_is_full() -> None:
    """A Unix socket takes some requests; send() would block at the next one."""
    gate = threading.Event()

    def held(request: Any) -> Any:
        gate.wait(HANG)
        return tracking()

    with (
        ScriptedChronyd({Command.TRACKING: held}, "unix") as chronyd,
        ThreadPoolExecutor(40) as pool,
    ):
        calls = [
            pool.submit(pychrony.get_tracking, chronyd.address, timeout=HANG) for _ in range(40)
        ]
        time.sleep(0.3)  # for the queue to fill
        with no_longer_than(HANG), pytest.raises(ChronyTimeoutError):
            pychrony.get_tracking(chronyd.address, timeout=0.2)
        assert not any(call.done() for call in calls)
        gate.set()
        assert {call.result(HANG).stratum for call in calls} == {3}


def test_a_chronyd_that_reads_nothing_more_is_a_timeout() -> None:
    with ScriptedChronyd(transport="unix") as chronyd:
        chronyd.stop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
            deaf.bind(chronyd.address)
            with no_longer_than(HANG):
                for _ in range(15):  # more than the kernel keeps for one that does not read
                    with pytest.raises(ChronyTimeoutError):
                        pychrony.get_tracking(chronyd.address, timeout=0.01)


@pytest.mark.parametrize("method", ["get_tracking", "get_sources", "get_ntp_data"])
def test_an_answer_that_chronyd_could_not_send_is_asked_for_again(method: str) -> None:
    """If other clients do not read theirs, its send buffer is full, even for a Unix socket."""
    sources = script([ntp_source(f"192.0.2.{n}") for n in range(1, 6)])
    with connected(sources, "unix") as (_, connection):
        right = getattr(connection, method)()
    for lost in range(3):
        with connected(sources, "unix", fault=at({lost}, drop)) as (_, connection):
            assert getattr(connection, method)() == right


def test_a_slow_chronyd_costs_no_further_sockets_and_requests() -> None:
    """Answers are seldom lost on a Unix socket, and each further socket takes milliseconds."""
    with connected(transport="unix") as (chronyd, connection):
        connection.get_tracking()
        used = {*remains(chronyd.address)}
        chronyd.requests.clear()
        chronyd.fault = delay(1.5)
        assert connection.get_tracking().stratum == 3
        assert {*remains(chronyd.address)} == used
        # Empty datagrams find out whether chronyd is still there.
        assert len([request for request in chronyd.requests if request.raw]) == 1
        assert len(chronyd.requests) > 1
