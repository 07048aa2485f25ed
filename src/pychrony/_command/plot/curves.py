"""Prepares rows of numbers for a picture: sorts them, breaks them at gaps and thins them out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .history import Rows

Numbers = NDArray[np.float64]

COLUMNS = 1500
"""The number of columns in a picture; more cannot be distinguished on a page."""

GAP, NEIGHBOURS = 3.0, 5
"""An interval is a gap if it is this many times longer than the median of its neighbours."""


def table(rows: Rows) -> Numbers:
    """Return rows as a table, sorted by time, which is the first column."""
    numbers = np.frombuffer(rows.numbers).reshape(-1, rows.width)
    return numbers[np.argsort(numbers[:, 0], kind="stable")]


def gaps(time: Numbers) -> list[tuple[float, float]]:
    """Return the start and the end of each time without lines."""
    (before,) = np.nonzero(_is_gap(time))
    return [(float(time[i]), float(time[i + 1])) for i in before]


def with_breaks(numbers: Numbers) -> Numbers:
    """Insert a row without values into each gap, so that no curve is drawn across it."""
    (before,) = np.nonzero(_is_gap(numbers[:, 0]))
    rows = np.full((len(before), numbers.shape[1]), np.nan)
    rows[:, 0] = (numbers[before, 0] + numbers[before + 1, 0]) / 2
    return np.insert(numbers, before + 1, rows, axis=0)


def _is_gap(time: Numbers) -> NDArray[np.bool_]:
    intervals = np.diff(time)
    if not len(intervals):
        return np.zeros(0, dtype=bool)
    around = np.pad(intervals, NEIGHBOURS, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(around, 2 * NEIGHBOURS + 1)
    is_gap: NDArray[np.bool_] = intervals > GAP * np.median(windows, axis=1)
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
    column = ((time - time[0]) * (COLUMNS / (time[-1] - time[0]))).astype(int)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
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


def spans(states: Rows, state: int) -> list[tuple[float, float]]:
    """Return the start and the end of each time in a state, which lasts until the next line.

    Spans that a picture could not show separately are merged.
    """
    time, kinds = table(states).T
    usual = float(np.median(np.diff(time))) if len(time) > 1 else 1.0
    ends = np.append(time[1:], time[-1] + usual)
    starts = np.flatnonzero((kinds == state) & (np.append(-1, kinds[:-1]) != state))
    stops = np.flatnonzero((kinds == state) & (np.append(kinds[1:], -1) != state))
    near = (time[-1] - time[0]) / COLUMNS
    found: list[tuple[float, float]] = []
    for start, end in zip(time[starts], ends[stops], strict=True):
        if found and start - found[-1][1] < near:
            found[-1] = (found[-1][0], float(end))
        else:
            found.append((float(start), float(end)))
    return found
