"""Tells the time as an interval that contains true time: `BoundedClock`.

How it works: chronyd's report says how far true time is from the system clock (`offset`), the bound
on the error of that (root dispersion and half the root delay), and the frequency error of the
hardware (`frequency`). Each report therefore relates true time to `CLOCK_MONOTONIC_RAW`, which
nobody slews or sets. From there, true time is extrapolated with that frequency, in an interval that
grows. Steps and slews of the system clock in the meantime do not matter, nor does a restart.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from ._io.library import library_path
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

LEAP_NOTICE = SECOND
"""chronyd is expected to announce a leap second at least this long before it."""

SAME_RATE = 3 * PPM
"""The kernel's clock counts as controlled by chronyd if their rates differ by less than this.

Readings a second or two apart are precise enough to show such a difference.
"""

STEPS_NS = 100
"""Clocks count in steps, for example of 42 ns where the hardware has a counter of 24 MHz."""

MAX_SLEW = 0.15
"""No slew is faster, neither chronyd's (`maxslewrate`) nor the kernel's (10 %)."""

SUSPENDED_NS = 1_000_000
"""A larger difference means that the machine was suspended: clocks measure that only roughly."""

BRACKETS = 5  # attempts to read the clocks without an interruption in between


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

    raw: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC_RAW)
    """Runs at the hardware's own rate; stands still while the machine is suspended."""
    boot: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
    """Runs at the rate of the system clock, and is slewed but never set; runs on in suspend."""
    system: Callable[[], int] = time.time_ns
    monotonic: Callable[[], int] = time.monotonic_ns
    """As `boot`, but stands still while the machine is suspended."""


class CrossTimestamp(NamedTuple):
    """The system's clocks, read as nearly at the same time as possible."""

    raw: int
    system: int
    boot: int
    monotonic: int
    """Read after `boot`, so that the difference is not more than the time in suspend."""
    uncertainty: int
    """How much later than `raw` the others may have been read."""


class Anchor(NamedTuple):
    """What one tracking report says about true time, and how to extrapolate it."""

    taken: TimeInterval
    """The interval that contained true time when the report was read."""
    at: CrossTimestamp
    """When that was."""
    since: CrossTimestamp
    """Start of the comparison between the rate of the kernel's clock and chronyd's."""
    controlled: bool
    """Whether the comparison has shown that chronyd controls the kernel's clock."""
    asked: int
    """Reading of the raw clock before chronyd was asked; the report is not older than that."""
    frequency: float
    """How much faster than true time the uncorrected clock runs, as a ratio."""
    growth: float
    """How far each end moves outwards per nanosecond, as a ratio."""
    leap_margin: int
    """How close to midnight a leap second may be in progress."""
    leap_due: bool
    """Whether chronyd has announced a leap second, or is applying it."""

    def carried_on(self, raw: int, monotonic: int, boot: int, uncertainty: int) -> TimeInterval:
        """Return the interval at the time when the clocks were read, in that order.

        `uncertainty` is how much later than `raw` the others may have been read.

        chronyd makes the kernel's clock run at the rate of the raw clock times (1 - frequency), and
        a little faster or slower while it slews or compensates for the temperature; `frequency`
        does not include that compensation. True time runs at one of these two rates. If chronyd
        does not control the kernel's clock, `frequency` is relative to that clock instead, and true
        time runs at its rate times (1 - frequency). The interval covers all three rates, the last
        until the rate of the kernel's clock shows that chronyd controls it.

        All clocks but the boot clock stand still while the machine is suspended. That clock
        measures the suspension only roughly, so the interval covers anything up to it.
        """
        at, ratio = self.at, 1 - self.frequency
        elapsed, kernel = (raw - at.raw) * ratio, monotonic - at.monotonic
        passed = [elapsed, kernel]
        if not (self.controlled or _same_rate(self.since, raw, monotonic, uncertainty, ratio)):
            passed.append(kernel * ratio)
        suspended = max(0, boot - monotonic - (at.boot - at.monotonic))
        grown = (raw - self.asked) * self.growth
        return TimeInterval(
            self.taken.earliest_ns + math.floor(min(passed) - grown),
            self.taken.latest_ns + math.ceil(max(passed) + suspended + grown),
        )

    def around_leap(self, interval: TimeInterval, age: int) -> TimeInterval | None:
        """Allow for a leap second at the end of the day; return `None` once it must be over.

        Nanoseconds since 1970 do not count leap seconds. Clocks repeat or skip a second when the
        leap second starts or ends, and chronyd notices that a little later. So for some seconds,
        both ends move outwards by a second. After that, a new report is needed. The same goes for a
        report that may be older than the announcement of a leap second.
        """
        if self.is_near_midnight(interval):
            if not self.leap_due and age <= LEAP_NOTICE:
                return interval
            return TimeInterval(interval.earliest_ns - SECOND, interval.latest_ns + SECOND)
        same_day = self.taken.latest_ns // DAY == interval.latest_ns // DAY
        return interval if same_day and not self.is_near_midnight(self.taken) else None

    def is_near_midnight(self, interval: TimeInterval) -> bool:
        """Whether a leap second may be in progress, provided that there is one."""
        midnight = (interval.latest_ns + self.leap_margin) // DAY * DAY
        return interval.earliest_ns - self.leap_margin <= midnight


def _same_rate(
    since: CrossTimestamp, raw: int, monotonic: int, uncertainty: int, ratio: float
) -> bool | None:
    """Whether the kernel's clock ran like the raw clock times `ratio`; `None`: too early to say."""
    elapsed = (raw - since.raw) * ratio
    deviation = abs(monotonic - since.monotonic - elapsed)
    unsure = since.uncertainty + uncertainty + STEPS_NS
    if deviation + unsure < SAME_RATE * elapsed:
        return True
    return None if deviation - unsure < SAME_RATE * elapsed else False


class BoundedClock:
    """Tells the time as an interval that contains true time, as far as the local chronyd knows.

    It is a context manager. Several threads and signal handlers can use it at the same time. A call
    asks chronyd when the last report is older than `max_age` seconds. Otherwise, it does no input
    or output.

    The interval starts as what chronyd itself says about true time: the system clock corrected by
    its offset, plus and minus the root dispersion and half the root delay. From then on, it grows
    at the rate of `skew`, `residual_freq` and `drift_ppm` together, all in ppm; `drift_ppm` is an
    allowance for the oscillator, as `maxclockerror` is in chrony. The time since the report is
    measured with `CLOCK_MONOTONIC_RAW`, so steps and slews of the system clock do not matter.
    Around a leap second, when two conventions number the same seconds differently, the interval
    covers both for some seconds. At each midnight (UTC), it does so with a report that is older
    than a second, since a leap second may have been announced later.

    `address` must be that of the chronyd on this machine; `address` and `timeout` are those of
    `ChronyConnection`. A chronyd that is its own reference (its `local` directive) knows only its
    own error, and is refused unless `local_ok` is true.

    With a chronyd that does not control the clock (option `-x`), the interval also grows by
    `frequency`, and by the adjustment that the kernel itself makes. With any other chronyd, it
    grows by `frequency` until, after a few seconds, the rate of the system clock has shown that
    chronyd controls it. Known limitation: a system clock that chronyd does not control counts as
    controlled if something else has adjusted it to within 3 ppm of the rate at which chronyd would
    run it.

    Entering raises `ChronyLibraryError` if libchrony cannot be found or used. `now()` and
    `wait_past()` raise `ChronyNotSynchronizedError` if the clock is not synchronised to a source,
    or if a report that is due cannot be read, with that error as its `__cause__`.
    """

    def __init__(
        self,
        address: AnyAddress = None,
        *,
        timeout: float | None = 5.0,
        max_age: float = 1.0,
        drift_ppm: float = 1.0,
        local_ok: bool = False,
    ) -> None:
        self._address, self._timeout = address, timeout
        self._connect()  # checks the arguments
        self._max_age = _not_negative(max_age, "max_age") * SECOND
        self._drift = _not_negative(drift_ppm, "drift_ppm") * PPM
        self._local_ok = local_ok
        self._clocks = Clocks()
        self._connection: ChronyConnection | None = None  # while this clock is open
        self._last: Anchor | None = None  # `None` if the last attempt to read a report failed

    def __enter__(self) -> BoundedClock:
        library_path()
        if self._connection is not None:
            raise RuntimeError("this BoundedClock is already open")
        self._last = None
        self._connection = self._connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection to chronyd. Calls in progress end with an error.

        Closing it again does nothing.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def now(self) -> TimeInterval:
        """Return an interval that contains true time at some moment during this call."""
        # Threads and signal handlers may interrupt each other anywhere. So each call asks chronyd
        # itself, does not wait for other calls, and never sees their unfinished work.
        connection, clocks, anchor, is_new = self._connection, self._clocks, self._last, False
        if connection is None:
            raise _not_open()
        while True:
            clocks.boot()  # the first reading after a pause takes long
            raw, monotonic, boot = clocks.raw(), clocks.monotonic(), clocks.boot()
            uncertainty = clocks.raw() - raw
            if anchor is not None:
                age = raw - anchor.asked
                passed = boot - anchor.at.boot
                fresh = is_new or (0 <= age <= self._max_age and passed <= self._max_age)
                if fresh and passed - age <= MAX_SLEW * age + SUSPENDED_NS:
                    interval = anchor.carried_on(raw, monotonic, boot, uncertainty)
                    allowed = anchor.around_leap(interval, age)
                    if allowed is not None:
                        return allowed
            anchor, is_new = self._ask(connection), True

    def wait_past(self, ns: int) -> TimeInterval:
        """Wait until true time is certainly later than `ns`; return the interval.

        `ns` is in nanoseconds since 1970 (UTC). Any timestamp that a `BoundedClock` on another
        machine gives after that is also later.
        """
        while (interval := self.now()).earliest_ns <= ns:
            remaining = (ns - interval.earliest_ns + 1) / SECOND
            time.sleep(min(remaining, max(self._max_age / SECOND, 0.01)))
        return interval

    def _connect(self) -> ChronyConnection:
        connection = ChronyConnection(self._address, timeout=self._timeout)
        connection._stays = True  # reports of two chronyds would not fit together
        return connection

    def _ask(self, connection: ChronyConnection) -> Anchor:
        try:
            before = _cross_timestamp(self._clocks)
            tracking = self._tracking(connection)
            after = _cross_timestamp(self._clocks)
            anchor = _anchor(tracking, before, after, self._drift, self._last)
        except ChronyNotSynchronizedError:
            self._last = None  # chronyd may have been replaced
            raise
        if connection is self._connection:  # not opened again meanwhile, perhaps to another chronyd
            self._last = anchor
        return anchor

    def _tracking(self, connection: ChronyConnection) -> TrackingStatus:
        try:
            if connection.address is None:  # the first call opens the connection
                with suppress(RuntimeError):  # another call has opened it meanwhile
                    connection.__enter__()
            if connection is not self._connection:
                connection.close()
                raise _not_open()
            tracking = connection.get_tracking()
        except ChronyLibraryError:
            raise
        except ChronyError as error:
            raise ChronyNotSynchronizedError(
                f"bounding the time: no report from chronyd: {error.message}"
            ) from error
        if tracking.is_local_reference() and not self._local_ok:
            raise ChronyNotSynchronizedError(
                "bounding the time: chronyd is its own reference, without a source; "
                "local_ok=True accepts that"
            )
        return tracking


def _cross_timestamp(clocks: Clocks) -> CrossTimestamp:
    """Read the clocks several times, and return the timestamp with the least uncertainty."""
    return min((_read(clocks) for _ in range(BRACKETS)), key=lambda stamp: stamp.uncertainty)


def _read(clocks: Clocks) -> CrossTimestamp:
    raw = clocks.raw()
    system, boot, monotonic = clocks.system(), clocks.boot(), clocks.monotonic()
    return CrossTimestamp(raw, system, boot, monotonic, clocks.raw() - raw)


def _anchor(
    tracking: TrackingStatus,
    before: CrossTimestamp,
    after: CrossTimestamp,
    drift: float,
    last: Anchor | None,
) -> Anchor:
    """Relate true time to the raw clock.

    chronyd made the report at an unknown time between `before` and `after`. That time does not
    matter if the system clock kept its distance from true time. Otherwise, the interval covers each
    distance that it may have had: before or after a step, and with none, some or all of the slew,
    or of the time that a clock which chronyd does not control has gained or lost.
    """
    if not tracking.is_synchronized():
        raise _unsynchronized()
    frequency = tracking.frequency * PPM
    elapsed = (after.raw - before.raw) * (1 - frequency)
    boot, kernel = after.boot - before.boot, after.monotonic - before.monotonic
    stepped = before.system - after.system + boot
    drifted = 0.0, elapsed - boot, elapsed - kernel, -kernel * frequency
    unsure = max(before.uncertainty, after.uncertainty)
    low = min(0, stepped) + min(drifted) - unsure
    high = max(0, stepped) + max(drifted) + unsure
    spread = tracking.root_dispersion + tracking.root_delay / 2
    spread += WIRE_PRECISION * (spread + abs(tracking.offset))
    since, controlled = (last.since, last.controlled) if last else (before, False)
    same = _same_rate(since, after.raw, after.monotonic, after.uncertainty, 1 - frequency)
    if same is not None:
        since, controlled = after, same
    taken = TimeInterval(
        after.system + math.floor(low + (tracking.offset - spread) * SECOND),
        after.system + math.ceil(high + (tracking.offset + spread) * SECOND),
    )
    anchor = Anchor(
        taken=taken,
        at=after,
        since=since,
        controlled=controlled,
        asked=before.raw,
        frequency=frequency,
        growth=(tracking.skew + abs(tracking.residual_freq)) * PPM + drift,
        leap_margin=LEAP_MARGIN + math.ceil(abs(tracking.offset) * SECOND),
        leap_due=tracking.leap_status is not LeapStatus.NORMAL,
    )
    # A synchronised chronyd also reports this while it applies a leap second.
    if tracking.leap_status is LeapStatus.UNSYNC and not anchor.is_near_midnight(taken):
        raise _unsynchronized()
    return anchor


def _unsynchronized() -> ChronyNotSynchronizedError:
    return ChronyNotSynchronizedError(
        "bounding the time: chronyd is not synchronised; 'pychrony check' says why"
    )


def _not_open() -> RuntimeError:
    return RuntimeError("this BoundedClock is not open: use it in a 'with' block")


def _not_negative(value: float, name: str) -> float:
    if not 0 <= value <= sys.float_info.max:  # raises TypeError for anything but a number
        raise ValueError(f"{name} must be finite and at least 0, not {value!r}")
    return value
