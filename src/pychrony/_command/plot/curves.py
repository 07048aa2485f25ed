"""Prepares numbers for a picture: puts them in order, breaks them at gaps, and thins them out."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..logs.columns import CLOCK, ERROR, SOURCES, History
from ..logs.stretches import GAP, Stretch, steps, stretches

Numbers = NDArray[np.float64]

COLUMNS = 1500
"""The number of columns in a picture; more cannot be distinguished on a page."""


class Lines(NamedTuple):
    """Some lines of a history, in order, with a break in each gap and at each step back."""

    number: NDArray[np.integer[Any]]
    """-1 at a break."""
    time: Numbers


def clock_of(history: History, order: Sequence[int]) -> Numbers:
    """Return time, offset, error bound, frequency and skew in each line, with breaks."""
    lines = _lines(history, order, CLOCK | ERROR)
    return _rows(lines, len(history.time), range(len(history.time)), history.clock)


def sources_of(history: History, order: Sequence[int]) -> Iterator[tuple[str, Numbers]]:
    """Yield for each source time, offset, error bound, reachability and selection, with breaks."""
    lines = _lines(history, order, SOURCES | ERROR)
    for name, samples in history.sources.items():
        yield name, _rows(lines, len(history.time), samples.line, samples.numbers)


def _lines(history: History, order: Sequence[int], flags: int) -> Lines:
    """Return the lines that have one of these flags."""
    number = array("i", (line for line in order if history.flags[line] & flags))
    time = np.asarray(history.time)[number]
    lasting = stretches(history, number, steps(history, number))
    lasts = np.fromiter((first.seconds for first, *_ in lasting), float)
    moved = np.diff(time)
    (before,) = np.nonzero((moved < 0) | (moved > GAP * lasts[:-1]))
    between = (time[before] + time[before + 1]) / 2
    return Lines(np.insert(number, before + 1, -1), np.insert(time, before + 1, between))


def _rows(lines: Lines, size: int, found: Sequence[int], numbers: array[float]) -> Numbers:
    """Return time and numbers of each line; NaN at a break, and in lines that are not `found`."""
    known = np.full((size + 1, len(numbers) // len(found)), np.nan, numbers.typecode)
    known[np.asarray(found)] = np.asarray(numbers).reshape(len(found), -1)
    return np.column_stack((lines.time, known[lines.number]))


class Envelope(NamedTuple):
    """The lowest and the highest value in each column of a picture, or at each time."""

    time: Numbers
    low: Numbers
    high: Numbers

    def curve(self) -> tuple[Numbers, Numbers]:
        """Return a curve that touches both values of each column."""
        return np.repeat(self.time, 2), np.column_stack((self.low, self.high)).ravel()

    def lone(self) -> tuple[Numbers, Numbers]:
        """Return the points that no curve connects to another point."""
        missing = np.concatenate(([True], np.isnan(self.low), [True]))
        alone = ~missing[1:-1] & missing[:-2] & missing[2:]
        return self.time[alone], self.high[alone]


def thin(time: Numbers, low: Numbers, high: Numbers) -> Envelope:
    """Reduce the values to a minimum and a maximum per column, so that no extreme is lost."""
    if len(time) <= 2 * COLUMNS:
        return Envelope(time, low, high)
    first, last = time.min(), time.max()
    columns = ((time - first) * (COLUMNS / (last - first))).astype(int)
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    missing = np.isnan(low) | np.isnan(high)
    lowest = np.minimum.reduceat(np.where(missing, np.inf, low), starts)
    highest = np.maximum.reduceat(np.where(missing, -np.inf, high), starts)
    lowest[np.isinf(lowest)] = highest[np.isinf(highest)] = np.nan
    breaks = np.logical_or.reduceat(missing, starts).nonzero()[0] + 1
    return Envelope(
        np.insert(time[starts], breaks, np.append(time[starts], time[-1])[breaks]),
        np.insert(lowest, breaks, np.nan),
        np.insert(highest, breaks, np.nan),
    )


def spans(found: Iterable[Stretch], narrowest: float) -> dict[str, list[tuple[float, float]]]:
    """Return start and end of each time in a state; join those that a picture cannot show apart."""
    spans = defaultdict[str, list[tuple[float, float]]](list)
    for start, seconds, state in found:
        joined = spans[state]
        if joined and abs(start - joined[-1][1]) < narrowest:
            joined[-1] = (joined[-1][0], start + seconds)
        else:
            joined.append((start, start + seconds))
    return spans
