"""Tests that no interval of `BoundedClock` misses the true time of a simulated machine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from alone import Alone
from chronyc import chronyc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import HANG, LONG
from programs import output
from scripted import Request, ScriptedChronyd
from scripted.faults import drop, honest
from scripted.wire import Command, Record, Status
from timeline import DAY, SECOND, Leap, Machine

from pychrony import (
    BoundedClock,
    ChronyConnection,
    ChronyConnectionError,
    ChronyNotSynchronizedError,
    TimeInterval,
)
from pychrony.clock import SAME_RATE, Clocks
from pychrony.testing import PrivateChronyd

MS = 10**6
ROUNDING = 50  # nanoseconds: the machine's clocks count whole ones


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedChronyd]:
    with ScriptedChronyd() as chronyd:
        yield chronyd


@pytest.fixture(scope="module")
def bounded(scripted: ScriptedChronyd) -> Iterator[BoundedClock]:
    with BoundedClock(scripted.address, timeout=HANG) as clock:
        yield clock


class Watch:
    """A `BoundedClock` on a simulated machine, and checks of its intervals."""

    def __init__(
        self, clock: BoundedClock, chronyd: ScriptedChronyd, machine: Machine, max_age: float
    ) -> None:
        self.clock, self.chronyd, self.machine = clock, chronyd, machine
        chronyd.script = {Command.TRACKING: lambda _: machine.report()}
        if not chronyd.listening:
            chronyd.start()
        clock._clocks, clock._max_age = machine.clocks(), max_age * SECOND
        clock.close()  # and with it, the last report
        clock.__enter__()

    def look(self) -> TimeInterval | None:
        """Check that the interval contains true time, or that there is a reason for the error."""
        try:
            interval = self.clock.now()
        except ChronyNotSynchronizedError:
            assert not (self.machine.synchronized and self.chronyd.listening)
            return None
        early, late = interval.earliest_ns - ROUNDING, interval.latest_ns + ROUNDING
        assert any(early <= number <= late for number in self.machine.numbers())
        return interval

    def look_often(self, times: int, pause: int) -> None:
        """Let so many nanoseconds pass before each look, which must give an interval."""
        for _ in range(times):
            self.machine.advance(pause)
            assert self.look()


Watching = Callable[..., Watch]


@pytest.fixture
def watch(bounded: BoundedClock, scripted: ScriptedChronyd) -> Watching:
    """Return a function that watches a machine; reports are used for `max_age` seconds."""

    def start(machine: Machine, max_age: float = 1.0) -> Watch:
        return Watch(bounded, scripted, machine, max_age)

    return start


def reads_slowly(machine: Machine, clock: Callable[[], int]) -> Callable[[], int]:
    def read() -> int:
        machine.advance(500)
        return clock()

    return read


# What may happen to a machine, as functions of the one that watches it.

Event = Callable[[Watch], None]


def event(happens: Callable[..., None], *arguments: st.SearchStrategy[Any]) -> Any:
    """Call a function of the watch with these arguments."""
    return st.tuples(*arguments).map(lambda chosen: lambda watch: happens(watch, *chosen))


def passes(watch: Watch, duration: int) -> None:
    watch.machine.advance(duration)


def suspends(watch: Watch, duration: int) -> None:
    watch.machine.suspend(duration)


def measures(watch: Watch, *values: Any) -> None:
    names = ("spread", "wrong", "skew", "residual", "frequency_wrong", "drift")
    vars(watch.machine).update(zip(names, values, strict=True))


def slews(watch: Watch, rate: int) -> None:
    if watch.machine.controlled:
        watch.machine.slew(rate)


def steps(watch: Watch) -> None:
    if watch.machine.controlled:
        watch.machine.step()


def is_set(watch: Watch, by: int) -> None:
    """Somebody sets the clock, and chronyd notices that."""
    watch.machine.system += by


def restarts(watch: Watch) -> None:
    watch.machine.synchronized = False
    watch.machine.slew_left = 0
    watch.chronyd.restart()


def synchronizes(watch: Watch) -> None:
    watch.machine.synchronized = True
    if not watch.chronyd.listening:
        watch.chronyd.start()


def stops(watch: Watch) -> None:
    watch.chronyd.stop()


def travels(watch: Watch, before: int, after: int) -> None:
    """The request takes `before` nanoseconds, and the answer `after`."""
    watch.machine.round_trip = before, after


# The extremes, where errors show most, and anything in between.
PARTS = st.sampled_from([-1.0, 1.0]) | st.floats(-1, 1)
SPREADS = st.sampled_from([200, 10_000]) | st.integers(200, SECOND // 10)
DURATIONS = st.sampled_from([SECOND // 2, 3 * SECOND]) | st.integers(0, 3 * SECOND)
PASSES = event(passes, DURATIONS)
EVENTS = st.one_of(
    PASSES,
    PASSES,
    PASSES,
    event(suspends, st.integers(0, 3 * MS)),
    event(suspends, DURATIONS),
    event(
        measures,
        SPREADS,
        PARTS,
        st.integers(0, 2_000),
        st.integers(-2_000, 2_000),
        PARTS,
        st.sampled_from([-990, 0, 990]),
    ),
    event(slews, st.integers(1, 100_000_000)),
    st.just(steps),
    event(is_set, st.integers(-10 * SECOND, 10 * SECOND)),
    st.sampled_from([restarts, synchronizes, synchronizes, stops]),
    event(travels, st.integers(0, 300 * MS), st.integers(0, 300 * MS)),
)
AGES = st.sampled_from([0, 1, 5, 60])
PACES = st.sampled_from([-100_000, 0, 100_000]) | st.integers(-200_000, 200_000)


def is_recognized(machine: Machine) -> bool:
    """Leave out clocks that chronyd does not control, but that run as if it did.

    `BoundedClock` documents that it cannot tell these apart. It is the same to it whether chronyd
    controls a clock that nobody adjusts.
    """
    wrong = 4_000  # what skew and residual frequency allow for
    difference = abs(machine.kernel + machine.frequency)
    is_distinct = difference > SAME_RATE * SECOND + wrong + 10  # for rounding
    return machine.controlled or machine.kernel == 0 or is_distinct


MACHINES = st.builds(Machine, controlled=st.booleans(), hardware=PACES, kernel=PACES).filter(
    is_recognized
)

many = settings(
    max_examples=5_000 if LONG else 200,
    deadline=None,  # a slow machine is no error
    derandomize=not LONG,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@many
@given(
    machine=MACHINES,
    spread=SPREADS,
    events=st.lists(EVENTS, min_size=5, max_size=40),
    max_age=AGES,
)
def test_no_interval_misses_true_time(
    watch: Watching,
    machine: Machine,
    spread: int,
    events: list[Event],
    max_age: float,
) -> None:
    machine.spread = spread
    clock = watch(machine, max_age)
    for event in events:
        event(clock)
        clock.look()


@many
@given(
    machine=MACHINES,
    leap=st.sampled_from(["insert", "delete"]),
    delay=st.integers(-500 * MS, 500 * MS),
    by_slew=st.booleans(),
    before=st.integers(0, 6 * SECOND),
    known=st.booleans(),
    pauses=st.lists(st.integers(0, 1_500 * MS), min_size=10, max_size=25),
    max_age=AGES,
)
def test_no_interval_misses_true_time_around_a_leap_second(
    watch: Watching,
    machine: Machine,
    leap: Leap,
    delay: int,
    by_slew: bool,
    before: int,
    known: bool,
    pauses: list[int],
    max_age: float,
) -> None:
    """chronyd may get to know of it shortly before, when its last report is already in use."""
    machine.step()
    machine.advance(DAY // 2 - before - 3 * SECOND)
    machine.step()
    clock = watch(machine, max_age)
    if not known:
        clock.look()
    machine.announce(leap, delay=delay, by_slew=by_slew)
    machine.advance(3 * SECOND)
    for pause in pauses:
        clock.look()
        machine.advance(pause)
    machine.advance(100 * SECOND)
    settled = clock.look()
    assert settled is not None
    assert settled.error_bound < 0.001


@pytest.mark.parametrize("leap", ["insert", "delete"])
def test_a_leap_second_may_be_announced_after_the_report_in_use(
    watch: Watching, leap: Leap
) -> None:
    machine = Machine()
    machine.advance(DAY // 2 - 30 * SECOND)
    clock = watch(machine, 60.0)
    clock.chronyd.requests.clear()
    assert clock.look()
    machine.advance(SECOND)
    machine.announce(leap, delay=0, by_slew=False)
    clock.look_often(350, 100 * MS)
    assert len(clock.chronyd.requests) <= 3  # the others after midnight


def test_a_report_from_before_the_clock_repeats_a_second_is_not_used_after_that(
    watch: Watching,
) -> None:
    machine = Machine()
    machine.advance(DAY // 2 - SECOND)
    machine.announce("insert", delay=500 * MS, by_slew=False)
    machine.advance(SECOND + 200 * MS)
    clock = watch(machine, 60.0)
    assert clock.look()
    clock.look_often(1, 10 * SECOND)


def test_midnight_does_not_widen_the_interval_of_a_recent_report(watch: Watching) -> None:
    machine = Machine()
    machine.advance(DAY // 2 - 10 * SECOND)
    clock = watch(machine, 0.9)
    for _ in range(200):
        machine.advance(100 * MS)
        interval = clock.look()
        assert interval is not None
        assert interval.error_bound < 0.001


def test_a_slew_while_the_answer_travels_is_allowed_for(watch: Watching) -> None:
    machine = Machine(round_trip=(50 * MS, 50 * MS))
    machine.system += SECOND
    machine.slew(80_000_000)
    clock = watch(machine)
    clock.look_often(20, 200 * MS)


@pytest.mark.parametrize("wrong", [-1.0, 1.0])
def test_an_error_that_grows_while_the_answer_travels_is_allowed_for(
    watch: Watching, wrong: float
) -> None:
    travel = 0, 300 * MS
    machine = Machine(round_trip=travel, skew=2_000, wrong=wrong, frequency_wrong=wrong)
    watch(machine).look_often(3, SECOND // 2)


@pytest.mark.parametrize("suspended", [40_000, 50_000])  # a slew for 200 ms hides the shorter one
def test_a_short_suspension_during_a_slew_is_allowed_for(watch: Watching, suspended: int) -> None:
    machine = Machine(hardware=-100_000)
    clock = watch(machine)
    assert clock.look()
    machine.suspend(suspended)
    machine.slew(200_000)  # back, so that the system clock seems to have been slewed only
    clock.look_often(4, 200 * MS)


@pytest.mark.parametrize(
    ("hardware", "kernel", "round_trip"),
    [
        (100_000, -39_743, (0, 0)),
        (-169_265, 100_000, (0, 0)),
        (100_000, -39_743, (0, 7 * MS)),
        (100_000, -39_743, (7 * MS, 0)),
        (100_000, -39_743, (90 * MS, 90 * MS)),
    ],
)
def test_a_clock_that_chronyd_does_not_control_is_allowed_for(
    watch: Watching, hardware: int, kernel: int, round_trip: tuple[int, int]
) -> None:
    machine = Machine(False, hardware, kernel, round_trip=round_trip)
    watch(replace(machine)).look_often(200, 17 * MS)
    watch(machine, 0.0).look_often(3, SECOND // 2)


@pytest.mark.parametrize("frequency", [-100_000, 100_000])
@pytest.mark.parametrize("by", [-SECOND, SECOND])
@pytest.mark.parametrize("is_set_first", [False, True])
def test_a_clock_that_is_set_while_the_answer_travels_is_allowed_for(
    watch: Watching, frequency: int, by: int, is_set_first: bool
) -> None:
    machine = Machine(controlled=False, hardware=frequency)
    clock = watch(machine, 0.0)

    def report(_: object) -> Record:
        machine.advance(40 * MS)
        earlier = machine.report()
        machine.system += by
        later = machine.report()
        machine.advance(40 * MS)
        return later if is_set_first else earlier

    clock.chronyd.script = {Command.TRACKING: report}
    assert clock.look()


@pytest.mark.parametrize(("too_long", "rate"), [(0, 400_000), (20_000, 400_000), (20_000, 1)])
def test_a_suspension_while_the_answer_travels_is_allowed_for(
    watch: Watching, too_long: int, rate: int
) -> None:
    machine = Machine(hardware=-100_000)
    clock = watch(machine, 0.0)

    def report(_: object) -> Record:
        record = machine.report()
        machine.suspend(40_000)
        machine.suspend(too_long)
        machine.true -= too_long  # the machine measures its suspension roughly
        machine.slew(rate)
        machine.advance(100 * MS)  # 400 ppm hide the suspension
        return record

    clock.chronyd.script = {Command.TRACKING: report}
    assert clock.look()


def test_a_chronyd_that_no_longer_controls_the_clock_is_allowed_for(watch: Watching) -> None:
    machine = Machine(hardware=100_000)
    clock = watch(machine)
    clock.look_often(3, 2 * SECOND)
    machine.controlled, machine.kernel = False, -39_743
    clock.look_often(200, 50 * MS)


@pytest.mark.parametrize("compensation", [-8, -2, 2, 8])
def test_a_temperature_compensation_is_allowed_for(watch: Watching, compensation: int) -> None:
    """chronyd reports the frequency without it."""
    machine = Machine(hardware=20_000)
    clock = watch(machine)
    clock.chronyd.script = {
        Command.TRACKING: lambda _: machine.report().replace(frequency_offset=20.0 - compensation)
    }
    clock.look_often(60, 50 * MS)


@pytest.mark.parametrize("max_age", [0.1, 1.0])
@pytest.mark.parametrize("hardware", [-100_000, 100_000])
def test_the_frequency_of_a_clock_that_chronyd_controls_does_not_widen_the_interval(
    watch: Watching, hardware: int, max_age: float
) -> None:
    machine = Machine(hardware=hardware, spread=10_000)
    clock = watch(machine, max_age)
    clock.clock._clocks = Clocks(*(reads_slowly(machine, clock) for clock in machine.clocks()))
    for moment in range(120):
        machine.advance(50 * MS)
        interval = clock.look()
        assert interval is not None
        if moment > 60:  # now the rate of the kernel's clock is known in spite of slow readings
            assert interval.error_bound < 14.5e-6


def test_the_interval_grows_as_chronyd_says(watch: Watching) -> None:
    machine = Machine(hardware=20_000, spread=10_000)
    machine.skew, machine.residual = 3_000, -1_000
    clock = watch(machine, 60.0)
    first = clock.look()
    machine.advance(50 * SECOND)
    last = clock.look()
    assert first is not None
    assert last is not None
    assert first.error_bound == pytest.approx(10e-6, rel=0.01)
    assert last.error_bound == pytest.approx(10e-6 + 50 * 5e-6, rel=0.01)  # 3 + 1 + 1 ppm


def test_nothing_is_asked_while_the_report_is_fresh(watch: Watching) -> None:
    machine = Machine()
    clock = watch(machine)
    clock.chronyd.requests.clear()
    clock.look()
    clock.look_often(99, 9 * MS)
    assert len(clock.chronyd.requests) == 1
    clock.look_often(1, 200 * MS)
    assert len(clock.chronyd.requests) == 2


def test_no_thread_waits_for_another() -> None:
    with (
        ScriptedChronyd({Command.TRACKING: Machine().report()}, fault=drop) as chronyd,
        BoundedClock(chronyd.address, timeout=HANG, max_age=0.0) as clock,
    ):
        slow = threading.Thread(target=clock.now)
        slow.start()
        while not chronyd.requests:
            time.sleep(0.01)
        chronyd.fault = honest
        assert clock.now()
        slow.join()


def test_a_clock_that_is_opened_again_takes_no_report_of_an_earlier_call() -> None:
    def reopen(request: Request, reply: bytes, _: int) -> list[tuple[float, bytes]]:
        clock.close()
        clock.__enter__()
        return [(0, reply)]

    with (
        ScriptedChronyd({Command.TRACKING: Machine().report()}, fault=reopen) as chronyd,
        BoundedClock(chronyd.address, timeout=HANG) as clock,
    ):
        clock.now()
        chronyd.fault = honest
        clock.now()
        assert len(chronyd.requests) == 2


def test_a_chronyd_that_is_not_synchronized_gives_no_time(watch: Watching) -> None:
    machine = Machine()
    machine.synchronized = False
    with pytest.raises(ChronyNotSynchronizedError, match="chronyd is not synchronised"):
        watch(machine).clock.now()


def test_a_report_that_cannot_be_read_gives_no_time(watch: Watching) -> None:
    machine = Machine()
    clock = watch(machine)
    assert clock.look()
    clock.chronyd.stop()
    assert clock.look()  # the report is fresh
    machine.advance(2 * SECOND)
    with pytest.raises(ChronyNotSynchronizedError) as caught:
        clock.clock.now()
    assert isinstance(caught.value.__cause__, ChronyConnectionError)
    assert caught.value.__cause__.message in caught.value.message
    clock.chronyd.start()
    assert clock.look()
    machine.advance(2 * SECOND)
    clock.chronyd.script = {Command.TRACKING: Status.UNAUTH}
    with pytest.raises(ChronyNotSynchronizedError, match="not authorized"):
        clock.clock.now()


def test_a_clock_is_used_in_its_with_block() -> None:
    clock = BoundedClock("127.0.0.1:1")
    with pytest.raises(RuntimeError, match="not open"):
        clock.now()
    with clock:
        with pytest.raises(RuntimeError, match="already open"):
            clock.__enter__()
        with pytest.raises(ChronyNotSynchronizedError):
            clock.now()
    with pytest.raises(RuntimeError, match="not open"):
        clock.now()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"address": "relative/path"}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"max_age": -1.0}, ValueError),
        ({"max_age": float("nan")}, ValueError),
        ({"drift_ppm": float("inf")}, ValueError),
        ({"drift_ppm": 10**400}, ValueError),
        ({"drift_ppm": "1"}, TypeError),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        BoundedClock(**options)


def test_a_real_chronyd_bounds_the_time_of_its_server(chronyd: PrivateChronyd) -> None:
    """Its server serves the system clock, which counts as true time here."""
    with BoundedClock(chronyd.address, timeout=HANG, max_age=0.2) as clock:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            before = time.time_ns()
            interval = clock.now()
            after = time.time_ns()
            assert interval.earliest_ns <= after
            assert interval.latest_ns >= before
            time.sleep(0.01)


def test_a_restarted_chronyd_bounds_the_time_once_it_is_synchronized(
    server: PrivateChronyd,
) -> None:
    with (
        PrivateChronyd(server.as_source()) as chronyd,
        BoundedClock(chronyd.address, timeout=HANG, max_age=0.0) as clock,
    ):
        chronyd.wait_until_synchronized()
        assert clock.now()
        chronyd.stop()
        with pytest.raises(ChronyNotSynchronizedError, match="no report from chronyd"):
            clock.now()
        chronyd.start()
        chronyd.wait_until_synchronized()
        assert clock.now()


def test_a_chronyd_that_becomes_its_own_reference_gives_no_time(server: PrivateChronyd) -> None:
    """It does so soon after it has lost its server."""
    lines = server.as_source(), "local stratum 10 distance 0.005", "maxclockerror 2000"
    options: dict[str, Any] = {"timeout": HANG, "max_age": 0.0}
    with (
        PrivateChronyd(*lines) as chronyd,
        ChronyConnection(chronyd.address, timeout=HANG) as connection,
        BoundedClock(chronyd.address, **options) as clock,
        BoundedClock(chronyd.address, local_ok=True, **options) as trusting,
    ):
        connection.wait_synchronized(max_error=0.001)
        assert clock.now()
        chronyc(chronyd.address, "offline")

        def observe() -> None:
            while True:
                clock.now()
                time.sleep(0.05)

        with pytest.raises(ChronyNotSynchronizedError, match="chronyd is its own reference"):
            observe()
        assert trusting.now().error_bound < 0.001


def test_a_chronyd_without_sources_is_trusted_only_if_allowed(server: PrivateChronyd) -> None:
    with (
        BoundedClock(server.address, timeout=HANG) as clock,
        pytest.raises(ChronyNotSynchronizedError, match="local_ok=True"),
    ):
        clock.now()
    with BoundedClock(server.address, timeout=HANG, local_ok=True) as clock:
        assert clock.now().error_bound < 0.001


def test_waiting_ends_when_true_time_must_be_past(chronyd: PrivateChronyd) -> None:
    with BoundedClock(chronyd.address, timeout=HANG) as clock:
        until = clock.now().latest_ns + 50 * MS
        interval = clock.wait_past(until)
        assert interval.earliest_ns > until
        assert clock.wait_past(until - SECOND).earliest_ns > until


SIGNALS = """
import random, signal, sys, time
from pychrony import BoundedClock

handled = 0

def look(*_):
    global handled
    assert clock.now().error_bound < 1
    handled += 1
    arm()

def arm():
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00005, float(sys.argv[3])))

with BoundedClock(sys.argv[1], timeout=20, max_age=float(sys.argv[2])) as clock:
    signal.signal(signal.SIGALRM, look)
    arm()
    until = time.monotonic() + 1
    while time.monotonic() < until or handled < 20:
        assert clock.now().error_bound < 1
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
"""


@pytest.mark.parametrize("max_age", [0.0, 0.001, 1.0])
@pytest.mark.parametrize("within", [0.02, 0.0005])
def test_a_signal_handler_can_tell_the_time_wherever_it_interrupts_a_call(
    chronyd: PrivateChronyd, max_age: float, within: float
) -> None:
    assert output(SIGNALS, chronyd.address, str(max_age), str(within)) == ""


IN_A_QUESTION = """
import signal, sys
from pychrony import BoundedClock, ChronyNotSynchronizedError

def look(*_):
    try:
        clock.now()
    except ChronyNotSynchronizedError as error:
        print(error)

signal.signal(signal.SIGTERM, {"now": look, "close": lambda *_: clock.close()}[sys.argv[2]])
with BoundedClock(sys.argv[1], timeout=float(sys.argv[3]) or None) as clock:
    try:
        clock.now()
    except ChronyNotSynchronizedError as error:
        print(error)
"""


def interrupted(action: str, timeout: float) -> list[str]:
    """Send SIGTERM to a program in `now()`, whose handler does something; return its output."""
    with (
        ScriptedChronyd(fault=drop) as chronyd,
        subprocess.Popen(
            [sys.executable, "-c", IN_A_QUESTION, chronyd.address, action, str(timeout)],
            stdout=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        try:
            while not chronyd.requests:
                time.sleep(0.01)
            program.terminate()
            said, _ = program.communicate(timeout=HANG)
        finally:
            program.kill()
    assert program.returncode == 0
    return said.splitlines()


def test_a_handler_asks_for_itself_if_there_is_no_report() -> None:
    said = interrupted("now", 0.7)
    assert len(said) == 2
    assert all("no answer within 0.7 s" in line for line in said)


def test_a_handler_can_close_the_clock() -> None:
    (said,) = interrupted("close", 0)
    assert said.startswith("bounding the time: no report from chronyd: ")
    assert "closed" in said


def test_all_reports_come_from_the_address_that_answered_first(alone: Alone) -> None:
    said = alone(
        """
        name(two="127.0.0.2 127.0.0.3")
        with at("127.0.0.2", 2) as first, at("127.0.0.3", 3) as second:
            with pychrony.BoundedClock("two", timeout=0.8, max_age=0) as clock:
                clock.now()
                first.fault = drop
                try:
                    clock.now()
                except pychrony.ChronyNotSynchronizedError as error:
                    print(error.message.partition(";")[0])
                first.fault = honest
                clock.now()
            print(asked(second))
        """
    )
    assert said == [
        "bounding the time: no report from chronyd: reading tracking from two (127.0.0.2:323): "
        "no answer within 0.8 s",
        "0",
    ]
