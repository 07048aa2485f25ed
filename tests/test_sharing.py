"""Tests connections that threads, forked processes and signal handlers share."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from textwrap import dedent
from typing import Any

import pytest
from scripted import ScriptedChronyd, Transport, delay, drop, honest, script
from scripted.wire import authdata, ntp_source, ntpdata, source, tracking
from surroundings import both

import pychrony
from pychrony import ChronyConnection, ChronyConnectionError, ChronyTimeoutError

HANG = 30.0  # seconds: what must end has ended by then, on any machine
THREADS = 16


def numbered(count: int, first: int = 1) -> dict[Any, Any]:
    """A chronyd with sources that all differ in each report."""
    return script(
        [
            ntp_source(
                f"192.0.2.{number}",
                source(reachability=number),
                authdata(mode=1, key_type=1, key_id=number),
                ntpdata(transmitted_messages=number),
            )
            for number in range(first, first + count)
        ],
        tracking(stratum=first % 16, address=f"192.0.2.{first}"),
    )


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# Threads.


QUESTIONS: list[Callable[[ChronyConnection], Any]] = [
    ChronyConnection.get_tracking,
    ChronyConnection.get_sources,
    ChronyConnection.get_source_stats,
    ChronyConnection.get_select_data,
    ChronyConnection.get_auth_data,
    ChronyConnection.get_ntp_data,
    ChronyConnection.get_server_stats,
    lambda connection: connection.get_report("ntpdata"),
]


@both
def test_threads_share_a_connection_and_each_gets_what_it_asked_for(transport: Transport) -> None:
    with (
        ScriptedChronyd(numbered(9), transport) as chronyd,
        ChronyConnection(chronyd.address, timeout=HANG) as connection,
    ):
        right = [question(connection) for question in QUESTIONS]
        assert len({repr(answer) for answer in right}) == len(QUESTIONS)
        start = threading.Barrier(THREADS)

        def ask(thread: int) -> list[int]:
            start.wait(HANG)
            turns = [(thread + turn) % len(QUESTIONS) for turn in range(24)]
            return [turn for turn in turns if QUESTIONS[turn](connection) != right[turn]]

        with ThreadPoolExecutor(THREADS) as pool:
            assert list(pool.map(ask, range(THREADS))) == [[]] * THREADS
        assert connection.address == chronyd.address


def test_threads_with_connections_of_their_own_do_not_mix_them_up() -> None:
    """libchrony writes all addresses of all sessions to the same memory."""

    def ask(thread: int) -> list[Any]:
        first = 1 + 14 * thread
        with (
            ScriptedChronyd(numbered(14, first), "unix") as chronyd,
            ChronyConnection(chronyd.address, timeout=HANG) as connection,
        ):
            expected = [f"192.0.2.{number}" for number in range(first, first + 14)]
            for _ in range(5):
                found = [
                    [record.address for record in connection.get_sources()],
                    [record.address for record in connection.get_auth_data()],
                    [record.remote_address for record in connection.get_ntp_data()],
                    [record.key_id for record in connection.get_auth_data()],
                ]
                if found != [expected] * 3 + [list(range(first, first + 14))]:
                    return found
        return []

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(ask, range(THREADS))) == [[]] * THREADS


def test_threads_survive_restarts_of_chronyd_together() -> None:
    with (
        ScriptedChronyd(numbered(5), "unix") as chronyd,
        ChronyConnection(chronyd.address, timeout=HANG) as connection,
    ):
        over = threading.Event()

        def ask(_: int) -> set[str]:
            seen = set()
            while not over.is_set():
                try:
                    seen.add(repr([record.reachability for record in connection.get_sources()]))
                except ChronyConnectionError as error:
                    seen.add(errno.errorcode[error.errno or 0])
            return seen

        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ask, number) for number in range(8)]
            for crash in (False, True, False, True):
                time.sleep(0.1)
                chronyd.restart(crash=crash)
            time.sleep(0.1)
            over.set()
            seen = {answer for call in answers for answer in call.result(HANG)}
        while_chronyd_was_away = {"ENOENT", "ECONNREFUSED"}
        assert seen - while_chronyd_was_away == {"[1, 2, 3, 4, 5]"}
        assert len(connection.get_sources()) == 5


def test_a_call_that_waits_does_not_hold_up_another() -> None:
    with (
        ScriptedChronyd(fault=drop) as chronyd,
        ChronyConnection(chronyd.address, timeout=2) as connection,
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
    before = len(os.listdir("/proc/self/fd"))
    with ScriptedChronyd(transport=transport, fault=drop) as chronyd:
        connection = ChronyConnection(chronyd.address, timeout=None)
        with connection, ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(connection.get_sources) for _ in range(4)]
            wait_until(lambda: len({request.client for request in chronyd.requests}) == 4)
            connection.close()
            for call in calls:
                with pytest.raises(ChronyConnectionError, match="closed by another thread"):
                    call.result(HANG)
            with pytest.raises(RuntimeError):
                connection.get_sources()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_connection_may_be_closed_and_opened_while_others_use_it() -> None:
    with ScriptedChronyd(numbered(3), "unix") as chronyd:
        connection = ChronyConnection(chronyd.address, timeout=HANG)
        over = threading.Event()

        def ask(_: int) -> set[Any]:
            seen: set[Any] = set()
            while not over.is_set():
                try:
                    seen.add(tuple(record.reachability for record in connection.get_sources()))
                except (RuntimeError, ChronyConnectionError) as error:
                    seen.add(str(error).partition(":")[0])
            return seen

        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(ask, number) for number in range(4)]
            for _ in range(40):
                with connection:
                    connection.get_tracking()
            over.set()
            seen = set().union(*(answer.result(HANG) for answer in answers))
    assert seen <= {
        (1, 2, 3),
        "this ChronyConnection is not open",
        f"asking {chronyd.address}",
    }


# Processes.


def child(code: str, *arguments: str) -> str:
    """Run a program, which must end without complaints; return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def chronyd(request: pytest.FixtureRequest) -> Iterator[ScriptedChronyd]:
    with ScriptedChronyd(numbered(9), getattr(request, "param", "unix")) as chronyd:
        yield chronyd


FORK = """
    import os, sys, pychrony

    def in_child(function):
        process = os.fork()
        if process == 0:
            try:
                function()
                os._exit(0)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        return process

    def succeeded(process):
        return os.waitpid(process, 0)[1] == 0
    """


@pytest.mark.parametrize("chronyd", ["udp", "unix"], indirect=True)
def test_parent_and_child_both_go_on_after_a_fork(chronyd: ScriptedChronyd) -> None:
    """Neither process may take the other's answers or repeat its sequence numbers."""
    code = (
        FORK
        + """
    with pychrony.ChronyConnection(sys.argv[1], timeout=30) as connection:
        right = connection.get_sources(), connection.get_tracking(), connection.get_auth_data()

        def ask():
            for _ in range(20):
                assert connection.get_sources() == right[0]
                assert connection.get_tracking() == right[1]
                assert connection.get_auth_data() == right[2]

        processes = [in_child(ask) for _ in range(3)]
        ask()
        print(all([succeeded(process) for process in processes]))
        ask()
        """
    )
    assert child(code, chronyd.address) == "True\n"
    sequences = [request.sequence for request in chronyd.requests if request.raw]
    by_chance = 2  # of some thousand among 2**32
    assert len(set(sequences)) >= len(sequences) - by_chance


def test_a_child_may_close_what_its_parent_opened(chronyd: ScriptedChronyd) -> None:
    code = (
        FORK
        + """
    with pychrony.ChronyConnection(sys.argv[1], timeout=30) as connection:
        right = connection.get_sources()
        print(succeeded(in_child(connection.close)))
        assert connection.get_sources() == right

        def close_what_it_used():
            connection.get_sources()
            connection.close()

        print(succeeded(in_child(close_what_it_used)))
        assert connection.get_sources() == right
    print(os.listdir(os.path.dirname(sys.argv[1])))
    """
    )
    assert child(code, chronyd.address) == "True\nTrue\n['chronyd.sock']\n"


def test_a_child_ends_without_a_word_about_its_parents_connections(
    chronyd: ScriptedChronyd,
) -> None:
    code = (
        FORK
        + """
    import warnings
    warnings.simplefilter("always")
    connection = pychrony.ChronyConnection(sys.argv[1], timeout=30).__enter__()
    connection.get_sources()
    process = os.fork()
    if process:
        print(succeeded(process), len(connection.get_sources()))
        connection.close()
    else:
        sys.exit()
    """
    )
    assert child(code, chronyd.address) == "True 9\n"


def test_a_fork_while_other_threads_are_in_calls_is_safe(chronyd: ScriptedChronyd) -> None:
    code = (
        FORK
        + """
    import threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
    with pychrony.ChronyConnection(sys.argv[1], timeout=30) as connection:
        right = connection.get_sources()
        over = threading.Event()

        def ask():
            while not over.is_set():
                assert connection.get_sources() == right

        def ask_once():
            assert connection.get_sources() == right
            assert pychrony.get_sources(sys.argv[1], timeout=30) == right

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        print(all([succeeded(in_child(ask_once)) for _ in range(20)]))
        over.set()
        for thread in threads:
            thread.join()
    """
    )
    assert child(code, chronyd.address) == "True\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_ask_for_themselves(chronyd: ScriptedChronyd, method: str) -> None:
    code = """
    import multiprocessing, os, sys, pychrony
    def ask(address):
        return [record.address for record in pychrony.get_sources(address, timeout=30)]
    if __name__ == "__main__":
        with pychrony.ChronyConnection(sys.argv[1]) as connection:
            right = ask(sys.argv[1])
            with multiprocessing.get_context(sys.argv[2]).Pool(3) as pool:
                read = pool.map(pychrony.get_sources, [sys.argv[1]] * 12)
                assert all(r == connection.get_sources() for r in read)
                pool.close()
                pool.join()
        print(len(read), os.listdir(os.path.dirname(sys.argv[1])))
    """
    assert child(code, chronyd.address, method) == "12 ['chronyd.sock']\n"


def test_a_program_started_by_another_inherits_no_socket(chronyd: ScriptedChronyd) -> None:
    code = """
    import subprocess, sys, pychrony
    with pychrony.ChronyConnection(sys.argv[1], timeout=30) as connection:
        connection.get_sources()
        listing = subprocess.run(
            ["ls", "-l", "/proc/self/fd"],
            close_fds=False, capture_output=True, text=True, check=True,
        ).stdout
        assert "pipe" in listing
        print("socket" in listing, "eventpoll" in listing)
    """
    assert child(code, chronyd.address) == "False False\n"


def test_a_timed_out_call_in_one_thread_leaves_the_others_right() -> None:
    with (
        ScriptedChronyd(numbered(9), "unix") as chronyd,
        ChronyConnection(chronyd.address, timeout=HANG) as patient,
    ):
        right = patient.get_sources()
        over = threading.Event()

        def hurry() -> None:
            with ChronyConnection(chronyd.address, timeout=0.0005) as hasty:
                while not over.is_set():
                    with suppress(ChronyTimeoutError):
                        assert hasty.get_sources() == right

        with ThreadPoolExecutor(2) as pool:
            hasty = [pool.submit(hurry) for _ in range(2)]
            for _ in range(30):
                assert patient.get_sources() == right
            over.set()
            for call in hasty:
                call.result(HANG)
