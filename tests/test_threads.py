"""Tests connections that threads share, and threads that each have their own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from operator import methodcaller
from typing import Any

import pytest
from connected import connected
from limits import HANG, LONG, meanwhile, nothing_left, wait_until
from methods import METHODS
from programs import output
from scripted import ScriptedChronyd, Transport, script, wire
from scripted.faults import delay, drop, duplicate, honest, stale
from scripted.wire import Command
from surroundings import both

import pychrony
from pychrony import ChronyConnection, ChronyConnectionError, ChronyTimeoutError

THREADS = 16
QUERIES = 100_000 if LONG else 3_000


def chronyd_of(number: int, transport: Transport) -> ScriptedChronyd:
    """A chronyd whose answers all tell its number."""
    known = [
        wire.ntp_source(
            f"198.51.{number}.{source}",
            wire.sourcestats(samples=100 * number + source),
            wire.authdata(mode=1, key_type=1, key_id=100 * number + source),
            wire.ntpdata(transmitted_messages=100 * number + source),
        )
        for source in range(1, 4)
    ]
    records = wire.tracking(stratum=number), wire.serverstats(received_ntp_requests=number)
    return ScriptedChronyd(script(known, *records), transport)


READS = [*map(methodcaller, METHODS.values()), methodcaller("get_report", "selectdata")]


def right_answers(chronyd: ScriptedChronyd) -> list[Any]:
    """Make all calls one after the other; the answers of each `chronyd_of()` are different."""
    with ChronyConnection(chronyd.address, timeout=HANG) as connection:
        return [read(connection) for read in READS]


def check(connection: ChronyConnection, right: list[Any], chance: random.Random) -> int:
    """Make one call, and compare; return the minimum number of requests that it takes."""
    read, expected = chance.choice([*zip(READS, right, strict=True)])
    answer = read(connection)
    assert answer == expected
    return len(answer) + 1 if isinstance(answer, list) else 1


@both
def test_threads_with_a_connection_each_get_the_answers_of_their_chronyd(
    transport: Transport,
) -> None:
    def ask(chronyd: ScriptedChronyd, right: list[Any]) -> None:
        chance, asked = random.Random(chronyd.address), 0
        with ChronyConnection(chronyd.address, timeout=HANG) as connection:
            while asked < QUERIES // THREADS:
                asked += check(connection, right, chance)

    with ExitStack() as stack, ThreadPoolExecutor(THREADS) as threads:
        numbers = range(1, THREADS + 1)
        chronyds = [stack.enter_context(chronyd_of(number, transport)) for number in numbers]
        right = [*map(right_answers, chronyds)]
        assert [tracking.stratum for tracking, *_ in right] == [*numbers]
        for _ in threads.map(ask, chronyds, right):
            pass


@pytest.mark.parametrize("fault", [honest, duplicate, stale(), delay(0.001)])
@both
def test_threads_that_share_a_connection_get_the_answers_to_their_own_questions(
    transport: Transport, fault: object
) -> None:
    share = QUERIES // THREADS // (1 if fault is honest else 8)

    def ask(number: int) -> None:
        chance, asked = random.Random(number), 0
        while asked < share:
            asked += check(connection, right, chance)

    with chronyd_of(7, transport) as chronyd, nothing_left(chronyd.address):
        right = right_answers(chronyd)
        chronyd.fault = fault  # type: ignore[assignment]
        with (
            ChronyConnection(chronyd.address, timeout=HANG) as connection,
            ThreadPoolExecutor(THREADS) as threads,
        ):
            for future in [threads.submit(ask, number) for number in range(THREADS)]:
                future.result()


def test_threads_that_share_a_connection_find_the_second_address_of_a_host_together(
    resolve_to: Callable[..., None],
) -> None:
    resolve_to("127.0.0.2", "127.0.0.1")
    with chronyd_of(5, "udp") as there:
        port = there.address.rpartition(":")[2]
        for _ in range(100 if LONG else 20):
            with (
                ChronyConnection(f"two.example:{port}", timeout=HANG) as connection,
                ThreadPoolExecutor(8) as threads,
            ):
                asking = [threads.submit(connection.get_tracking) for _ in range(8)]
                assert {future.result().stratum for future in asking} == {5}


def test_calls_of_many_threads_end_near_their_timeout() -> None:
    """Not exactly, as other programs need the processor, too."""

    def ask(address: str) -> list[float]:
        late = []
        for _ in range(10):
            start = time.monotonic()
            with suppress(ChronyTimeoutError), ChronyConnection(address, timeout=0.05) as asking:
                start = time.monotonic()
                asking.get_sources()
            late.append(time.monotonic() - start - 0.05)
        return late

    with chronyd_of(6, "unix") as silent, ThreadPoolExecutor(THREADS) as threads:
        silent.fault = drop
        late = [one for found in threads.map(ask, THREADS * [silent.address]) for one in found]
    assert sorted(late)[len(late) // 2] < HANG / 10


@contextmanager
def asked_meanwhile(connection: ChronyConnection) -> Iterator[set[str]]:
    """Let threads read the statistics until the end of the block; collect samples and errors."""
    seen: set[str] = set()

    def ask() -> None:
        try:
            seen.add(str([stats.samples for stats in connection.get_source_stats()]))
        except (RuntimeError, ChronyConnectionError) as error:
            seen.add(str(error).partition(";")[0])

    with meanwhile(ask, 8):
        yield seen


def test_threads_survive_restarts_of_chronyd_together() -> None:
    with (
        chronyd_of(5, "unix") as chronyd,
        ChronyConnection(chronyd.address, timeout=HANG) as connection,
    ):
        with asked_meanwhile(connection) as seen:
            for crash in (False, True, False, True):
                time.sleep(0.1)
                chronyd.restart(crash=crash)
            time.sleep(0.1)
        away = ": no such file or directory", ": connection refused"
        assert {one for one in seen if not one.endswith(away)} == {"[501, 502, 503]"}
        assert len(connection.get_sources()) == 3


def test_a_call_that_waits_does_not_hold_up_another() -> None:
    with (
        connected(fault=drop, timeout=2) as (chronyd, connection),
        ThreadPoolExecutor(2) as pool,
    ):
        waiting = pool.submit(connection.get_sources)
        wait_until(lambda: len(chronyd.requests) > 0)
        chronyd.fault = honest
        assert pool.submit(connection.get_tracking).result(HANG).stratum == 3
        assert not waiting.done()
        assert len(waiting.result(HANG)) == 2


def test_other_threads_run_while_a_call_waits() -> None:
    with ScriptedChronyd(fault=delay(0.4)) as chronyd, ThreadPoolExecutor(1) as pool:
        call = pool.submit(pychrony.get_tracking, chronyd.address, timeout=HANG)
        count = 0
        while not call.done():
            count += 1
            time.sleep(0.001)
        assert call.result().stratum == 3
    assert count > 10


@both
def test_closing_a_connection_ends_the_calls_of_other_threads(transport: Transport) -> None:
    with ScriptedChronyd(transport=transport, fault=drop) as chronyd, nothing_left(chronyd.address):
        connection = ChronyConnection(chronyd.address, timeout=None)
        with ThreadPoolExecutor(4) as pool, connection:
            asks = connection.get_sources, connection.get_tracking, connection.get_activity
            calls = [pool.submit(ask) for ask in asks]
            asked = {Command.N_SOURCES, Command.TRACKING, Command.ACTIVITY}
            wait_until(lambda: {request.command for request in chronyd.requests} >= asked)
            connection.close()
            for call in calls:
                with pytest.raises(ChronyConnectionError, match="closed by another thread"):
                    call.result(HANG)
            with pytest.raises(RuntimeError):
                connection.get_sources()


def test_of_two_threads_that_open_a_connection_one_succeeds() -> None:
    with nothing_left(), chronyd_of(1, "unix") as chronyd, ThreadPoolExecutor(2) as threads:
        for _ in range(100):
            connection, together = ChronyConnection(chronyd.address), threading.Barrier(2)

            def enter(connection: ChronyConnection, together: threading.Barrier) -> bool:
                together.wait()
                try:
                    connection.__enter__()
                except RuntimeError:
                    return False
                return True

            entering = [threads.submit(enter, connection, together) for _ in range(2)]
            assert sorted(entered.result() for entered in entering) == [False, True]
            connection.close()


def test_a_connection_may_be_closed_and_opened_while_others_use_it() -> None:
    with chronyd_of(3, "unix") as chronyd:
        connection = ChronyConnection(chronyd.address, timeout=HANG)
        with asked_meanwhile(connection) as seen:
            for _ in range(40):
                with connection:
                    connection.get_tracking()
    assert seen <= {
        "[301, 302, 303]",
        "this ChronyConnection is not open: use it in a 'with' block",
        f"asking {chronyd.address}: closed by another thread",
    }


def test_threads_may_make_the_first_calls_of_a_program_together() -> None:
    code = """
    import sys, threading, pychrony
    from concurrent.futures import ThreadPoolExecutor
    start = threading.Barrier(16)
    def ask(number):
        start.wait()
        pychrony.get_all(address=sys.argv[1], timeout=30)
        return pychrony.get_tracking(sys.argv[1], timeout=30).stratum
    with ThreadPoolExecutor(16) as threads:
        print(set(threads.map(ask, range(16))))
    """
    with chronyd_of(4, "udp") as chronyd:
        for _ in range(20 if LONG else 3):
            assert output(code, chronyd.address) == "{4}\n"
