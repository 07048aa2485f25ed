"""Finds where the clock was set in a log, and how long each of its lines counts."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from ..._model.durations import interval
from .columns import ASKED, CLOCK, ERROR, LEAST_STEP, SYNCHRONIZED, History

EARLIEST = 946684800.0
"""Start of 2000: an earlier time comes from a machine whose clock does not run while it is off."""

GAP, NEIGHBOURS = 3.0, 5
"""An interval is a gap if it is this many times longer than the median of its neighbours."""

AGAINST = ABOVE, UNSYNCHRONIZED, UNANSWERED, WITHOUT_LINES = (
    "above_limit",
    "unsynchronised",
    "unanswered",
    "without_lines",
)
"""The states that count against a clock."""


class Step(NamedTuple):
    """A time at which the clock of the machine that wrote the log was set."""

    before: int
    """The last line before it."""
    seconds: float
    """How far the clock was set forward; negative: back."""

    def __str__(self) -> str:
        way = "forward" if self.seconds > 0 else "back"
        return f"the clock was set {way} by {interval(abs(self.seconds))}"


class Stretch(NamedTuple):
    """A time in which the clock was in one state."""

    start: float
    seconds: float
    """How long it lasted."""
    state: str
    """What counts against the clock; empty if it is good."""


def steps(history: History, lines: Sequence[int]) -> dict[int, Step]:
    """Return where the clock of the machine that wrote the log was set, by the line after that.

    At a step, the clock moves by more or less than the time since boot does. (chronyd's corrections
    of the rate affect both alike.) In logs without that time, only a step back can be seen, and one
    from before 2000.
    """
    found = {}
    for before, after in pairwise(lines):
        moved = history.time[after] - history.time[before]
        passed = history.uptime[after] - history.uptime[before]
        was_set = moved < 0 or history.time[before] < EARLIEST <= history.time[after]
        shift = moved - passed if passed >= 0 else moved * was_set  # of another or unknown boot
        if abs(shift) > LEAST_STEP:
            found[after] = Step(before, shift)
    return found


def stretches(
    history: History,
    lines: Sequence[int],
    set_at: Mapping[int, Step],
    limit: float | None = None,
) -> Iterator[list[Stretch]]:
    """Yield for each line how long it counts, and the time without lines behind it, if any.

    A line counts until the next one, or for the usual interval if lines are missing.
    """
    passed = array("d")
    for before, after in pairwise(lines):
        step = set_at[after].seconds if after in set_at else 0.0
        passed.append(history.time[after] - history.time[before] - step)
    passed.append(median(passed) if passed else 1.0)  # the last line counts as long as usual
    for index, line in enumerate(lines):
        start, until_next = history.time[line], passed[index]
        around = sorted(passed[max(0, index - NEIGHBOURS) : index + NEIGHBOURS + 1])
        usual = around[len(around) // 2]
        lasts = until_next if until_next <= GAP * usual else usual
        parts = [Stretch(start, lasts, _state(history, line, limit))]
        if lasts < until_next:
            parts.append(Stretch(start + lasts, until_next - lasts, WITHOUT_LINES))
        yield parts


def _state(history: History, line: int, limit: float | None) -> str:
    """Return what counts against the clock; nothing if it is good, or was not asked for."""
    flags = history.flags[line]
    if flags & ERROR or flags & (ASKED | CLOCK) == ASKED:
        return UNANSWERED
    if flags & (CLOCK | SYNCHRONIZED) == CLOCK:
        return UNSYNCHRONIZED
    return ABOVE if limit is not None and history.bound(line) > limit else ""
