"""Tests that no socket, folder or memory is left behind, however a connection ends."""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from connected import connected
from limits import HANG, nothing_left, remains
from programs import run
from scripted import ScriptedChronyd, Transport, changing, script
from scripted.faults import delay, drop
from scripted.wire import Command, ntp_source, refclock, selectdata
from surroundings import both

from pychrony import ChronyConnection, ChronyDataError, Source
from pychrony._io._shim import lib
from pychrony._io.client import Client, new_loop
from pychrony._io.questions import reading

MANY = script([ntp_source(f"192.0.2.{number}") for number in range(1, 60)])


@both
def test_a_connection_that_is_dropped_warns_and_leaves_nothing_behind(transport: Transport) -> None:
    with ScriptedChronyd(transport=transport) as chronyd, nothing_left(chronyd.address):
        connections = [ChronyConnection(chronyd.address).__enter__()]
        connections[0].get_sources()
        with pytest.warns(ResourceWarning) as caught:
            connections.clear()
        (warning,) = caught
        assert str(warning.message) == (
            f"unclosed ChronyConnection to {chronyd.address}: use a 'with' block, or close()"
        )


@pytest.mark.filterwarnings("error")
def test_a_connection_that_was_closed_is_dropped_without_a_word() -> None:
    with ScriptedChronyd() as chronyd:
        connection = ChronyConnection(chronyd.address).__enter__()
        connection.close()
        del connection
        ChronyConnection(chronyd.address)
        gc.collect()


@both
@pytest.mark.parametrize("way", ["", "raise SystemExit(0)", "connection = [connection]"])
def test_a_program_that_ends_without_closing_warns_and_leaves_nothing_behind(
    way: str, transport: Transport
) -> None:
    code = f"""
    import sys, pychrony
    connection = pychrony.ChronyConnection(sys.argv[1], timeout=30).__enter__()
    connection.get_sources()
    {way}
    """
    with ScriptedChronyd(transport=transport) as chronyd:
        done = run(code, chronyd.address, warnings="always")
        assert done.returncode == 0
        assert done.stderr.count("ResourceWarning: unclosed ChronyConnection to ") == 1
        assert remains(chronyd.address) == []


def test_a_program_that_ends_within_a_call_leaves_nothing_behind() -> None:
    code = """
    import sys, pychrony
    with pychrony.ChronyConnection(sys.argv[1], timeout=None) as connection:
        connection.get_sources()
    """
    with ScriptedChronyd(transport="unix", fault=drop) as chronyd:
        program = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", dedent(code), chronyd.address],
            stderr=subprocess.PIPE,
            text=True,
        )
        while not chronyd.requests and program.poll() is None:
            time.sleep(0.01)
        program.send_signal(signal.SIGINT)
        errors = program.communicate(timeout=60)[1]
        assert errors.splitlines()[-1] == "KeyboardInterrupt"
        assert remains(chronyd.address) == []


def test_running_out_of_file_descriptors_is_told_and_leaves_nothing_behind() -> None:
    code = """
    import errno, os, resource, sys, pychrony

    def limit(more):
        used = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    right = pychrony.get_sources(sys.argv[1], timeout=30)
    beside = os.path.dirname(sys.argv[1])
    for more in range(8):
        limit(more)
        try:
            read = pychrony.get_sources(sys.argv[1], timeout=30)
        except pychrony.ChronyConnectionError as error:
            print(more, errno.errorcode[error.errno], "file" in str(error))
        else:
            print(more, read == right)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert pychrony.get_sources(sys.argv[1], timeout=30) == right
        if sys.argv[1].startswith("/"):
            assert os.listdir(beside) == ["chronyd.sock"], os.listdir(beside)
    """
    for transport in ("udp", "unix"):
        with ScriptedChronyd(MANY, transport) as chronyd:
            done = run(code, chronyd.address)
        assert done.stderr == ""
        said = done.stdout.splitlines()
        assert said[0] == "0 EMFILE True"
        assert said[-1] == "7 True"
        assert {line.partition(" ")[2] for line in said} == {"EMFILE True", "True"}


def test_running_out_of_file_descriptors_while_connected_is_survived() -> None:
    code = """
    import errno, os, resource, sys, pychrony
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pychrony.ChronyConnection(sys.argv[1], timeout=30) as connection:
        connection.get_tracking()
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
        print(len(connection.get_sources()), len(connection.get_auth_data()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        print(len(connection.get_sources()), len(connection.get_auth_data()))
    """
    with ScriptedChronyd(MANY, "unix") as chronyd:
        done = run(code, chronyd.address)
        assert (done.stdout, done.stderr) == ("59 59\n59 59\n", "")
        assert remains(chronyd.address) == []


def test_many_kept_connections_share_a_budget_of_further_sockets() -> None:
    """A quarter of all descriptors, and the first socket of each connection always."""
    code = """
    import os, resource, sys, pychrony
    from contextlib import ExitStack
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    before = len(os.listdir("/proc/self/fd"))
    with ExitStack() as stack:
        connections = [
            stack.enter_context(pychrony.ChronyConnection(sys.argv[1], timeout=30))
            for _ in range(40)
        ]
        for _ in range(2):
            for connection in connections:
                assert len(connection.get_sources()) == 59
        used = len(os.listdir("/proc/self/fd")) - before
        print(used - 3 * 40)  # of each: its socket, /dev/urandom, epoll
    print(len(os.listdir("/proc/self/fd")) - before)
    """
    for transport in ("udp", "unix"):
        with ScriptedChronyd(MANY, transport) as chronyd:
            done = run(code, chronyd.address)
            assert done.stderr == ""
            further, left = map(int, done.stdout.split())
            assert 2 * 8 <= further <= 512 / 4
            assert left == 0
            assert remains(chronyd.address) == []


def test_a_lowered_limit_of_descriptors_is_no_reason_to_spin() -> None:
    code = """
    import resource, sys, time, pychrony
    with pychrony.ChronyConnection(sys.argv[1], timeout=1) as connection:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        for limit in (512, 0):  # the first call imports what the error takes
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            used = time.process_time()
            try:
                connection.get_tracking()
            except pychrony.ChronyTimeoutError:
                used = time.process_time() - used
        print(used < 0.3)
    """
    with ScriptedChronyd(transport="udp", fault=drop) as chronyd:
        done = run(code, chronyd.address)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_closed_socket_that_a_new_process_still_holds_is_not_heard_of() -> None:
    """Until its exec, a new process has a copy of every socket, which may still be answered."""
    with ScriptedChronyd(fault=delay(0.3)) as chronyd:
        loop = new_loop()
        kept, before = Client(chronyd.address, loop), sockets()
        client = Client(chronyd.address, loop)
        [copy] = [os.dup(descriptor) for descriptor in sockets() - before]
        client.start(reading(Source), -1)
        client.close()
        assert select.select([copy], [], [], HANG)[0], "no late answer came"
        assert select.select([lib.shim_loop_fd(loop)], [], [], 0)[0] == []
        os.close(copy)
        kept.close()


def sockets() -> set[int]:
    """Return the descriptors of this process that are sockets."""
    return {
        int(entry.name)
        for entry in Path("/proc/self/fd").iterdir()
        if entry.is_symlink() and os.readlink(entry).startswith("socket:")
    }


def test_an_error_that_is_kept_in_a_cycle_is_collected() -> None:
    """Its traceback refers to what decodes records; the collector must cope with that."""
    wrong = {**script(), Command.SELECTDATA: selectdata(authentication=255)}
    with connected(wrong) as (_, connection):
        for _ in range(10):
            with pytest.raises(ChronyDataError) as raised:
                connection.get_select_data()
            error = raised.value
            error.args = (error,)
            del raised, error
            gc.collect()
        assert connection.get_tracking().stratum == 3


def test_a_call_whose_sources_keep_changing_uses_its_memory_again() -> None:
    """Each request finds other sources: servers, or reference clocks, whose records are shorter."""
    scripts = [
        script([refclock(f"P{turn}") if turn % 2 else ntp_source(f"192.0.2.{turn}")] * 5)
        for turn in range(101)
    ]
    with ScriptedChronyd(changing(scripts, lambda number: number % 101)) as chronyd:
        client = Client(chronyd.address, new_loop())
        client.start(reading(Source), -1, round(HANG * 1e9))
        assert client.batch.asks[0].error == lib.SHIM_CHANGING  # after 1,000 rounds
        assert client.batch.size < 4096
        client.close()
