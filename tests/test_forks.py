"""Tests that a forked child has its own sockets, never hangs and leaves nothing behind."""

from __future__ import annotations

import pytest
from limits import HANG, LONG, remains
from programs import output
from scripted import ScriptedChronyd, Transport, script
from scripted.wire import ntp_source
from surroundings import both

MANY = script([ntp_source(f"192.0.2.{number}") for number in range(1, 40)])


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
        assert output(code, str(HANG), warnings="ignore") == ""


def test_a_fork_while_another_thread_imports_the_package_hangs_no_child() -> None:
    code = """
    import os, signal, sys, threading, time, pychrony
    start = threading.Barrier(2)
    def use():
        start.wait()
        pychrony.get_tracking
    thread = threading.Thread(target=use)
    thread.start()
    start.wait()
    time.sleep(float(sys.argv[1]))
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
        pychrony.get_tracking
        os._exit(0)
    thread.join()
    print(os.waitpid(child, 0)[1])
    """
    for pause in (0, 0.003, 0.01):
        assert output(code, str(pause), str(HANG), warnings="ignore") == "0\n"


@both
def test_a_child_keeps_no_descriptor_of_its_parents_threads(transport: Transport) -> None:
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
    with ScriptedChronyd(MANY, transport) as chronyd:
        assert set(output(code, chronyd.address, warnings="ignore").split()) == {"0"}
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
    with ScriptedChronyd(MANY, "unix") as chronyd:
        told = output(code, chronyd.address, method, warnings="ignore")
        assert told.split() == ["39"] * 4
        assert remains(chronyd.address) == []


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
        assert output(code, chronyd.address, warnings="ignore") == "0 2\n"
        assert remains(chronyd.address) == []


@both
def test_parent_and_child_both_go_on_after_a_fork(transport: Transport) -> None:
    """Neither process may take the other's answers or repeat its sequence numbers."""
    code = """
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
    with ScriptedChronyd(MANY, transport) as chronyd:
        assert output(FORK + code, chronyd.address) == "True\n"
    sequences = [request.sequence for request in chronyd.requests if request.raw]
    by_chance = 2  # equal numbers: there are some thousand random ones of 32 bits
    assert len(set(sequences)) >= len(sequences) - by_chance


def test_a_child_may_close_what_its_parent_opened() -> None:
    code = """
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
    with ScriptedChronyd(MANY, "unix") as chronyd:
        assert output(FORK + code, chronyd.address) == "True\nTrue\n['chronyd.sock']\n"


def test_a_child_ends_without_a_word_about_its_parents_connections() -> None:
    code = """
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
    with ScriptedChronyd(MANY, "unix") as chronyd:
        assert output(FORK + code, chronyd.address) == "True 39\n"


def test_a_fork_while_other_threads_are_in_calls_is_safe() -> None:
    code = """
    import threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
    with pychrony.ChronyConnection(sys.argv[1], timeout=30) as connection:
        over = threading.Event()

        # Without a GIL, a child may wait for ever for an object that another thread has locked.
        def read(sources):
            return tuple(source.address for source in sources)

        right = read(connection.get_sources())

        def ask():
            while not over.is_set():
                assert read(connection.get_sources()) == right

        def ask_once():
            assert read(connection.get_sources()) == right
            assert read(pychrony.get_sources(sys.argv[1], timeout=30)) == right

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        print(all([succeeded(in_child(ask_once)) for _ in range(20)]))
        over.set()
        for thread in threads:
            thread.join()
    """
    with ScriptedChronyd(MANY, "unix") as chronyd:
        assert output(FORK + code, chronyd.address) == "True\n"


def test_a_program_started_by_another_inherits_no_socket() -> None:
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
    with ScriptedChronyd(MANY, "unix") as chronyd:
        assert output(code, chronyd.address) == "False False\n"
