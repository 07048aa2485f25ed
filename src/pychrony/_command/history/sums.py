"""Sums up what a log says about a clock: percentiles, times that count against it, and steps."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple

from ..logs.columns import ASKED, History, in_order
from ..logs.stretches import ABOVE, AGAINST, UNSYNCHRONIZED, Step, steps, stretches

PERCENTILES = (50, 95, 99, 100)
DAY = 86400.0


class Sum:
    """The sums of one day, or of all lines."""

    def __init__(self) -> None:
        self.lines = 0
        self.bounds = array("d")
        self.seconds: dict[str, float] = dict.fromkeys(AGAINST, 0.0)
        """How long each state that counts against the clock lasted."""
        self.steps: list[tuple[float, Step]] = []
        """Each step of the clock, with the time after it."""

    def percentiles(self) -> dict[int, float | None]:
        """Return percentiles of the error bound by the nearest rank; `None` without a bound."""
        ordered = sorted(self.bounds)
        if not ordered:
            return dict.fromkeys(PERCENTILES)
        return {p: ordered[math.ceil(len(ordered) * p / 100) - 1] for p in PERCENTILES}

    def keeps(self, limit: float | None) -> bool:
        """Whether the clock was synchronised, with an error bound within the limit."""
        return limit is None or not (self.seconds[ABOVE] or self.seconds[UNSYNCHRONIZED])


class Account(NamedTuple):
    """The sums for one chronyd."""

    address: str | None
    start: float
    end: float
    days: dict[str, Sum]
    whole: Sum


def sum_up(address: str | None, history: History, limit: float | None) -> Account:
    """Sum up the lines in which the clock was asked for; there must be one."""
    lines = [line for line in in_order(history) if history.flags[line] & ASKED]
    found = steps(history, lines)
    days = defaultdict[str, Sum](Sum)
    whole = Sum()
    for line, lasting in zip(lines, stretches(history, lines, found, limit), strict=True):
        time, bound = history.time[line], history.bound(line)
        for sum_ in (whole, days[_day(time)]):
            sum_.lines += 1
            if not math.isnan(bound):
                sum_.bounds.append(bound)
            if line in found:
                sum_.steps.append((time, found[line]))
        for start, length, state in lasting:
            if state:
                whole.seconds[state] += length
                for part, day in _by_day(start, length):
                    days[_day(day)].seconds[state] += part
    times = [history.time[line] for line in lines]
    return Account(address, min(times), max(times), dict(sorted(days.items())), whole)


def _day(time: float) -> str:
    return f"{datetime.fromtimestamp(time, timezone.utc):%Y-%m-%d}"


def _by_day(start: float, length: float) -> Iterator[tuple[float, float]]:
    """Divide a time at midnight (UTC): return the seconds of each day, and a time in that day."""
    while length > 0:
        part = min(length, DAY - start % DAY)
        yield part, start
        start, length = start + part, length - part
