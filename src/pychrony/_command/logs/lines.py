"""Reads one line of a log: its time, its chronyd, and the numbers of clock and sources."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ..._model.converters import LOCAL_REFERENCE, error_bound, is_synchronized

NAN = math.nan

CLOCK = ("offset", "root_dispersion", "root_delay", "frequency", "skew")
SAMPLE = ("latest_meas", "latest_meas_err", "reachability")


class Clock(NamedTuple):
    """What a line says about the clock; unknown numbers are NaN."""

    offset: float = NAN
    """Seconds by which the clock is ahead: the opposite sign of `TrackingStatus.offset`."""
    bound: float = NAN
    """Error bound in seconds."""
    frequency: float = NAN
    """In ppm; positive: the clock is fast."""
    skew: float = NAN
    """In ppm."""


class Sample(NamedTuple):
    """What a line says about a source; unknown numbers are NaN."""

    name: str
    offset: float
    """Seconds by which the clock is ahead of the source."""
    error: float
    """Error bound in seconds."""
    reached: int
    """How many of the last eight polls were answered."""
    selected: bool
    """Whether the clock follows the source."""


class Line(NamedTuple):
    """A line of a log."""

    time: float
    """Seconds since 1970 (UTC)."""
    uptime: float
    """Seconds since the boot of the machine that wrote the line; NaN in older logs."""
    address: str | None
    report: str
    error: str
    """Class of the error in place of an answer."""
    clock: Clock | None
    """`NO_BOUND` if the clock is not synchronised to a source."""
    sources: Sequence[Sample] | None
    lacking: Sequence[str]
    """Fields that are missing."""


NO_BOUND = Clock()

# How we write a line of `all`. Of its ten reports, those behind the first two are not needed here.
ALL, REST, END = b', "report": "all", "answer": {"tracking": ', b', "sourcestats": ', b"}}\n"


def parse(text: bytes) -> Line | str:
    """Return a line, or why it cannot be used."""
    try:
        entry = json.loads(_needed(text))
    except (ValueError, RecursionError):
        return "not JSON" if text.endswith(b"\n") else "cut off"
    try:
        return _line(entry)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return "not from --json --watch"


def _needed(text: bytes) -> bytes:
    """Return a line without the reports that are not needed: they would take most of the time."""
    begin, rest, _ = text.partition(REST)
    return begin + END if rest and ALL in begin and text.endswith(END) else text


def _line(entry: dict[str, Any]) -> Line | str:
    report, error, clock, sources = entry["report"], "", None, None
    lacking: list[str] = []
    if "error" in entry:
        error = str(entry["error"]["error"])
    else:
        answer = entry["answer"]
        reports = answer if report == "all" else {report: answer}
        if "tracking" not in reports and "sources" not in reports:
            return f"of {report}, which has neither the clock nor the sources"
        if (tracking := reports.get("tracking")) is not None:
            clock = _clock(tracking, lacking)
        if (records := reports.get("sources")) is not None:
            sources = [_sample(record, lacking) for record in records]
    address = entry["address"]
    if not isinstance(address, str | None):
        raise TypeError("no address")
    uptime = float(entry.get("uptime", NAN))
    return Line(_seconds(entry["time"]), uptime, address, report, error, clock, sources, lacking)


def _seconds(time: str | float) -> float:
    """Return a time of a line in seconds since 1970."""
    if isinstance(time, str):
        return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
    return datetime.fromtimestamp(time, timezone.utc).timestamp()


def _clock(tracking: dict[str, Any], lacking: list[str]) -> Clock:
    # Older logs have neither `is_synchronized` nor `error_bound`.
    reference, stratum = tracking.get("reference_id", 1), tracking.get("stratum", 1)
    if reference == LOCAL_REFERENCE or not is_synchronized(reference, stratum):
        return NO_BOUND
    offset, dispersion, delay, frequency, skew = _numbers(tracking, CLOCK, lacking)
    return Clock(-offset, error_bound(offset, dispersion, delay), frequency, skew)


def _sample(source: dict[str, Any], lacking: list[str]) -> Sample:
    offset, error, reach = _numbers(source, SAMPLE, lacking)
    if source.get("last_sample_ago", 0) is None:
        offset = error = NAN
    reached = 0 if math.isnan(reach) else (int(reach) & 0xFF).bit_count()
    return Sample(source["address"], offset, error, reached, source.get("state") == "SELECTED")


def _numbers(record: dict[str, Any], names: Sequence[str], lacking: list[str]) -> list[float]:
    """Return numbers that can be drawn; NaN for missing fields, but not for all."""
    try:
        found = [float(record[name]) for name in names]
    except KeyError:
        missing = [name for name in names if name not in record]
        if len(missing) == len(names):
            raise
        lacking += missing
        return [float(record.get(name, NAN)) for name in names]
    if not all(map(math.isfinite, found)):
        raise ValueError("not finite")
    return found
