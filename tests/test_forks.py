"""Tests that a forked child shares no socket, never hangs and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from textwrap import dedent

import pytest
from limits import HANG, LONG, remains
from scripted import ScriptedChronyd, script
from scripted.wire import ntp_source


@pytest.fixture(params=["udp", "unix"])
def chronyd(request: pytest.FixtureRequest) -> Iterator[ScriptedChronyd]:
    many = script([ntp_source(f"192.0.2.{number}") for number in range(1, 40)])
    with ScriptedChronyd(many, request.param) as chronyd:
        yield chronyd


def run(code: str, *arguments: str) -> str:
    """Run a program, which may warn about forks in a process with threads."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=3 * HANG,
    )
    assert done.stderr == ""
    return done.stdout


def test_a_fork_while_another_thread_loads_libchrony_hangs_no_child() -> None:
    code = """
    import os, sys, threading, time, pychrony
    start = threading.Barrier(2)
    def load():
        start.wait()
        pychrony.library_path()
    thread = threading.Thread(target=load)
    thread.start()
    start.wait()
    for _ in range(10):
        child = os.fork()
        if child == 0:
            pychrony.supported_reports()
            os._exit(0)
        end = time.monotonic() + float(sys.argv[1])
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(child, 9)
                print("hangs")
                break
            time.sleep(0.001)
    thread.join()
    """
    for _ in range(30 if LONG else 5):
        assert run(code, str(HANG)) == ""


def test_a_child_keeps_no_descriptor_of_its_parents_threads(chronyd: ScriptedChronyd) -> None:
    code = """
    import os, sys, threading, pychrony
    def kept():
        links = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                pass
        return [l for l in links if "socket" in l or "urandom" in l or "eventpoll" in l]
    over = threading.Event()
    connection = pychrony.ChronyConnection(sys.argv[1], timeout=30).__enter__()
    def ask():
        while not over.is_set():
            connection.get_sources()
            pychrony.get_tracking(sys.argv[1], timeout=30)
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            found = kept()
            os.write(writing, b"%d" % len(found))
            os._exit(0)
        os.waitpid(child, 0)
        print(os.read(reading, 9).decode(), end=" ")
    over.set()
    for thread in threads:
        thread.join()
    connection.close()
    """
    assert set(run(code, chronyd.address).split()) == {"0"}
    assert remains(chronyd.address) == []


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_that_keep_a_connection_leave_no_folder(method: str) -> None:
    code = """
    import multiprocessing, sys, pychrony
    from concurrent.futures import ProcessPoolExecutor
    kept = []
    def ask(address):
        kept.append(pychrony.ChronyConnection(address, timeout=30).__enter__())
        return len(kept[-1].get_sources())
    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[2])
        processes = [context.Process(target=ask, args=sys.argv[1:2]) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            print(*pool.map(ask, sys.argv[1:2] * 4))
    """
    many = script([ntp_source(f"192.0.2.{number}") for number in range(1, 40)])
    with ScriptedChronyd(many, "unix") as chronyd:
        if method == "fork":
            told = run(code, chronyd.address, method)
        else:
            told = as_file(code, chronyd.address, method)
        assert told.split() == ["39"] * 4
        assert remains(chronyd.address) == []


def as_file(code: str, *arguments: str) -> str:
    """Run a program that its workers can import."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(dedent(code))
        file.flush()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", file.name, *arguments],
            capture_output=True,
            text=True,
            timeout=3 * HANG,
        )
    assert done.stderr == ""
    return done.stdout


def test_a_worker_that_uses_its_parents_connection_leaves_no_folder() -> None:
    code = """
    import multiprocessing, sys, pychrony
    connection = pychrony.ChronyConnection(sys.argv[1], timeout=30).__enter__()
    connection.get_sources()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=connection.get_sources)
    process.start()
    process.join()
    print(process.exitcode, len(connection.get_sources()))
    connection.close()
    """
    with ScriptedChronyd(transport="unix") as chronyd:
        assert run(code, chronyd.address) == "0 2\n"
        assert remains(chronyd.address) == []
