"""Prepares numbers for a picture: puts them in order, breaks them at gaps, and thins them out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..logs.columns import CLOCK, ERROR, GAP, NEIGHBOURS, SOURCES, History, in_order

Numbers = NDArray[np.float64]

COLUMNS = 1500
"""The number of columns in a picture; more cannot be distinguished on a page."""

CHUNK = 100_000


class Lines(NamedTuple):
    """The lines of a history in order."""

    history: History
    number: NDArray[np.integer[Any]]
    time: Numbers
    flags: NDArray[np.uint8]

    def clock(self) -> Numbers:
        """Return time, offset, error bound, frequency and skew, with a row of NaN at each break."""
        known = self.history
        columns = map(np.asarray, (known.offset, known.bound, known.frequency, known.skew))
        has = (self.flags & (CLOCK | ERROR)) > 0
        number = self.number[has]
        return with_breaks(np.column_stack((self.time[has], *(c[number] for c in columns))))

    def source(self, name: str) -> Numbers:
        """Return time, offset, error bound, reachability and selection, with breaks, too."""
        known = self.history.sources[name]
        has = (self.flags & (SOURCES | ERROR)) > 0
        rows = np.full((len(self.history.time), 5), np.nan)
        columns = (known.offset, known.error, known.reached, known.selected)
        rows[np.asarray(known.line), 1:] = np.column_stack(columns)
        rows = rows[self.number[has]]
        rows[:, 0] = self.time[has]
        return with_breaks(rows)


def lines_of(history: History) -> Lines:
    """Return the lines of a history in order."""
    number = np.asarray(in_order(history))
    time, flags = np.asarray(history.time), np.asarray(history.flags)
    return Lines(history, number, time[number], flags[number])


def gaps(time: Numbers) -> list[tuple[float, float]]:
    """Return the start and the end of each time without lines."""
    (before,) = np.nonzero(_is_gap(time))
    return [(float(time[i]), float(time[i + 1])) for i in before]


def with_breaks(numbers: Numbers) -> Numbers:
    """Insert a row without values into each gap and step back, so that no curve is drawn across."""
    time = numbers[:, 0]
    (before,) = np.nonzero(_is_gap(time) | (np.diff(time) < 0))
    rows = np.full((len(before), numbers.shape[1]), np.nan)
    rows[:, 0] = (time[before] + time[before + 1]) / 2
    return np.insert(numbers, before + 1, rows, axis=0)


def _is_gap(time: Numbers) -> NDArray[np.bool_]:
    intervals = np.diff(time)
    if not len(intervals):
        return np.zeros(0, dtype=bool)
    around = np.pad(intervals, NEIGHBOURS, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(around, 2 * NEIGHBOURS + 1)
    is_gap = np.zeros(len(intervals), dtype=bool)
    for start in range(0, len(intervals), CHUNK):  # a median copies its windows
        part = slice(start, start + CHUNK)
        usual = np.abs(np.median(windows[part], axis=1))
        is_gap[part] = intervals[part] > GAP * usual
    return is_gap


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


def spans(time: Numbers, is_so: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return the start and the end of each time in a state, which lasts until the next line.

    Spans that a picture could not show separately are merged.
    """
    intervals = np.diff(time)
    usual = float(np.median(np.abs(intervals))) if len(intervals) else 1.0
    back = intervals < 0
    ends = time + np.append(np.where(back, usual, intervals), usual)
    starts = np.flatnonzero(is_so & np.append(True, ~is_so[:-1] | back))
    stops = np.flatnonzero(is_so & np.append(~is_so[1:] | back, True))
    near = (time.max() - time.min()) / COLUMNS
    found: list[tuple[float, float]] = []
    for start, end in sorted(zip(time[starts].tolist(), ends[stops].tolist(), strict=True)):
        if found and start - found[-1][1] < near:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found
