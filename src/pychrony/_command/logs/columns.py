"""Keeps what a log says about one chronyd in columns of numbers, and puts its lines in order."""

from __future__ import annotations

from array import array
from bisect import bisect
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import groupby, islice, pairwise
from operator import lt

from .lines import NO_BOUND, Line

ERROR, ASKED, CLOCK, SYNCHRONIZED, SOURCES = 1, 2, 4, 8, 16
"""Flags of a line: there is an error in place of an answer; the clock was asked for, is there, and
is synchronised to a source; the sources are there."""

LEAST_STEP = 0.01
"""Seconds by which the two times in a line may be read too early or too late."""


class Samples:
    """What a log says about one source, in the lines that have it, precisely enough to draw it."""

    def __init__(self) -> None:
        self.line = array("I")
        self.numbers = array("f")
        """The numbers of a `Sample` for each of these lines."""


class History:
    """What a log says about one chronyd, in columns that have a number for each line."""

    def __init__(self) -> None:
        self.time = array("d")
        self.uptime = array("d")
        self.flags = array("B")
        self.clock = array("d")
        """The numbers of a `Clock` for each line."""
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
            for name, *numbers in line.sources:
                self.sources[name].line.append(number)
                self.sources[name].numbers.extend(numbers)
        self.time.append(line.time)
        self.uptime.append(line.uptime)
        self.flags.append(flags)
        self.clock.extend(line.clock or NO_BOUND)

    def bound(self, line: int) -> float:
        """Return the error bound in a line."""
        return self.clock[line * len(NO_BOUND) + NO_BOUND._fields.index("bound")]

    def has(self, flag: int) -> bool:
        """Whether any line has this flag."""
        return any(flags & flag for flags in self.flags)

    def add_errors_of(self, other: History) -> None:
        """Add errors that came before the address of this chronyd was known."""
        self.begin_file()
        self.errors |= {len(self.time) + line: error for line, error in other.errors.items()}
        self.time += other.time
        self.uptime += other.uptime
        self.flags += other.flags
        self.clock += other.clock

    def begin_file(self) -> None:
        """Note that the next line is from another file."""
        self.files.append(len(self.time))


def in_order(history: History) -> Sequence[int]:
    """Return the lines in order of time, without those that are there twice.

    Files may be given in any order, overlap, or be written at the same time. Where the time goes
    back in a file, and the time since boot does not go back by as much, the clock was set back, and
    the lines keep their order.
    """
    time, uptime = history.time, history.uptime
    if all(map(lt, time, islice(time, 1, None))):
        return range(len(time))
    once = _once(history)
    files = [list(lines) for _, lines in groupby(once, partial(bisect, history.files))]
    files.sort(key=lambda lines: time[lines[0]])
    moment = array("d", time)  # as if the clock had not been set back
    set_back, latest = 0.0, once[0]
    for lines in files:
        if time[lines[0]] < time[latest]:  # written at the same time as an earlier file
            set_back = 0.0
        for before, line in pairwise([lines[0], *lines]):
            back = time[before] - time[line]
            if back > 0 and not abs(uptime[before] - uptime[line] - back) <= LEAST_STEP:
                set_back += back
            moment[line] += set_back
        latest = lines[-1]
    return sorted(once, key=moment.__getitem__)


def _once(history: History) -> list[int]:
    """Return the lines without those that repeat the times and the kind of answer of another."""
    once: list[int] = []
    in_order_of_time = sorted(range(len(history.time)), key=history.time.__getitem__)
    for _, lines in groupby(in_order_of_time, history.time.__getitem__):
        kinds: dict[tuple[bytes, int], int] = {}
        for line in lines:
            uptime = history.uptime[line : line + 1].tobytes()  # NaN is not equal to itself
            kinds.setdefault((uptime, history.flags[line]), line)
        once += kinds.values()
    return sorted(once)
