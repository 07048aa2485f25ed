"""Sums up what a log says about a clock: percentiles, times that count against it, and steps."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from ..logs.columns import (
    ASKED,
    CLOCK,
    GAP,
    NEIGHBOURS,
    SYNCHRONIZED,
    History,
    Step,
    in_order,
    steps,
)

PERCENTILES = (50, 95, 99, 100)
DAY = 86400.0

AGAINST = ABOVE, UNSYNCHRONIZED, UNANSWERED, WITHOUT_LINES = (
    "above_limit",
    "unsynchronised",
    "unanswered",
    "without_lines",
)
"""What counts against a clock; a sum has the seconds that each of these lasted."""


class Sum:
    """The sums of one day, or of all lines."""

    def __init__(self) -> None:
        self.lines = 0
        self.bounds = array("d")
        self.seconds: dict[str, float] = dict.fromkeys(AGAINST, 0.0)
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


Stretch = tuple[float, float, str]
"""When the state of a line began, how long it lasted, and the state."""


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
    found = {step.line: step for step in steps(history, lines)}
    days = defaultdict[str, Sum](Sum)
    whole = Sum()
    for line, stretches in _stretches(history, lines, found, limit):
        time, bound = history.time[line], history.bound[line]
        for sum_ in (whole, days[_day(time)]):
            sum_.lines += 1
            if not math.isnan(bound):
                sum_.bounds.append(bound)
            if line in found:
                sum_.steps.append((time, found[line]))
        for start, length, state in stretches:
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


def _stretches(
    history: History, lines: Sequence[int], found: dict[int, Step], limit: float | None
) -> Iterator[tuple[int, list[Stretch]]]:
    """Yield each line with the times that count against the clock until the next one."""
    passed = [
        history.time[b] - history.time[a] - (found[b].seconds if b in found else 0)
        for a, b in pairwise(lines)
    ]
    usual = median(passed) if passed else 1.0
    for index, line in enumerate(lines):
        time, state = history.time[line], _state(history, line, limit)
        until_next = passed[index] if index < len(passed) else usual
        around = passed[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1]
        lasts = usual_around = sorted(around)[len(around) // 2] if around else usual
        if until_next <= GAP * usual_around:
            lasts = until_next
        stretches = [(time, lasts, state)] if state else []
        if lasts < until_next:
            stretches.append((time + lasts, until_next - lasts, WITHOUT_LINES))
        yield line, stretches


def _state(history: History, line: int, limit: float | None) -> str:
    """Return what counts against the clock; nothing if it is good."""
    flags = history.flags[line]
    if not flags & CLOCK:
        return UNANSWERED
    if not flags & SYNCHRONIZED:
        return UNSYNCHRONIZED
    return ABOVE if limit is not None and history.bound[line] > limit else ""
