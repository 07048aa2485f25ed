"""Tests signals at any point between opening and closing a connection."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from connected import connected
from limits import HANG, LONG, nothing_left, remains
from programs import run
from scripted import ScriptedChronyd, Transport, script
from scripted.faults import delay, drop, honest
from scripted.wire import ntp_source, source
from surroundings import both

import pychrony
from pychrony import ChronyConnection
from pychrony.testing import PrivateChronyd

Arm = Callable[[Callable[..., Any], float, float], None]

MANY = script([ntp_source(f"192.0.2.{n}", source(reachability=n)) for n in range(1, 20)])
with ScriptedChronyd(MANY) as _chronyd:
    SOURCES = pychrony.get_sources(_chronyd.address, timeout=HANG)


class Interruption(BaseException):
    """What a handler raises."""


class Interrupt:
    """A handler that raises an exception, and notes it: the exception gets lost in a finalizer."""

    def __init__(self) -> None:
        self.called = False

    def __call__(self, *_: object) -> None:
        self.called = True
        raise Interruption

    def repeat(self, call: Callable[[], object]) -> None:
        """Make a call until the handler runs.

        The loop is not in the caller, whose `try` would not cover its jump backward: CPython 3.13
        leaves that out, although a handler may run there.
        """
        while not self.called:
            call()


@pytest.fixture(autouse=True)
def _lost_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption may come into a finalizer or a callback of the garbage collector.

    There it has no caller, and pytest's hook would keep all that its frames hold.
    """
    hook = sys.unraisablehook

    def tell_others(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is not Interruption:
            hook(lost)

    monkeypatch.setattr(sys, "unraisablehook", tell_others)


@pytest.fixture
def arm() -> Iterator[Arm]:
    """Have a function handle a signal that arrives in some seconds, and so often again."""
    old = signal.getsignal(signal.SIGALRM)

    def start(handler: Callable[..., Any], seconds: float, again: float = 0) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds, again)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


def ask_one(address: str) -> None:
    assert pychrony.get_sources(address, timeout=HANG) == SOURCES
    pychrony.get_tracking(address, timeout=HANG)


def ask_many(address: str) -> None:
    for answer in pychrony.get_many([address] * 20, "sources", timeout=HANG):
        assert answer.result().sources == SOURCES


@both
# A connection whose `with` block was not reached, or whose close() was interrupted, is dropped.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("ask", "longest"), [(ask_one, 0.004), (ask_many, 0.02)])
def test_an_exception_at_any_point_leaves_nothing_behind(
    ask: Callable[[str], None], longest: float, transport: Transport, arm: Arm
) -> None:
    interrupted = 0
    with ScriptedChronyd(MANY, transport) as chronyd:
        ask(chronyd.address)
        with nothing_left(chronyd.address):
            end = time.monotonic() + (60 if LONG else 1)
            while time.monotonic() < end or interrupted <= 20:  # the machine may be busy
                interrupt = Interrupt()
                try:
                    arm(interrupt, random.uniform(0.00005, longest), 0)
                    interrupt.repeat(partial(ask, chronyd.address))
                except Interruption:
                    interrupted += 1
            gc.collect()
        ask(chronyd.address)


@both
def test_an_exception_at_any_point_of_a_call_leaves_the_connection_usable(
    transport: Transport, arm: Arm
) -> None:
    with ScriptedChronyd(MANY, transport) as chronyd, nothing_left(chronyd.address):
        with ChronyConnection(chronyd.address, timeout=HANG) as connection:
            ask = partial(connection.get_all, "sources", "sourcestats", "tracking")
            right = ask()
            for fault in (honest, delay(0.002), drop) * (200 if LONG else 15):
                chronyd.fault = fault
                interrupt = Interrupt()
                with suppress(Interruption):
                    arm(interrupt, random.uniform(0.00005, 0.01), 0)
                    interrupt.repeat(ask)
                chronyd.fault = honest
                assert ask() == right
        gc.collect()


PACKAGE = str(Path(pychrony.__file__).parent)


def interrupt() -> None:
    raise Interruption


class InterruptAt:
    """Runs a handler, which raises an exception, after a number of instructions of the package."""

    def __init__(self, number: int, handler: Callable[[], None] = interrupt) -> None:
        self.number = self.left = number
        self.handler = handler

    def __enter__(self) -> None:
        sys.settrace(self.trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if not frame.f_trace_opcodes:
            frame.f_trace = self.trace  # Python 3.13 heeds the next line only then
            frame.f_trace_opcodes = True
            if sys.version_info[:2] == (3, 12):
                sys.settrace(self.trace)  # which heeds the line above only here
        self.left -= event == "opcode"
        if self.left < 0:
            sys.settrace(None)
            self.handler()
            return None
        return self.trace


def interruptions(step: int, handler: Callable[[], None] = interrupt) -> Iterator[InterruptAt]:
    """Interrupt a call at one instruction after the other, until it comes to its end."""
    number = 0
    while True:
        yield (point := InterruptAt(number, handler))
        if point.left >= 0:
            break
        number += 1 if LONG else step
    assert number > 300


def test_an_exception_after_any_instruction_of_a_first_call_changes_no_later_answer() -> None:
    """The first call makes room for the answers."""
    sources = [ntp_source(f"192.0.2.{n}", source(reachability=n)) for n in range(1, 40)]
    with ScriptedChronyd(script(sources), "unix") as chronyd:
        right = pychrony.get_sources(chronyd.address, timeout=HANG)
        for point in interruptions(7):
            with ChronyConnection(chronyd.address, timeout=HANG) as connection:
                with suppress(Interruption), point:
                    connection.get_sources()
                assert connection.get_sources() == right, point.number


@both
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_exception_after_any_instruction_leaves_nothing_behind(transport: Transport) -> None:
    with ScriptedChronyd(MANY, transport) as chronyd:
        right = pychrony.get_sources(chronyd.address, timeout=HANG)
        for point in interruptions(29):
            with nothing_left(chronyd.address):
                with suppress(Interruption), point:
                    assert pychrony.get_sources(chronyd.address, timeout=HANG) == right
                gc.collect()


def test_a_handler_after_any_instruction_changes_no_error(tmp_path: Path) -> None:
    """The failed call of the handler leaves another errno than the one that it interrupts."""

    def handle() -> None:
        with suppress(pychrony.ChronyError):
            pychrony.get_tracking("127.0.0.1:1", timeout=HANG)

    for point in interruptions(5, handle):
        with pytest.raises(pychrony.ChronyConnectionError, match="no such file"), point:
            pychrony.get_tracking(tmp_path / "chronyd.sock")


def test_a_handler_may_make_any_call_wherever_it_interrupts_one(
    chronyd: PrivateChronyd, arm: Arm
) -> None:
    """Look-ups of names share threads, which are not to wait for the call that is interrupted."""
    name = f"localhost:{chronyd.command_address.rpartition(':')[2]}"
    handled = 0
    with ChronyConnection(chronyd.address, timeout=HANG) as connection:

        def ask() -> None:
            assert connection.get_tracking().stratum == 6
            assert pychrony.get_tracking(name, timeout=HANG).stratum == 6
            answers = pychrony.get_many([name, chronyd.address], "tracking", timeout=HANG)
            assert [answer.error for answer in answers] == [None, None]

        def handle(*_: object) -> None:
            nonlocal handled
            ask()
            handled += 1
            arm(handle, random.uniform(0.00005, 0.005), 0)

        arm(handle, 0.001, 0)
        end = time.monotonic() + (60 if LONG else 3)
        while time.monotonic() < end or handled <= 20:
            ask()
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert handled > 20


@both
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of forks beside threads
def test_a_handler_may_fork_in_the_middle_of_a_call(transport: Transport, arm: Arm) -> None:
    """Parent and child both return from the handler into the call, and both finish it."""
    children: list[int] = []

    def fork(*_: object) -> None:
        children.append(os.fork())

    with ScriptedChronyd(MANY, transport, fault=delay(0.02)) as chronyd:
        right = pychrony.get_sources(chronyd.address, timeout=HANG)
        with ChronyConnection(chronyd.address, timeout=HANG) as connection:
            arm(fork, 0.1, 0)
            answers = connection.get_sources()
            answers_again = connection.get_sources()
            if children == [0]:
                os._exit(0 if answers == answers_again == right else 1)
            assert answers == answers_again == right
        [child] = children
        assert os.waitpid(child, 0)[1] == 0
        sequences = [request.sequence for request in chronyd.requests if request.raw]
        assert len(set(sequences)) == len(sequences)


def test_a_thread_in_a_call_at_the_end_of_the_program_leaves_nothing_behind() -> None:
    code = """
import sys, threading, time, pychrony
connection = pychrony.ChronyConnection(sys.argv[1], timeout=None).__enter__()
threading.Thread(target=connection.get_tracking, daemon=True).start()
threading.Thread(target=pychrony.get_sources, args=sys.argv[1:], daemon=True).start()
time.sleep(0.2)
"""
    with ScriptedChronyd(MANY, "unix", fault=drop) as chronyd:
        done = run(code, chronyd.address, warnings="ignore")
        assert (done.returncode, done.stderr) == (0, "")
        assert remains(chronyd.address) == []


@both
@pytest.mark.parametrize("method", ["get_tracking", "get_sources", "get_ntp_data"])
def test_a_handler_that_raises_ends_the_call_and_the_next_one_works(
    transport: Transport, method: str, arm: Arm
) -> None:
    with connected(transport=transport, timeout=None) as (chronyd, connection):
        right = getattr(connection, method)()
        chronyd.fault = drop
        arm(Interrupt(), 0.2, 0)
        with pytest.raises(Interruption):
            getattr(connection, method)()
        chronyd.fault = honest
        assert getattr(connection, method)() == right
