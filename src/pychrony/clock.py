"""A clock that knows how wrong it may be: `BoundedClock` gives the interval that holds true time.

How it gets there. chronyd's report says how far true time is from the system clock (`offset`), how
wrong that may be (root dispersion and half the root delay), and how far the hardware's frequency
is off (`frequency`). So the moment of the report ties true time to `CLOCK_MONOTONIC_RAW`, which
nobody slews or sets, and from there true time is carried on with that frequency, in an interval
that grows. What happens to the system clock meanwhile does not matter: steps, slews, a restart.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from ._engine.address import parse_address, parse_timeout
from ._engine.library import library_path
from .connection import AnyAddress, ChronyConnection
from .exceptions import ChronyError, ChronyLibraryError, ChronyNotSynchronizedError
from .models import LeapStatus, TrackingStatus

__all__ = ["BoundedClock", "TimeInterval"]

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
PPM = 1e-6

WIRE_PRECISION = 2.0**-23
"""chronyd sends floats with 25 bits of coefficient, sign included."""

LEAP_MARGIN = 2 * SECOND
"""How close to the end of the day a leap second may be under way, on whichever clock."""

UNEXPLAINED = 0.5 * PPM
"""How far the kernel's clock may run from what chronyd says before it is taken for slewing."""
UNEXPLAINED_NS = 2000  # and how far, apart from its rate: the clocks are not read at one instant

MAX_SLEW = 0.15
"""More than chronyd slews at the most (`maxslewrate`, and the kernel's 10 %)."""
SUSPENDED_NS = 1_000_000
"""Beyond that, the machine was suspended, for a time that its clocks know only roughly."""

BRACKETS = 5  # attempts to read two clocks with no interruption in between
QUERIES = 3  # attempts to get a report with no step or slew of the system clock meanwhile


class TimeInterval(NamedTuple):
    """The interval in which true time lies, in nanoseconds since 1970 (UTC)."""

    earliest_ns: int
    """True time is not before this."""
    latest_ns: int
    """True time is not after this."""

    @property
    def error_bound(self) -> float:
        """Half the length of the interval, in seconds: no point is further from its middle."""
        return (self.latest_ns - self.earliest_ns) / 2e9


class Clocks(NamedTuple):
    """The clocks of the system, in nanoseconds."""

    raw: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
    """The hardware's own pace; stands still while the machine is suspended."""
    boot: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    """At the pace of the system clock, slewed like it but never set; runs on in suspend."""
    system: Callable[[], int] = time.time_ns


class Anchor(NamedTuple):
    """What one tracking report says about true time, and how to carry it on."""

    raw: int
    """Reading of the raw clock that the interval belongs to."""
    boot: int
    """Reading of the boot clock at the same time."""
    low: float
    """Start of the interval that held true time then, relative to `base`."""
    high: float
    """End of that interval."""
    base: int
    """A time since 1970 near that interval: a float has no room for nanoseconds since then."""
    asked: int
    """Reading of the raw clock before chronyd was asked: no earlier is the report's own time."""
    frequency: float
    """How much faster the uncorrected clock runs than true time, as a ratio."""
    growth: float
    """By how much both ends move outwards for each nanosecond."""
    leap_margin: int
    """How close to midnight a leap second may be under way; 0 if none is due."""

    def interval(self) -> TimeInterval:
        """Return the interval that held true time when the report was taken."""
        return self.carried_on(0, 0, 0)

    def carried_on(self, raw: int, boot: int, age: int) -> TimeInterval:
        """Return where true time is after `raw` and `boot` nanoseconds on these clocks.

        chronyd has the kernel's clock run as fast as the raw one times (1 - frequency), and a
        little faster or slower while it slews. If it runs otherwise, either chronyd slews, or it
        does not control the clock; then `frequency` is that of the kernel's clock. The interval
        holds both.
        """
        elapsed = raw * (1 - self.frequency)
        least, most = (elapsed, boot) if elapsed < boot else (boot, elapsed)
        if most - least > UNEXPLAINED * age + UNEXPLAINED_NS:
            uncontrolled = boot * (1 - self.frequency)
            least, most = min(least, uncontrolled), max(most, uncontrolled)
        grown = age * self.growth
        return TimeInterval(
            self.base + math.floor(self.low + least - grown),
            self.base + math.ceil(self.high + most + grown),
        )

    def around_leap(self, interval: TimeInterval) -> TimeInterval | None:
        """Allow for a leap second at the end of the day; `None` once it must be over.

        A leap second has no number of its own in nanoseconds since 1970. Clocks repeat a second,
        or skip one, at its start or after it, and chronyd learns of that a little later. So for
        some seconds both ends move out by one; after that, only a new report tells what became of
        the clock.
        """
        if self.is_near_midnight(interval):
            return TimeInterval(interval.earliest_ns - SECOND, interval.latest_ns + SECOND)
        taken = self.interval()
        same_day = taken.latest_ns // DAY == interval.latest_ns // DAY
        return interval if same_day and not self.is_near_midnight(taken) else None

    def is_near_midnight(self, interval: TimeInterval) -> bool:
        """Whether a leap second may be under way, if one is due."""
        midnight = (interval.latest_ns + self.leap_margin) // DAY * DAY
        return interval.earliest_ns - self.leap_margin <= midnight


class BoundedClock:
    """Tells the time as an interval that holds true time, as far as the local chronyd knows.

    It is a context manager, and may be used from many threads: one asks chronyd when the last
    report is older than `max_age` seconds, the others wait for its answer. While the report is
    fresh, no call does any input or output.

    The interval is what chronyd itself says about true time, at the time of its report: the
    offset of the system clock, plus and minus the root dispersion and half the root delay. It
    grows from then on by chronyd's `skew` and `residual_freq` and by `drift_ppm` parts per
    million, which is chrony's own allowance for the oscillator (`maxclockerror`). True time is
    carried on with `CLOCK_MONOTONIC_RAW`, so it does not matter whether the system clock is
    stepped or slewed in the meantime. Around a leap second, when two conventions number the same
    seconds differently, the interval holds both for some seconds.

    `address` must be that of the chronyd of this machine; `address` and `timeout` are as for
    `ChronyConnection`. A chronyd that does not control the clock (option `-x`) works too, at the
    price of a somewhat wider interval.

    Entering raises `ChronyLibraryError` without libchrony. `now()` and `wait_past()` raise
    `ChronyNotSynchronizedError` if the clock is not synchronised, or if a report that is due
    cannot be read; its `__cause__` says why.
    """

    def __init__(
        self,
        address: AnyAddress = None,
        *,
        timeout: float | None = 5.0,
        max_age: float = 1.0,
        drift_ppm: float = 1.0,
    ) -> None:
        parse_address(address)
        parse_timeout(timeout)
        self._address, self._timeout = address, timeout
        self._max_age = _not_negative(max_age, "max_age") * SECOND
        self._drift = _not_negative(drift_ppm, "drift_ppm") * PPM
        self._clocks = Clocks()
        self._anchor: Anchor | None = None
        self._connection: ChronyConnection | None = None
        self._is_open = False
        self._renew_lock()
        _all_clocks.add(self)
        self._attempts = 0
        self._failure: ChronyNotSynchronizedError | None = None

    def __enter__(self) -> BoundedClock:
        if self._is_open:
            raise RuntimeError("this BoundedClock is already open")
        library_path()
        self._is_open = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection to chronyd; closing it twice does no harm."""
        with self._lock:
            self._is_open, self._anchor = False, None
            self._disconnect()

    def now(self) -> TimeInterval:
        """Return the interval that holds true time at a moment during this call."""
        clocks, anchor, is_new = self._clocks, self._anchor, False
        while True:
            raw, boot = clocks.raw(), clocks.boot()
            if anchor is not None:
                age = raw - anchor.asked
                passed = boot - anchor.boot
                fresh = is_new or (0 <= age <= self._max_age and passed <= self._max_age)
                if fresh and passed - age <= MAX_SLEW * age + SUSPENDED_NS:
                    interval = anchor.carried_on(raw - anchor.raw, passed, age)
                    if not anchor.leap_margin:
                        return interval
                    widened = anchor.around_leap(interval)
                    if widened is not None:
                        return widened
            anchor, is_new = self._refresh(anchor), True

    def wait_past(self, ns: int) -> TimeInterval:
        """Wait until true time is later than `ns`, in nanoseconds since 1970; return the interval.

        What another machine with a `BoundedClock` of its own stamps after that is later, too.
        """
        while (interval := self.now()).earliest_ns <= ns:
            remaining = (ns - interval.earliest_ns + 1) / SECOND
            time.sleep(min(remaining, max(self._max_age / SECOND, 0.01)))
        return interval

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _refresh(self, seen: Anchor | None) -> Anchor:
        """Return a newer report than the one that this thread has seen."""
        attempts = self._attempts
        with self._lock:
            if not self._is_open:
                raise RuntimeError("this BoundedClock is not open: use it in a 'with' block")
            if self._anchor is not None and self._anchor is not seen:
                return self._anchor  # another thread asked
            if self._failure is not None and self._attempts != attempts:
                raise ChronyNotSynchronizedError(self._failure.message) from self._failure
            try:
                self._anchor = self._ask()
                self._failure = None
            except ChronyNotSynchronizedError as failure:
                self._anchor, self._failure = None, failure
                raise
            finally:
                self._attempts += 1
            return self._anchor

    def _ask(self) -> Anchor:
        """Read a report, and read it anew if the system clock was moved meanwhile."""
        for left in reversed(range(QUERIES)):
            before = _read_together(self._clocks)
            tracking = self._tracking()
            after = _read_together(self._clocks)
            anchor, moved = _anchor(tracking, before, after, self._drift)
            if left == 0 or moved <= (anchor.high - anchor.low) / 2:
                return anchor
        raise AssertionError("QUERIES is above 0")

    def _tracking(self) -> TrackingStatus:
        try:
            if self._connection is None:
                self._connection = ChronyConnection(self._address, timeout=self._timeout)
                self._connection.__enter__()
            return self._connection.get_tracking()
        except ChronyLibraryError:
            raise
        except ChronyError as error:
            self._disconnect()
            raise ChronyNotSynchronizedError(
                f"bounding the time: no report of chronyd: {error.message}"
            ) from error

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


_all_clocks: weakref.WeakSet[BoundedClock] = weakref.WeakSet()


def _renew_locks() -> None:
    """In a forked child, no other thread is there to end its refresh and release a lock."""
    for clock in list(_all_clocks):
        clock._renew_lock()


os.register_at_fork(after_in_child=_renew_locks)


class Reading(NamedTuple):
    """The clocks of the system at one time, as nearly as they can be read together."""

    raw: int
    boot: int
    system: int
    uncertainty: int
    """How much later than `raw` the others may have been read."""


def _read_together(clocks: Clocks) -> Reading:
    """Read the clocks, several times if the thread was interrupted in between."""
    best: Reading | None = None
    for _ in range(BRACKETS):
        raw = clocks.raw()
        system, boot = clocks.system(), clocks.boot()
        reading = Reading(raw, boot, system, clocks.raw() - raw)
        if best is None or reading.uncertainty < best.uncertainty:
            best = reading
    assert best is not None
    return best


def _anchor(
    tracking: TrackingStatus, before: Reading, after: Reading, drift: float
) -> tuple[Anchor, float]:
    """Tie true time to the raw clock; return also how far the system clock was moved meanwhile.

    chronyd formed the report at an unknown time between the two readings. Without a step or a
    slew, the system clock and the raw one keep their distance, and that time does not matter; else
    the report belongs to a distance between the two.
    """
    if not tracking.is_synchronized():
        raise _unsynchronized()
    frequency = tracking.frequency * PPM
    passed = (after.raw - before.raw) * (1 - frequency)
    earlier = before.system - after.system + passed  # relative to the later system time
    unsure = max(before.uncertainty, after.uncertainty)
    low, high = min(0.0, earlier) - unsure, max(0.0, earlier) + unsure
    spread = tracking.root_dispersion + tracking.root_delay / 2
    spread += WIRE_PRECISION * (spread + abs(tracking.offset))
    due = tracking.leap_status is not LeapStatus.NORMAL
    anchor = Anchor(
        raw=after.raw,
        boot=after.boot,
        low=low + (tracking.offset - spread) * SECOND,
        high=high + (tracking.offset + spread) * SECOND,
        base=after.system,
        asked=before.raw,
        frequency=frequency,
        growth=(tracking.skew + abs(tracking.residual_freq)) * PPM + drift,
        leap_margin=LEAP_MARGIN + math.ceil(abs(tracking.offset) * SECOND) if due else 0,
    )
    # A synchronised chronyd says otherwise while it applies a leap second.
    if tracking.leap_status is LeapStatus.UNSYNC and not anchor.is_near_midnight(anchor.interval()):
        raise _unsynchronized()
    return anchor, high - low


def _unsynchronized() -> ChronyNotSynchronizedError:
    return ChronyNotSynchronizedError(
        "bounding the time: chronyd is not synchronised; 'pychrony check' says why"
    )


def _not_negative(value: float, name: str) -> float:
    if not 0 <= value < math.inf:  # which raises TypeError for what is no number
        raise ValueError(f"{name} must be finite and not negative, but it is {value!r}")
    return value
