"""Keeps what a log says about one chronyd in columns of numbers, and puts its lines in order."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, islice, pairwise
from math import isnan
from operator import lt
from typing import NamedTuple

from ..._model.durations import interval
from .lines import NAN, NO_BOUND, Clock, Line, Sample

ERROR, ASKED, CLOCK, SYNCHRONIZED, SOURCES = 1, 2, 4, 8, 16
"""Flags of a line: there is an error in place of an answer; the clock was asked for, is there, and
is synchronised to a source; the sources are there."""

EARLIEST = 946684800.0
"""Start of 2000: an earlier time comes from a machine whose clock does not run while it is off."""

GAP, NEIGHBOURS = 3.0, 5
"""An interval is a gap if it is this many times longer than the median of its neighbours."""

LEAST_STEP = 0.01
"""Seconds by which the two times in a line may be read too early or too late."""


class Samples:
    """What a log says about one source, in the lines that have it, precisely enough to draw it."""

    def __init__(self) -> None:
        self.line = array("I")
        self.offset = array("f")
        self.error = array("f")
        self.reached = array("B")
        self.selected = array("B")

    def add(self, line: int, sample: Sample) -> None:
        """Add what a line says."""
        self.line.append(line)
        self.offset.append(sample.offset)
        self.error.append(sample.error)
        self.reached.append(sample.reached)
        self.selected.append(sample.selected)


class Step(NamedTuple):
    """A time at which the clock of the machine that wrote the log was set."""

    before: int
    """The last line before it."""
    line: int
    """The first line after it."""
    seconds: float
    """How far the clock was set forward; negative: back."""

    def __str__(self) -> str:
        way = "forward" if self.seconds > 0 else "back"
        return f"the clock was set {way} by {interval(abs(self.seconds))}"


class History:
    """What a log says about one chronyd, in columns that have a number for each line."""

    def __init__(self) -> None:
        self.time = array("d")
        self.uptime = array("d")
        self.flags = array("B")
        self.offset = array("d")
        self.bound = array("d")
        self.frequency = array("d")
        self.skew = array("d")
        self.sources = defaultdict[str, Samples](Samples)
        """By the source's name."""
        self.errors: dict[int, str] = {}
        """The class of each error, by its line."""
        self.files = [0]
        """The first line of each file."""

    def add(self, line: Line) -> None:
        """Add a line."""
        number = len(self.time)
        flags = 0 if line.report == "sources" else ASKED
        if line.error:
            flags |= ERROR
            self.errors[number] = line.error
        if line.clock is not None:
            flags |= CLOCK if line.clock is NO_BOUND else CLOCK | SYNCHRONIZED
        if line.sources is not None:
            flags |= SOURCES
            for sample in line.sources:
                self.sources[sample.name].add(number, sample)
        self._append(line.time, line.uptime, flags, line.clock or NO_BOUND)

    def _append(self, time: float, uptime: float, flags: int, clock: Clock) -> None:
        self.time.append(time)
        self.uptime.append(uptime)
        self.flags.append(flags)
        self.offset.append(clock.offset)
        self.bound.append(clock.bound)
        self.frequency.append(clock.frequency)
        self.skew.append(clock.skew)

    def has(self, flag: int) -> bool:
        """Whether any line has this flag."""
        return any(flags & flag for flags in self.flags)

    def add_errors_of(self, other: History) -> None:
        """Add errors that came before the address of this chronyd was known."""
        self.begin_file()
        for line, flags in enumerate(other.flags):
            if line in other.errors:
                self.errors[len(self.time)] = other.errors[line]
            self._append(other.time[line], other.uptime[line], flags, NO_BOUND)

    def begin_file(self) -> None:
        """Note that the next line is from another file."""
        self.files.append(len(self.time))


def in_order(history: History) -> Sequence[int]:
    """Return the lines as they follow each other, without those that are there twice.

    Files that follow each other may be given in any order, overlap, or be written at the same time.
    Where a clock was set back, a file has several lines for the same time, and keeps its order.
    """
    time = history.time
    if all(map(lt, time, islice(time, 1, None))):
        return range(len(time))
    twice = _twice(history)
    parts: list[tuple[bool, list[int]]] = []
    for start, end in pairwise([*history.files, len(time)]):
        lines = [line for line in range(start, end) if not twice[line]]
        set_back = _was_set_back(history, lines)
        if not set_back:
            lines.sort(key=time.__getitem__)
        if lines:
            parts.append((set_back, lines))
    return list(chain.from_iterable(_merged(history, parts)))


def _twice(history: History) -> bytearray:
    """Mark lines that have the times and the kind of answer of an earlier one."""
    twice = bytearray(len(history.time))
    now, known = NAN, set[tuple[float, int]]()
    for line in sorted(range(len(twice)), key=history.time.__getitem__):
        if history.time[line] != now:
            now = history.time[line]
            known.clear()
        uptime = history.uptime[line]
        kind = -1.0 if isnan(uptime) else uptime, history.flags[line]
        twice[line] = kind in known
        known.add(kind)
    return twice


def _was_set_back(history: History, lines: Sequence[int]) -> bool:
    """Whether a file's lines go back in time, and were not only put together in another order."""
    time, uptime = history.time, history.uptime
    back = [(a, b) for a, b in pairwise(lines) if time[b] < time[a]]
    if any(uptime[a] < uptime[b] for a, b in back):
        return True
    if not back:
        return False
    starts, ends = [lines[0], *(b for _, b in back)], [*(a for a, _ in back), lines[-1]]
    runs = sorted((time[start], time[end]) for start, end in zip(starts, ends, strict=True))
    return any(start <= end for (_, end), (start, _) in pairwise(runs))


def _merged(history: History, parts: list[tuple[bool, list[int]]]) -> list[list[int]]:
    """Sort the parts; merge those that were written at the same time."""
    merged: list[list[int]] = []
    was_set_back = True
    for set_back, lines in sorted(parts, key=lambda part: history.time[part[1][0]]):
        if set_back or was_set_back or history.time[merged[-1][-1]] < history.time[lines[0]]:
            merged.append(lines)
        else:
            merged[-1] += lines
            merged[-1].sort(key=history.time.__getitem__)
        was_set_back = set_back
    return merged


def steps(history: History, lines: Sequence[int]) -> list[Step]:
    """Return where the clock of the machine that wrote the log was set.

    At a step, the clock moves by more or less than the time since boot does. (chronyd's corrections
    of the rate affect both alike.) In logs without that time, only a step back can be seen, and one
    from before 2000.
    """
    found = []
    for before, after in pairwise(lines):
        moved = history.time[after] - history.time[before]
        passed = history.uptime[after] - history.uptime[before]
        was_set = moved < 0 or history.time[before] < EARLIEST <= history.time[after]
        shift = moved - passed if passed >= 0 else moved * was_set  # of another or unknown boot
        if abs(shift) > LEAST_STEP:
            found.append(Step(before, after, shift))
    return found
