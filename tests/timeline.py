"""Simulates a machine whose true time is known: its clocks and its chronyd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scripted.wire import Record, tracking

from pychrony.clock import Clocks

SECOND = 10**9
DAY = 86_400 * SECOND
NOON = 20_000 * DAY + DAY // 2

LOCAL = 0x7F7F0101

Leap = Literal["insert", "delete"]


@dataclass
class Machine:
    """True time and the clocks of a machine, moved on by `advance()`; all in nanoseconds.

    Frequencies are in parts per billion. chronyd's estimates are as wrong as its reports allow,
    and no more: `wrong` is the share of that, from -1 to 1. The hardware's frequency drifts from
    what chronyd measured by at most 1 ppm.
    """

    controlled: bool = True
    hardware: int = 0
    kernel: int = 0  # the adjustment of the kernel's clock, if chronyd does not control it
    spread: int = 200  # chronyd's error bound
    round_trip: tuple[int, int] = (0, 0)  # how long request and answer take
    true: int = NOON  # counts every second, even a leap second
    raw: int = 5_000 * SECOND
    boot: int = 7_000 * SECOND
    suspended: int = 1_000 * SECOND
    system: int = NOON + 123_456_789
    synchronized: bool = True
    skew: int = 50
    residual: int = 20
    wrong: float = 0.0
    frequency_wrong: float = 0.0
    drift: int = 0
    slew_rate: int = 0
    slew_left: int = 0
    leap: Leap | None = None
    midnight: int = 0
    applied_at: int = 0  # when the system clock, or chronyd, applies the leap second
    applied: bool = False
    leap_by_slew: bool = False

    def clocks(self) -> Clocks:
        return Clocks(
            lambda: self.raw,
            lambda: self.boot,
            lambda: self.system,
            lambda: self.boot - self.suspended,
        )

    @property
    def frequency(self) -> float:
        """chronyd's estimate of the clock's own frequency error, in ppb."""
        pace = (1 + self.hardware / SECOND) * (1 if self.controlled else 1 + self.kernel / SECOND)
        own = (1 - 1 / pace) * SECOND  # chronyd multiplies the clock's time by 1 - frequency
        return own + self.frequency_wrong * (self.skew + abs(self.residual))

    def advance(self, true: int) -> None:
        """Let time pass; a slew or a leap second takes effect when it is due."""
        end = self.true + true
        while self.true < end:
            step = end - self.true
            if self.slew_left:
                step = min(step, max(1, abs(self.slew_left) * SECOND // self.slew_rate))
            if self.leap and not self.applied and self.true < self.applied_at:
                step = min(step, self.applied_at - self.true)
            self._run(step)
            if self.leap and not self.applied and self.true >= self.applied_at:
                self.applied = True
                if not self.leap_by_slew:
                    self.system += self._leap_step()

    def _run(self, step: int) -> None:
        raw = step + step * (self.hardware + self.drift) // SECOND
        pace = -round(self.frequency) if self.controlled else self.kernel
        slewed = 0
        if self.slew_left:
            sign = 1 if self.slew_left > 0 else -1
            slewed = sign * min(abs(self.slew_left), step * self.slew_rate // SECOND + 1)
            self.slew_left -= slewed
        boot = raw + raw * pace // SECOND + slewed
        self.true += step
        self.raw += raw
        self.boot += boot
        self.system += boot

    def suspend(self, true: int) -> None:
        """Let time pass while the hardware's counter stands still."""
        self.true += true
        self.boot += true
        self.suspended += true
        self.system += true

    def slew(self, rate: int) -> None:
        """Let chronyd slew its estimated offset, at `rate` ppb."""
        self.slew_rate, self.slew_left = rate, self.offset()

    def step(self) -> None:
        """Let chronyd step the clock by its estimated offset."""
        self.system += self.offset()
        self.slew_left = 0

    def announce(self, leap: Leap, *, delay: int, by_slew: bool) -> None:
        """Put a leap second at the end of this day, applied with a delay, or early."""
        self.leap, self.applied, self.leap_by_slew = leap, False, by_slew
        self.midnight = (self.true // DAY + 1) * DAY
        self.applied_at = self._changes_at() + delay

    def numbers(self) -> list[int]:
        """Return the possible values of true time, in nanoseconds since 1970 (UTC)."""
        if self.leap is None or self.true < self._changes_at():
            return [self.true]
        after = self.true + self._leap_step()
        in_leap_second = self.leap == "insert" and self.true < self.midnight + SECOND
        return [self.true, after] if in_leap_second else [after]

    def offset(self) -> int:
        """Return how far true time is from the system clock, as far as chronyd knows."""
        believed = self.true + (self._leap_step() if self.applied else 0)
        return believed - self.system + round(self.wrong * self.spread)

    def report(self) -> Record:
        """Return chronyd's present answer to a request for `tracking`."""
        self.advance(self.round_trip[0])
        record = self._tracking()
        self.advance(self.round_trip[1])
        return record

    def _tracking(self) -> Record:
        if not self.synchronized:
            return tracking(
                reference_id=0,
                address=None,
                stratum=0,
                leap_status=3,
                root_delay=1.0,
                root_dispersion=1.0,
                skew=0.0,
                residual_frequency=0.0,
            )
        return tracking(
            leap_status=self._leap_status(),
            current_correction=self.offset() / SECOND,
            frequency_offset=self.frequency / 1000,
            residual_frequency=self.residual / 1000,
            skew=self.skew / 1000,
            root_delay=self.spread / SECOND,
            root_dispersion=self.spread / SECOND / 2,
        )

    def _leap_status(self) -> int:
        if self.leap is None:
            return 0
        if not self.applied:
            return 1 if self.leap == "insert" else 2
        return 3 if self.true < self.applied_at + SECOND else 0

    def _leap_step(self) -> int:
        return -SECOND if self.leap == "insert" else SECOND

    def _changes_at(self) -> int:
        return self.midnight - (SECOND if self.leap == "delete" else 0)
