"""Reads the lines that `--json --watch` writes into rows of numbers to draw."""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple

NAN = float("nan")
OK, ERROR, UNSYNCHRONIZED = range(3)

CLOCK = ("time", "offset", "bound", "frequency", "skew")
"""Columns of `History.clock`.

Time is in seconds since 1970 (UTC), offset and error bound in seconds, frequency and skew in ppm.
Positive: the system clock is ahead, or fast; the sign of the offset is opposite to that of
`TrackingStatus.offset`.
"""
SAMPLE = ("time", "offset", "error", "reached", "selected")
"""Columns of `History.sources`.

Offset and error bound are in seconds; positive: the system clock is ahead of the source. `reached`
is how many of the last eight polls were answered, `selected` is 1 if the clock follows the source.
"""
STATE = ("time", "state")


class Rows:
    """A table that grows row by row; unknown values are NaN."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.width = len(columns)
        self.numbers = array("d")

    def add(self, *row: float) -> None:
        """Add a row; missing columns are NaN."""
        self.numbers.extend((*row, *[NAN] * (self.width - len(row))))

    def extend(self, other: Rows) -> None:
        """Add all rows of another table."""
        self.numbers.extend(other.numbers)

    def __len__(self) -> int:
        return len(self.numbers) // self.width


@dataclass
class History:
    """What a log says about one chronyd."""

    clock: Rows = field(default_factory=lambda: Rows(CLOCK))
    sources: dict[str, Rows] = field(default_factory=dict)
    """By the source's name."""
    states: Rows = field(default_factory=lambda: Rows(STATE))
    """For each line, whether it has an error or an unsynchronised clock."""
    errors: Counter[str] = field(default_factory=Counter)
    """The number of lines with each error."""
    synchronized: int = 0
    """The number of lines that have a clock with an error bound."""

    def add(self, time: float, tracking: dict[str, Any] | None, sources: list[Any] | None) -> None:
        """Add the answers of one line."""
        clock = () if tracking is None else clock_of(tracking)
        samples = {source["address"]: sample_of(source) for source in sources or ()}
        if tracking is not None:
            self.clock.add(time, *clock)
            self.synchronized += bool(clock)
        for name, sample in samples.items():
            self.sources.setdefault(name, Rows(SAMPLE)).add(time, *sample)
        self.states.add(time, OK if clock or tracking is None else UNSYNCHRONIZED)

    def add_error(self, time: float, error: str) -> None:
        """Add the error of one line, which interrupts every curve."""
        self.errors[error] += 1
        self.states.add(time, ERROR)
        self.clock.add(time)
        for samples in self.sources.values():
            samples.add(time)

    def add_errors_of(self, other: History) -> None:
        """Add what happened before the address of this chronyd was known."""
        self.errors += other.errors
        self.states.extend(other.states)
        self.clock.extend(other.clock)

    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.synchronized and not self.sources


class Unusable(NamedTuple):
    """Lines that cannot be used, all for the same reason."""

    number: int
    first: str
    """File and number of the first of them, such as `clock.log:17`."""


@dataclass
class Log:
    """Everything that was read from the files."""

    histories: dict[str | None, History] = field(default_factory=dict)
    """By the address of the chronyd; `None` for lines without an address."""
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

    def history(self, address: str | None) -> History | None:
        """Return what the log says about one chronyd, by default about the only one."""
        known = self.addresses()
        if len(known) == 1 and None in self.histories:
            self.histories[known[0]].add_errors_of(self.histories.pop(None))
        return self.histories.get(address or (known[0] if len(known) == 1 else None))

    def addresses(self) -> list[str]:
        """Return the addresses of all chronyds in the log."""
        return [address for address in self.histories if address is not None]

    def _take(self, line: bytes) -> str:
        """Add a line, or return why it cannot be used."""
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
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
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            return "not from --json --watch"
        self.histories[address] = history
        return ""


def seconds(time: str | float) -> float:
    """Return a time of a line in seconds since 1970."""
    if isinstance(time, str):
        return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
    return datetime.fromtimestamp(time, timezone.utc).timestamp()


def number(value: Any) -> float:
    """Return a number that can be drawn, or raise `ValueError`."""
    found = float(value)
    if not math.isfinite(found):
        raise ValueError("not finite")
    return found


def clock_of(tracking: dict[str, Any]) -> tuple[float, ...]:
    """Return what a report says about the clock; nothing if it is not synchronised."""
    if tracking["reference_id"] == 0 or tracking["stratum"] >= 16:
        return ()
    offset, delay = number(tracking["offset"]), number(tracking["root_delay"])
    bound = abs(offset) + number(tracking["root_dispersion"]) + delay / 2
    return -offset, bound, number(tracking["frequency"]), number(tracking["skew"])


def sample_of(source: dict[str, Any]) -> tuple[float, ...]:
    """Return what a report says about a source."""
    offset, error = number(source["latest_meas"]), number(source["latest_meas_err"])
    if source["last_sample_ago"] is None:
        offset = error = NAN
    reached = (source["reachability"] & 0xFF).bit_count()
    return offset, error, float(reached), float(source["state"] == "SELECTED")
