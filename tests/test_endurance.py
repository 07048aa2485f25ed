"""Tests that nothing grows with the number of queries, connections or faults."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from limits import HANG, LONG, fds, memory, nothing_left
from scripted import Fault, ScriptedChronyd, Transport, script
from scripted.faults import (
    at,
    delay,
    drip,
    drop,
    duplicate,
    garbage,
    refuse,
    resize,
    stale,
    wrong,
)
from scripted.wire import Command, ntp_source
from surroundings import both

import pychrony
from pychrony import ChronyConnection, ChronyError, LeapStatus
from pychrony.testing import PrivateChronyd

QUERIES = 200_000 if LONG else 5_000
CONNECTIONS = 20_000 if LONG else 300
ROUNDS = 100 if LONG else 1  # of all faults

GROWTH = 2_000_000
"""Bytes that a process may grow by without a leak: 10 for each query of the long run."""


def grown(use: Callable[[int], None], times: int) -> int:
    """Return by how many bytes the process grows, after a warm-up."""
    use(max(times // 10, 1))
    gc.collect()
    before = memory()
    use(times)
    gc.collect()
    return memory() - before


@pytest.fixture(params=["unix", "udp"])
def address(request: pytest.FixtureRequest, chronyd: PrivateChronyd) -> str:
    """A real chronyd, over both transports."""
    return chronyd.address if request.param == "unix" else chronyd.command_address


def test_queries_leave_no_memory_file_or_folder(address: str) -> None:
    def query(times: int) -> None:
        for _ in range(times // 10):
            for _ in range(8):
                assert connection.get_tracking().leap_status is LeapStatus.NORMAL
            assert len(connection.get_sources()) == 1
            assert len(connection.get_report("sources")) == 1
            activity = connection.get_activity()
            assert activity.online + activity.burst_online == 1  # a burst is its beginning

    with nothing_left(address), ChronyConnection(address, timeout=HANG) as connection:
        assert grown(query, QUERIES) < GROWTH


def test_connections_leave_no_memory_file_or_folder(address: str) -> None:
    def connect(times: int) -> None:
        for _ in range(times):
            assert pychrony.get_tracking(address, timeout=HANG).stratum == 6

    with nothing_left(address):
        assert grown(connect, CONNECTIONS) < GROWTH


@both
def test_faults_leave_no_memory_file_or_folder(transport: Transport) -> None:
    def suffer(times: int) -> None:
        for _ in range(times):
            for fault in faults:
                chronyd.fault = fault
                for timeout in (0.01, 0.05):
                    with suppress(ChronyError):
                        pychrony.get_all(address=chronyd.address, timeout=timeout)
                    with suppress(ChronyError):
                        connection.get_ntp_data()
            chronyd.restart()
            chronyd.script = {**script(), Command.N_SOURCES: 50_000}
            with suppress(ChronyError):
                connection.get_sources()
            chronyd.script = known

    faults: list[Fault] = [
        *(drop, delay(0.02), drip(0.001), duplicate, stale(), garbage(), at({1, 4}, drop)),
        *(resize(length) for length in (0, 27, 28, 60, 1500)),
        *(wrong(name) for name in ("version", "command", "reply", "sequence", "status")),
        *(refuse(status) for status in range(1, 22)),
    ]
    known = script([ntp_source(f"192.0.2.{number}") for number in range(1, 30)])
    with (
        ScriptedChronyd(known, transport) as chronyd,
        nothing_left(chronyd.address),
        ChronyConnection(chronyd.address, timeout=0.02) as connection,
    ):
        assert grown(suffer, ROUNDS) < 4 * GROWTH  # the server's own are in there


@both
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_dropped_connections_leave_no_memory_file_or_folder(transport: Transport) -> None:
    def lose(times: int) -> None:
        for _ in range(times):
            connection = ChronyConnection(chronyd.address, timeout=HANG).__enter__()
            connection.get_tracking()
            del connection

    with ScriptedChronyd(script(), transport) as chronyd, nothing_left(chronyd.address):
        lose(10_000 // CONNECTIONS)
        assert grown(lose, CONNECTIONS) < GROWTH + 4_000_000  # the server keeps 10 000 requests


def test_threads_that_come_and_go_leave_no_memory_file_or_folder(address: str) -> None:
    def ask() -> None:
        for _ in range(3):
            connection.get_sources()

    def use(times: int) -> None:
        for _ in range(max(times // 16, 1)):
            threads = [threading.Thread(target=ask) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    before = fds()
    with nothing_left(address), ChronyConnection(address, timeout=HANG) as connection:
        assert grown(use, CONNECTIONS) < GROWTH
        assert fds() - before <= 2 * (16 + 16)
