"""Reads the lines that `--json --watch` writes into rows of numbers, which can be drawn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

NAN = float("nan")
OK, ERROR, UNSYNCHRONIZED = range(3)


class Clock(NamedTuple):
    """The system clock at one time; not a number where chronyd does not say."""

    time: float
    """In seconds since 1970 (UTC)."""
    offset: float = NAN
    """In seconds; positive: the system clock is ahead, opposite to `TrackingStatus.offset`."""
    bound: float = NAN
    """Bound of the clock's error, in seconds."""
    frequency: float = NAN
    """In ppm; positive: the uncorrected clock is fast."""
    skew: float = NAN
    """In ppm."""

    def is_known(self) -> bool:
        """Whether the clock was synchronised, so that its error has a bound."""
        return self.bound == self.bound


class Sample(NamedTuple):
    """A source at one time; not a number where chronyd does not say."""

    time: float
    offset: float = NAN
    """In seconds; positive: the system clock is ahead of the source."""
    error: float = NAN
    """In seconds."""
    reached: float = NAN
    """How many of the last eight polls were answered."""
    selected: float = NAN
    """1 if the clock follows this source, else 0."""


@dataclass
class History:
    """What a log tells about one chronyd."""

    clock: list[Clock] = field(default_factory=list)
    sources: dict[str, list[Sample]] = field(default_factory=dict)
    states: list[tuple[float, int]] = field(default_factory=list)
    """Time of each line, and whether it has an error, or an unsynchronised clock."""
    errors: Counter[str] = field(default_factory=Counter)
    """How often there was which error."""

    def add(self, time: float, tracking: dict[str, Any] | None, sources: list[Any] | None) -> None:
        """Take in the answers of one line."""
        clock = None if tracking is None else clock_of(time, tracking)
        samples = {source["address"]: sample_of(time, source) for source in sources or ()}
        if clock is not None:
            self.clock.append(clock)
        for name, sample in samples.items():
            self.sources.setdefault(name, []).append(sample)
        is_unsynchronized = clock is not None and not clock.is_known()
        self.states.append((time, UNSYNCHRONIZED if is_unsynchronized else OK))

    def add_error(self, time: float, error: str) -> None:
        """Take in the error of one line, which interrupts every curve."""
        self.errors[error] += 1
        self.states.append((time, ERROR))
        self.clock.append(Clock(time))
        for samples in self.sources.values():
            samples.append(Sample(time))


class Unusable(NamedTuple):
    """Lines that cannot be drawn for the same reason."""

    number: int
    first: str
    """Where the first of them is, as in `clock.log:17`."""


@dataclass
class Log:
    """All that was read from the files."""

    histories: dict[str, History] = field(default_factory=dict)
    """By the address of the chronyd."""
    lines: int = 0
    unusable: dict[str, Unusable] = field(default_factory=dict)
    """By the reason."""

    def read(self, name: str, lines: Iterable[bytes]) -> None:
        """Read the lines of a file."""
        for number, line in enumerate(lines, 1):
            self.lines += 1
            reason = self._take(line)
            if reason:
                earlier = self.unusable.get(reason, Unusable(0, f"{name}:{number}"))
                self.unusable[reason] = earlier._replace(number=earlier.number + 1)

    def _take(self, line: bytes) -> str:
        """Take in a line, or return why it cannot be used."""
        try:
            entry = json.loads(line)
        except ValueError:
            return "not JSON" if line.endswith(b"\n") else "cut off"
        try:
            time, address, report = seconds(entry["time"]), entry["address"], entry["report"]
            history = self.histories.get(address) or History()
            if "error" in entry:
                history.add_error(time, entry["error"]["error"])
            else:
                answer = entry["answer"]
                reports = answer if report == "all" else {report: answer}
                if "tracking" not in reports and "sources" not in reports:
                    return f"of {report}, which is not drawn"
                history.add(time, reports.get("tracking"), reports.get("sources"))
        except (AttributeError, KeyError, TypeError, ValueError):
            return "not from --json --watch"
        self.histories[address] = history
        return ""


def seconds(time: str | float) -> float:
    """Return a time of a line in seconds since 1970."""
    if isinstance(time, str):
        return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
    return float(time)


def clock_of(time: float, tracking: dict[str, Any]) -> Clock:
    """Return what the report says of the clock; a clock that follows nothing has no error bound."""
    offset, delay = float(tracking["offset"]), float(tracking["root_delay"])
    bound = abs(offset) + float(tracking["root_dispersion"]) + delay / 2
    frequency, skew = float(tracking["frequency"]), float(tracking["skew"])
    if tracking["reference_id"] == 0 or tracking["stratum"] >= 16:
        return Clock(time)
    return Clock(time, -offset, bound, frequency, skew)


def sample_of(time: float, source: dict[str, Any]) -> Sample:
    """Return what the report says of a source."""
    reached = float(source["reachability"].bit_count())
    selected = float(source["state"] == "SELECTED")
    offset, error = float(source["latest_meas"]), float(source["latest_meas_err"])
    if source["last_sample_ago"] is None:
        return Sample(time, reached=reached, selected=selected)
    return Sample(time, offset, error, reached, selected)
