"""Tests what happens when memory, descriptors or /dev/urandom are short."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent

import pytest
from relay import Relay
from scripted import Request, ScriptedChronyd, Transport, script
from scripted.wire import Command, ntp_source, source
from surroundings import both

from pychrony.testing import PrivateChronyd

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide /dev/urandom")
MANY = script([ntp_source(f"192.0.2.{number}") for number in range(1, 80)])


@pytest.fixture(scope="module")
def shortage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library that lets allocations and sends fail."""
    library = tmp_path_factory.mktemp("shortage") / "shortage.so"
    compiler = os.environ.get("CC", "cc").split()
    source = Path(__file__).with_name("shortage.c")
    subprocess.run(
        [*compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True
    )
    return library


CONTROL = """
from cffi import FFI  # not every Python has ctypes
ffi = FFI()
ffi.cdef("void let_allocations_fail_after(long number); long allocations_left(void);")
ffi.cdef("void let_sends_fail(long number); long failed_sends(void);")
process = ffi.dlopen(None)
"""
"""What the compiled library can be told."""


def child(code: str, *arguments: str, before: tuple[str, ...] = (), preload: str = "") -> str:
    """Run a program, which must end without complaints; return its output."""
    before_it = os.environ.get("LD_PRELOAD", "")  # such as the sanitizers
    environment = {**os.environ, "LD_PRELOAD": f"{before_it} {preload}"}
    done = subprocess.run(
        [*before, sys.executable, "-c", (CONTROL if preload else "") + dedent(code), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# Memory.

WITHOUT_MEMORY = """
    import asyncio, sys, pychrony
    from pychrony import aio

    def fails(ask):
        try:
            ask()
        except pychrony.ChronyConnectionError as error:
            assert "memory" in str(error), error
            assert "start chronyd" not in str(error), error
            return True
        return False

    def get_many():
        for answer in pychrony.get_many([sys.argv[1]] * 2, timeout=30):
            answer.result()

    async def get_many_awaited():
        async for answer in aio.get_many([sys.argv[1]] * 2, timeout=30):
            answer.result()

    for ask in (
        lambda: pychrony.get_all(address=sys.argv[1], timeout=30),
        lambda: pychrony.get_report("ntpdata", sys.argv[1], timeout=30),
        lambda: asyncio.run(aio.get_sources(sys.argv[1], timeout=30)),
        get_many,
        lambda: asyncio.run(get_many_awaited()),
    ):
        ask()
        enough = 0
        while True:
            process.let_allocations_fail_after(enough)
            failed = fails(ask)
            left = process.allocations_left()
            process.let_allocations_fail_after(-1)
            if not failed and left > 0:
                break
            enough += 1 if enough < 20 else 5
        assert enough > 3
        print("survived")
    """


@both
def test_a_call_without_memory_says_so(shortage: Path, transport: Transport) -> None:
    with ScriptedChronyd(MANY, transport) as chronyd:
        said = child(WITHOUT_MEMORY, chronyd.address, preload=str(shortage))
    assert said == "survived\n" * 5


def test_memory_grows_with_what_has_arrived_not_with_what_is_claimed() -> None:
    code = """
    import resource, sys, pychrony
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    next(pychrony.get_many(sys.argv[1:2], timeout=0.2))
    before = peak()
    for answer in pychrony.get_many(sys.argv[1:] * 50, timeout=1):
        assert isinstance(answer.error, pychrony.ChronyTimeoutError), answer
    print((peak() - before) // 50)
    """

    def only_last(request: Request, reply: bytes, _: int) -> list[tuple[float, bytes]]:
        return [(0, reply)] if request.index in (None, 65535) else []

    claiming = {**MANY, Command.N_SOURCES: 65536, Command.SOURCES: source()}
    with ScriptedChronyd(claiming, fault=only_last) as chronyd:
        kilobytes = int(child(code, chronyd.address))
    assert kilobytes < 250


def test_a_kernel_without_buffers_is_no_reason_to_spin(shortage: Path) -> None:
    code = """
    import sys, time, pychrony
    with pychrony.ChronyConnection(sys.argv[1], timeout=30) as connection:
        connection.get_tracking()
        process.let_sends_fail(20)
        used = time.process_time()
        connection.get_tracking()
        print(process.failed_sends(), time.process_time() - used < 0.1)
        process.let_sends_fail(10**9)
        try:
            pychrony.get_tracking(sys.argv[1], timeout=1)
        except pychrony.ChronyTimeoutError:
            print(process.failed_sends() < 200)
    """
    with ScriptedChronyd() as chronyd:
        assert child(code, chronyd.address, preload=str(shortage)) == "20 True\nTrue\n"


# Descriptors.


def test_daemons_far_away_share_the_sockets_of_an_ordinary_process() -> None:
    """Each could use a socket for each of its sources, but all together may only have 128."""
    code = """
    import resource, sys, pychrony
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    for answer in pychrony.get_many(sys.argv[1:], "sources", timeout=4):
        print(answer.error or len(answer.reports.sources))
    """
    servers = [f"server 127.0.1.{number} offline" for number in range(1, 40)]
    with PrivateChronyd(*servers) as chronyd, ExitStack() as stack:
        relays = [stack.enter_context(Relay(chronyd.command_address, 0.14)) for _ in range(20)]
        assert child(code, *(relay.address for relay in relays)) == "39\n" * 20


# /dev/urandom.


@as_root
@both
def test_a_missing_source_of_random_numbers_is_named(transport: Transport, tmp_path: Path) -> None:
    code = """
    import sys, pychrony
    try:
        pychrony.get_tracking(sys.argv[1])
    except pychrony.ChronyConnectionError as error:
        print("/dev/urandom" in str(error), "start chronyd" in str(error))
    """
    (tmp_path / "shm").mkdir()  # where the scripted chronyd has its socket
    hide = f"mount --rbind /dev/shm {tmp_path}/shm && mount --rbind {tmp_path} /dev"
    before = ("unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh")
    with ScriptedChronyd(transport=transport) as chronyd:
        assert child(code, chronyd.address, before=before) == "True False\n"
