"""Draws the history of a clock and of its sources with matplotlib."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from itertools import chain, islice
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    EngFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    StrMethodFormatter,
)

from ..grid import shortened
from ..logs.columns import SYNCHRONIZED, History, in_order
from ..logs.stretches import UNANSWERED, UNSYNCHRONIZED, WITHOUT_LINES, steps, stretches
from .curves import COLUMNS, Envelope, Numbers, clock_of, sources_of, spans, thin

WIDTH = 10.0  # inches
CLOCK_HEIGHT, SKEW_HEIGHT, SOURCE_HEIGHT, LANE_HEIGHT = 1.5, 0.8, 0.8, 0.2  # inches
MOST_SOURCES = 24
"""Maximum number of sources with their own panel; with more, a picture would not fit on a page."""
MOST_LANES = 250
"""Maximum number of sources whose reachability is drawn; more would be too high for PNG."""
LABEL, TITLE = 30, 40
"""Maximum number of characters of a source's name."""

DAY = 86400.0  # seconds: matplotlib counts days since 1970

STYLE: Any = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "lines.linewidth": 0.9,
    "hatch.linewidth": 0.5,
    "svg.hashsalt": "pychrony",  # the same log makes the same file
}

# Grey and patterns, so that a picture needs no colours.
BAND: dict[str, Any] = {"facecolor": "0.82", "linewidth": 0}
EMPTY: dict[str, Any] = {"facecolor": "none", "linewidth": 0}
STATES: dict[str, dict[str, Any]] = {
    WITHOUT_LINES: {**EMPTY, "edgecolor": "0.7", "hatch": "///", "label": "no lines"},
    UNANSWERED: {
        **EMPTY,
        "edgecolor": "0.3",
        "hatch": "xxxx",
        "label": "error instead of an answer",
    },
    UNSYNCHRONIZED: {**EMPTY, "edgecolor": "0.45", "hatch": "....", "label": "not synchronised"},
}

SETTING: dict[str, Any] = {"color": "black", "linewidth": 0.9, "linestyle": (0, (4, 2))}

USUAL, PEAK, ROOM = 98, 8.0, 2.0
"""A peak is at least `PEAK` times further from the median than 98 % of the values.

A panel with peaks shows twice the range of those 98 %, and marks where each peak leaves it.
"""

NARROWEST = 400
"""A stretch of time is at least this fraction of the picture wide, so that it is visible."""

Spans = dict[str, list[tuple[float, float]]]
"""Start and end of the times in each state."""


@rc_context(STYLE)
def save(figure: Figure, path: str) -> None:
    """Write a picture; the file does not depend on the time of writing."""
    kind = path.rpartition(".")[2].lower()
    dateless: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    figure.savefig(path, format=kind, dpi=150, metadata=dateless.get(kind))


@rc_context(STYLE)
def draw(history: History, title: str, notes: Sequence[str]) -> Figure:
    """Draw all panels for which the history has values."""
    order = in_order(history)
    start, end = min(history.time), max(history.time)
    settings = steps(history, order)
    lasting = chain.from_iterable(stretches(history, order, settings))
    found = spans(lasting, (end - start) / COLUMNS)
    states = {state: found[state] for state in STATES if state in found}
    moments = {history.time[step.before]: step for step in settings.values()}
    has_clock, sources = history.has(SYNCHRONIZED), list(history.sources)
    heights = [CLOCK_HEIGHT, CLOCK_HEIGHT, CLOCK_HEIGHT, SKEW_HEIGHT] if has_clock else []
    heights += [SOURCE_HEIGHT] * min(len(sources), MOST_SOURCES)
    heights += [0.1 + LANE_HEIGHT * min(len(sources), MOST_LANES)] if sources else []
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.33 * len(heights) + 1.1), layout="constrained")
    grid = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)
    panels = list(grid[:, 0])
    if has_clock:
        _draw_clock(panels, clock_of(history, order))
    if sources:
        _draw_sources(panels[4 if has_clock else 0 : -1], panels[-1], sources_of(history, order))
    for panel in panels:
        _mark(panel, states, (end - start) / NARROWEST)
        for moment in moments:
            panel.axvline(moment / DAY, **SETTING)
        panel.tick_params(labelbottom=panel is panels[-1], length=2)
    _draw_time(panels[-1], start, end)
    errors = Counter(history.errors[line] for line in order if line in history.errors)
    words = [
        *_limits(len(order), end - start, len(sources)),
        *(f"{_utc(moment)}: {step}" for moment, step in moments.items()),
        *(f"{error}: {number:,} lines" for error, number in errors.items()),
        *notes,
    ]
    about = f"{_utc(start)} to {_utc(end)} UTC, {len(order):,} lines"
    figure.suptitle(f"{shortened(title, 100)}\n{about}", x=0.01, ha="left")
    figure.supxlabel("\n".join(words), x=0.01, ha="left", fontsize=7, color="0.3")
    _draw_legend(figure, states, settings=bool(settings), sources=bool(sources))
    return figure


def _limits(lines: int, duration: float, sources: int) -> Iterator[str]:
    """Say what the picture does not show because there is too much of it."""
    if lines > 2 * COLUMNS:
        width = duration / COLUMNS
        yield f"Each column of {width:.3g} s shows the lowest and the highest value of its lines."
    for what, most in (("offsets", MOST_SOURCES), ("reachability", MOST_LANES)):
        if sources > most:
            yield f"{what} of the first {most} of {sources} sources"


def _draw_clock(panels: Sequence[Axes], rows: Numbers) -> None:
    time, offset, bound, frequency, skew = rows.T
    within, enlarged, drift, skews = panels[:4]
    within.set_title("Offset of the system clock (line) inside the bound of its error (grey)")
    _draw_offset(within, time, offset, thin(time, -bound, bound))
    enlarged.set_title("The same offset, enlarged")
    _draw_offset(enlarged, time, offset, thin(time, offset, offset))
    drift.set_title("Frequency error of the uncorrected clock (line) and its skew (grey)")
    _draw_inside(drift, time, frequency, thin(time, frequency - skew, frequency + skew), "ppm")
    drift.set_ylabel("ppm")
    _label_sign(drift, "fast", "slow")
    skews.set_title("Skew: bound of the error in the frequency")
    positive = np.where(skew > 0, skew, np.nan)
    _draw_curve(skews, time, positive)
    skews.set_yscale("log")
    is_narrow = np.nanmax(skew) < 30 * np.nanmin(positive) if np.any(skew > 0) else True
    skews.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_narrow else (1,), numticks=5))
    skews.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    skews.yaxis.set_minor_formatter(NullFormatter())
    skews.set_ylabel("ppm")


def _draw_sources(
    panels: Sequence[Axes], reachability: Axes, sources: Iterable[tuple[str, Numbers]]
) -> None:
    """Draw the offsets of the first sources, and which of all sources answered."""
    reachability.set_title("Reachability: answered polls of the last eight; a full bar is eight")
    names = []
    for lane, (name, rows) in enumerate(islice(sources, MOST_LANES)):
        names.append(shortened(name, LABEL))
        if lane < len(panels):
            _draw_source(panels[lane], shortened(name, TITLE), rows)
        reached = thin(rows[:, 0], rows[:, 3], rows[:, 3])
        top = lane - 0.8 * reached.low / 8
        reachability.fill_between(reached.time / DAY, lane, top, step="post", color="0.35", lw=0)
        reachability.axhline(lane, color="0.6", linewidth=0.5)
        del rows  # those of a long log take much memory, and the next are made now
    reachability.set_ylim(len(names) - 0.8, -1)
    reachability.set_yticks([lane - 0.4 for lane in range(len(names))], names)
    reachability.grid(False)
    reachability.tick_params(axis="y", length=0)


def _draw_source(panel: Axes, name: str, rows: Numbers) -> None:
    time, offset, error, _, selected = rows.T
    if np.isnan(offset).all():
        panel.set_title(f"Offset from {name}: no samples")
        panel.set_yticks([])
        return
    panel.set_title(f"Offset from {name} (line) inside the error bound of its last sample (grey)")
    _draw_offset(panel, time, offset, thin(time, offset - error, offset + error))
    rail = thin(time, selected, selected)
    panel.fill_between(
        rail.time / DAY,
        0,
        0.06,
        where=np.nan_to_num(rail.high) > 0,
        step="post",
        transform=panel.get_xaxis_transform(),
        color="black",
        linewidth=0,
    )


def _draw_curve(panel: Axes, time: Numbers, values: Numbers) -> None:
    envelope = thin(time, values, values)
    for (times, numbers), style in ((envelope.curve(), "-"), (envelope.lone(), ".")):
        panel.plot(times / DAY, numbers, style, color="black", markersize=3)


def _draw_inside(panel: Axes, time: Numbers, values: Numbers, band: Envelope, unit: str) -> None:
    """Draw a curve inside a band, on a scale for all values of the band except single peaks."""
    panel.fill_between(band.time / DAY, band.low, band.high, **BAND)
    _draw_curve(panel, time, values)
    _fit(panel, band, EngFormatter(unit))


def _draw_offset(panel: Axes, time: Numbers, offset: Numbers, band: Envelope) -> None:
    _draw_inside(panel, time, offset, band, "s")
    panel.yaxis.set_major_formatter(EngFormatter(unit="s"))
    panel.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    panel.axhline(0, color="0.5", linewidth=0.6)
    _label_sign(panel, "ahead", "behind")


def _label_sign(panel: Axes, positive: str, negative: str) -> None:
    style: dict[str, Any] = {"fontsize": 7, "color": "0.35", "transform": panel.transAxes}
    panel.text(1.005, 1, f"+ {positive}", va="top", **style)
    panel.text(1.005, 0, f"\N{MINUS SIGN} {negative}", va="bottom", **style)


def _fit(panel: Axes, drawn: Envelope, unit: EngFormatter) -> None:
    """Scale a panel to all values except single peaks; mark these, and say how far they reach."""
    values = np.concatenate((drawn.low, drawn.high))
    values = values[np.isfinite(values)]
    if not len(values):
        return
    middle = float(np.median(values))
    away = np.abs(values - middle)
    room = ROOM * float(np.percentile(away, USUAL))
    if not 0 < PEAK * room < ROOM * away.max():
        return
    panel.set_ylim(middle - room, middle + room)
    for edge, reach, sign in (middle + room, drawn.high, 1), (middle - room, drawn.low, -1):
        beyond = np.flatnonzero(sign * (reach - edge) > 0)
        if not len(beyond):
            continue
        edges = np.full(len(beyond), edge)
        marker = "k^" if sign > 0 else "kv"
        panel.plot(drawn.time[beyond] / DAY, edges, marker, markersize=5, clip_on=False)
        highest = beyond[np.argmax(sign * reach[beyond])]
        panel.annotate(
            f"to {unit(float(reach[highest]))}",
            (drawn.time[highest] / DAY, edge),
            (5, -3 * sign),
            textcoords="offset points",
            va="top" if sign > 0 else "bottom",
            fontsize=7,
        )


def _mark(panel: Axes, states: Spans, narrowest: float) -> None:
    for state, found in states.items():
        bars = [(start / DAY, max(end - start, narrowest) / DAY) for start, end in found]
        panel.broken_barh(bars, (0, 1), transform=panel.get_xaxis_transform(), **STATES[state])


def _draw_time(panel: Axes, start: float, end: float) -> None:
    locator = AutoDateLocator(tz=timezone.utc)  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=timezone.utc)  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_formatter(formatter)
    margin = 0.0 if start < end else 1.0  # seconds, around a single line
    panel.set_xlim((start - margin) / DAY, (end + margin) / DAY)
    panel.set_xlabel("time (UTC)")
    panel.xaxis_date(timezone.utc)


def _draw_legend(figure: Figure, states: Spans, *, settings: bool, sources: bool) -> None:
    keys: list[Artist] = [Patch(**STATES[state]) for state in states]
    if settings:
        keys.append(Line2D([], [], **SETTING, label="the clock was set"))
    if sources:
        keys.append(Patch(color="black", label="bar below a source: selected"))
    if keys:
        figure.legend(handles=keys, loc="outside upper right", fontsize=7.5, frameon=False)


def _utc(time: float) -> str:
    return f"{datetime.fromtimestamp(time, timezone.utc):%Y-%m-%d %H:%M:%S}"
