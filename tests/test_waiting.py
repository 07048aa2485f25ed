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
from loops import ask, each_way
from scripted import Fault, ScriptedChronyd, Transport, in_turn, script
from scripted.faults import at, delay, dies, drip, drop, duplicate
from scripted.wire import Command, ntp_source, tracking
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
@each_way
@pytest.mark.parametrize("fault", [drop, drip(0.01)], ids=["silence", "junk"])
def test_a_wait_costs_no_processor_time(fault: Fault, way: str, transport: Transport) -> None:
    with ScriptedChronyd(transport=transport, fault=fault) as chronyd:
        before = time.thread_time()
        with pytest.raises(ChronyTimeoutError):
            ask(way, "get_sources", chronyd.address, timeout=0.5)
        assert time.thread_time() - before < 0.15


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


# Remains of one call do not affect the next.


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
