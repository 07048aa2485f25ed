"""Tells the time as an interval that contains true time: `BoundedClock`.

How it works: chronyd's report says how far true time is from the system clock (`offset`), the bound
on the error of that (root dispersion and half the root delay), and the frequency error of the
hardware (`frequency`). Each report therefore relates true time to `CLOCK_MONOTONIC_RAW`, which
nobody slews or sets. From there, true time is extrapolated with that frequency, in an interval that
grows. Steps and slews of the system clock in the meantime do not matter, nor does a restart.
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
"""How close to the end of the day a leap second may be in progress, on any of the clocks."""

UNEXPLAINED = 0.5 * PPM
"""How far the kernel's clock may deviate from chronyd's frequency before that counts as slewing."""
UNEXPLAINED_NS = 2000  # allowed in addition, since the clocks are not read at the same instant

MAX_SLEW = 0.15
"""A rate above the fastest slew (`maxslewrate` of chronyd, and 10 % of the kernel)."""
SUSPENDED_NS = 1_000_000
"""A larger difference means that the machine was suspended, which its clocks measure roughly."""

BRACKETS = 5  # attempts to read the clocks without an interruption in between
QUERIES = 3  # attempts to read a report without a step or slew in the meantime


class TimeInterval(NamedTuple):
    """An interval that contains true time, in nanoseconds since 1970 (UTC)."""

    earliest_ns: int
    """True time is not before this."""
    latest_ns: int
    """True time is not after this."""

    @property
    def error_bound(self) -> float:
        """Half the length of the interval, in seconds."""
        return (self.latest_ns - self.earliest_ns) / 2e9


class Clocks(NamedTuple):
    """The clocks of the system, in nanoseconds."""

    raw: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
    """Runs at the hardware's own rate; stands still while the machine is suspended."""
    boot: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    """Runs at the rate of the system clock, and is slewed but never set; runs on in suspend."""
    system: Callable[[], int] = time.time_ns
    monotonic: Callable[[], int] = time.monotonic_ns
    """As `boot`, but stands still while the machine is suspended."""

    def suspended(self) -> int:
        """Return how long the machine has been suspended in all, or a little more than that.

        If there is an interruption between the two readings, the result is larger, never smaller.
        """
        monotonic = self.monotonic()
        return self.boot() - monotonic


class Anchor(NamedTuple):
    """What one tracking report says about true time, and how to extrapolate it."""

    raw: int
    """Reading of the raw clock for which the interval holds."""
    boot: int
    """Reading of the boot clock at the same time."""
    suspended: int
    """How long the machine had been suspended in all at that time, or a little less."""
    low: float
    """Start of the interval that contained true time then, relative to `base`."""
    high: float
    """End of that interval."""
    base: int
    """A time near that interval, since a float cannot hold nanoseconds since 1970."""
    asked: int
    """Reading of the raw clock before chronyd was asked; the report is not older."""
    frequency: float
    """How much faster than true time the uncorrected clock runs, as a ratio."""
    growth: float
    """How far each end moves outwards per nanosecond, as a ratio."""
    leap_margin: int
    """How close to midnight a leap second may be in progress; 0 if none is due."""

    def interval(self) -> TimeInterval:
        """Return the interval that contained true time when the report was read."""
        return self.carried_on(0, 0, 0, lambda: self.suspended)

    def carried_on(
        self, raw: int, boot: int, age: int, suspended: Callable[[], int]
    ) -> TimeInterval:
        """Return the interval after `raw` and `boot` nanoseconds on these clocks.

        chronyd makes the kernel's clock run at the rate of the raw clock times (1 - frequency), and
        a little faster or slower while it slews. If the kernel's clock runs at another rate, either
        chronyd is slewing, or it does not control the clock, and `frequency` is relative to the
        kernel's clock. The interval covers both cases. It is also possible that the machine was
        suspended, for which the raw clock stands still; `suspended` returns for how long in all.
        """
        elapsed = raw * (1 - self.frequency)
        least, most = (elapsed, boot) if elapsed < boot else (boot, elapsed)
        if most - least > UNEXPLAINED * age + UNEXPLAINED_NS:
            uncontrolled = boot * (1 - self.frequency)
            resumed = elapsed + suspended() - self.suspended
            least, most = min(least, uncontrolled), max(most, uncontrolled, resumed)
        grown = age * self.growth
        return TimeInterval(
            self.base + math.floor(self.low + least - grown),
            self.base + math.ceil(self.high + most + grown),
        )

    def around_leap(self, interval: TimeInterval) -> TimeInterval | None:
        """Allow for a leap second at the end of the day; return `None` once it must be over.

        Nanoseconds since 1970 do not count leap seconds. Clocks repeat or skip a second when the
        leap second starts or ends, and chronyd notices that a little later. So for some seconds,
        both ends move outwards by a second. After that, a new report is needed.
        """
        if self.is_near_midnight(interval):
            return TimeInterval(interval.earliest_ns - SECOND, interval.latest_ns + SECOND)
        taken = self.interval()
        same_day = taken.latest_ns // DAY == interval.latest_ns // DAY
        return interval if same_day and not self.is_near_midnight(taken) else None

    def is_near_midnight(self, interval: TimeInterval) -> bool:
        """Whether a leap second may be in progress, if one is due."""
        midnight = (interval.latest_ns + self.leap_margin) // DAY * DAY
        return interval.earliest_ns - self.leap_margin <= midnight


class BoundedClock:
    """Tells the time as an interval that contains true time, as far as the local chronyd knows.

    It is a context manager, and several threads can use it at the same time. When the last report
    is older than `max_age` seconds, one thread asks chronyd and the others wait for the answer.
    Otherwise, no call does any input or output.

    The interval starts as what chronyd itself says about true time: the system clock corrected by
    its offset, plus and minus the root dispersion and half the root delay. From then on, it grows
    at the rate of `skew`, `residual_freq` and `drift_ppm` together, all in ppm; `drift_ppm` is an
    allowance for the oscillator, as `maxclockerror` is in chrony. The time since the report is
    measured with `CLOCK_MONOTONIC_RAW`, so steps and slews of the system clock do not matter.
    Around a leap second, when two conventions number the same seconds differently, the interval
    covers both for some seconds.

    `address` must be that of the chronyd on this machine; `address` and `timeout` are those of
    `ChronyConnection`. With a chronyd that does not control the clock (option `-x`), the interval
    is somewhat wider.

    Entering raises `ChronyLibraryError` if libchrony cannot be found or used. `now()` and
    `wait_past()` raise `ChronyNotSynchronizedError` if the clock is not synchronised, or if a
    report that is due cannot be read; its `__cause__` is the error.
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
        """Close the connection to chronyd. Closing it again does nothing."""
        with self._lock:
            self._is_open, self._anchor = False, None
            self._disconnect()

    def now(self) -> TimeInterval:
        """Return an interval that contains true time at some moment during this call."""
        clocks, anchor, is_new = self._clocks, self._anchor, False
        while True:
            raw, boot = clocks.raw(), clocks.boot()
            if anchor is not None:
                age = raw - anchor.asked
                passed = boot - anchor.boot
                fresh = is_new or (0 <= age <= self._max_age and passed <= self._max_age)
                if fresh and passed - age <= MAX_SLEW * age + SUSPENDED_NS:
                    interval = anchor.carried_on(raw - anchor.raw, passed, age, clocks.suspended)
                    if not anchor.leap_margin:
                        return interval
                    widened = anchor.around_leap(interval)
                    if widened is not None:
                        return widened
            anchor, is_new = self._refresh(anchor), True

    def wait_past(self, ns: int) -> TimeInterval:
        """Wait until true time is certainly later than `ns`; return the interval.

        `ns` is in nanoseconds since 1970 (UTC). Any timestamp that a `BoundedClock` on another
        machine gives after that is also later.
        """
        while (interval := self.now()).earliest_ns <= ns:
            remaining = (ns - interval.earliest_ns + 1) / SECOND
            time.sleep(min(remaining, max(self._max_age / SECOND, 0.01)))
        return interval

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def _refresh(self, seen: Anchor | None) -> Anchor:
        """Return a report that is newer than the one this thread has used."""
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
        """Read a report; read it again if the system clock was adjusted in the meantime."""
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
                f"bounding the time: no report from chronyd: {error.message}"
            ) from error

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


_all_clocks: weakref.WeakSet[BoundedClock] = weakref.WeakSet()


def _renew_locks() -> None:
    """Replace the locks in a forked child, where no other thread can release them."""
    for clock in list(_all_clocks):
        clock._renew_lock()


os.register_at_fork(after_in_child=_renew_locks)


class Reading(NamedTuple):
    """The system's clocks, read as nearly at the same time as possible."""

    raw: int
    boot: int
    system: int
    uncertainty: int
    """How much later than `raw` the others may have been read."""
    suspended: int
    """How long the machine had been suspended in all, or a little less than that."""


def _read_together(clocks: Clocks) -> Reading:
    """Read the clocks several times, and return the reading with the least uncertainty."""
    best: Reading | None = None
    for _ in range(BRACKETS):
        raw = clocks.raw()
        system, boot = clocks.system(), clocks.boot()
        suspended = boot - clocks.monotonic()
        reading = Reading(raw, boot, system, clocks.raw() - raw, suspended)
        if best is None or reading.uncertainty < best.uncertainty:
            best = reading
    assert best is not None
    return best


def _anchor(
    tracking: TrackingStatus, before: Reading, after: Reading, drift: float
) -> tuple[Anchor, float]:
    """Relate true time to the raw clock; also return how far the system clock was adjusted.

    chronyd made the report at an unknown time between the two readings. That time does not matter
    if the system clock and the raw clock kept their distance. After a step or a slew, the interval
    covers both distances.
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
        suspended=after.suspended,
        low=low + (tracking.offset - spread) * SECOND,
        high=high + (tracking.offset + spread) * SECOND,
        base=after.system,
        asked=before.raw,
        frequency=frequency,
        growth=(tracking.skew + abs(tracking.residual_freq)) * PPM + drift,
        leap_margin=LEAP_MARGIN + math.ceil(abs(tracking.offset) * SECOND) if due else 0,
    )
    # A synchronised chronyd also reports this while it applies a leap second.
    if tracking.leap_status is LeapStatus.UNSYNC and not anchor.is_near_midnight(anchor.interval()):
        raise _unsynchronized()
    return anchor, high - low


def _unsynchronized() -> ChronyNotSynchronizedError:
    return ChronyNotSynchronizedError(
        "bounding the time: chronyd is not synchronised; 'pychrony check' says why"
    )


def _not_negative(value: float, name: str) -> float:
    if not 0 <= value < math.inf:  # raises TypeError for anything but a number
        raise ValueError(f"{name} must be finite and at least 0, not {value!r}")
    return value
