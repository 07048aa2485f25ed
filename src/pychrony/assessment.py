"""Judges from chronyd's reports whether a clock is good: `assess()`, a pure function."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from ._model.durations import interval, seconds
from ._model.placeholders import is_resolved
from ._model.ranges import Range
from .exceptions import ChronyConnectionError, ChronyError, ChronyNotSynchronizedError
from .models import AllReports, Answer, LeapStatus, Source, SourceState, TrackingStatus

__all__ = ["Assessment", "State", "assess"]

OVERDUE = 8
"""Update intervals after which an update is overdue: the length of the reachability register."""
BLUR = 2.0
"""Seconds by which an update may seem too old: chronyd blurs its time by up to one."""
MAX_POLL = 24  # chrony's own limit, since a report may contain any number


class State(Enum):
    """How good a clock is; the value is the exit code of a monitoring plug-in."""

    OK = 0
    """The clock is synchronised, and meets all requirements."""
    WARNING = 1
    """The clock is synchronised, but something needs attention."""
    CRITICAL = 2
    """The clock must not be relied on, or chronyd does not answer."""
    UNKNOWN = 3
    """The clock cannot be judged: a report or libchrony is missing, or an answer is unusable."""

    @property
    def severity(self) -> int:
        """A number for sorting, from good to bad: OK, WARNING, UNKNOWN, CRITICAL."""
        return _SEVERITY.index(self)


_SEVERITY = (State.OK, State.WARNING, State.UNKNOWN, State.CRITICAL)


class Assessment(NamedTuple):
    """The judgement of `assess()`."""

    state: State
    """The worst of everything that was found."""
    reasons: tuple[str, ...]
    """What was found, the worst first. A leap second that is due is included even with OK."""


def assess(
    reports: AllReports | Answer | ChronyError,
    *,
    warning: float = 0.1,
    critical: float = 1.0,
    sources: int = 1,
    stratum: int = 15,
    local_ok: bool = False,
) -> Assessment:
    """Judge a clock by the reports `tracking` and `sources` of its chronyd.

    It takes reports, an `Answer` of `get_many()`, or the error that was raised in place of reports.
    For an error, the state is CRITICAL if chronyd does not answer, and UNKNOWN if its answer cannot
    be read or used.

    The state is CRITICAL if the clock is not synchronised, if chronyd is its own reference (unless
    `local_ok`), if no source is reachable, if more than half of the sources that chronyd could
    compare are falsetickers, if the bound on the clock's error is above `critical` seconds, or if
    the last update is in the future. It is WARNING if that bound is above `warning` seconds, if the
    last update is older than eight update intervals, if fewer than `sources` sources are usable, or
    if the clock's stratum is above `stratum`. With `sources=0`, the report `sources` is not needed.
    Sources whose host name chronyd has not resolved do not count.

    The age of the last update is `reports.time_ns` plus the offset minus the update's time. For
    another machine's chronyd, it includes the difference between the two clocks; for reports that
    do not say when they were read (0), it is not judged.
    """
    return judge(reports, Limits(Range(warning), Range(critical), sources, stratum, local_ok))


class Limits(NamedTuple):
    """What is required of a clock: the arguments of `assess()`, with ranges of the error bound."""

    warning: Range
    critical: Range
    sources: int
    stratum: int
    local_ok: bool


def judge(reports: AllReports | Answer | ChronyError, wanted: Limits) -> Assessment:
    """Judge a clock as `assess()` does, by ranges of the bound on its error."""
    if isinstance(reports, Answer):
        reports = reports.error or reports.result()
    if isinstance(reports, ChronyError):
        return _assessment([(_state_of(reports), reports.message)])
    tracking = reports.tracking
    if tracking is None:
        return _assessment([_missing(reports, "tracking")])
    found: list[Finding] = []
    isolated = wanted.local_ok and tracking.is_local_reference()
    if wanted.sources > 0 and not isolated:
        found += _judge_sources(reports, wanted.sources)
    if not tracking.is_synchronized():
        found.insert(0, (State.CRITICAL, "the clock is not synchronised"))
        return _assessment(found)
    found += _judge_age(reports, tracking)
    if not tracking.is_local_reference():
        found += _judge_bound(tracking.error_bound, wanted)
    elif not wanted.local_ok:
        found.insert(0, (State.CRITICAL, "chronyd is its own reference, without a source"))
    if tracking.stratum > wanted.stratum:
        found.append((State.WARNING, f"stratum {tracking.stratum} is above {wanted.stratum}"))
    found += _leap_second(tracking.leap_status)
    return _assessment(found)


Finding = tuple[State, str]


def _assessment(found: list[Finding]) -> Assessment:
    found.sort(key=lambda finding: -finding[0].severity)  # keeps the order of equal ones
    state = found[0][0] if found else State.OK
    return Assessment(state, tuple(reason for _, reason in found))


def _state_of(error: ChronyError) -> State:
    unreachable = isinstance(error, ChronyConnectionError | ChronyNotSynchronizedError)
    return State.CRITICAL if unreachable else State.UNKNOWN


def _missing(reports: AllReports, name: str) -> Finding:
    error = reports.missing.get(name)
    return State.UNKNOWN, error.message if error else f"the report {name!r} was not asked for"


def _judge_sources(reports: AllReports, wanted: int) -> Iterator[Finding]:
    known = known_sources(reports)
    if known is None:
        yield _missing(reports, "sources")
        return
    if not known:
        why = "has not resolved the name of any source" if reports.sources else "has no sources"
        yield State.CRITICAL, f"chronyd {why}"
        return
    total, usable = len(known), sum(map(Source.is_usable, known))
    compared = [s.state for s in known if s.state is not SourceState.NONSELECTABLE]
    false = compared.count(SourceState.FALSETICKER)
    if not any(map(Source.is_reachable, known)):
        yield State.CRITICAL, "no source is reachable"
    elif 2 * false > len(compared):
        yield State.CRITICAL, f"{false} of {total} sources are falsetickers"
    if usable < wanted:
        yield State.WARNING, f"{usable} of {total} sources usable, {wanted} required"


def _judge_bound(bound: float, wanted: Limits) -> Iterator[Finding]:
    for state, good in ((State.CRITICAL, wanted.critical), (State.WARNING, wanted.warning)):
        if complaint := good.complaint(bound):
            yield state, f"error bound {seconds(bound)} {complaint}"
            return


def known_sources(reports: AllReports) -> list[Source] | None:
    """Return the sources whose name chronyd has resolved; `None` if the report is missing."""
    return None if reports.sources is None else [*filter(is_resolved, reports.sources)]


def in_words(tracking: TrackingStatus) -> str:
    """Return the error bound, the stratum and the reference of a synchronised clock."""
    own = tracking.is_local_reference()
    bound = "its own reference" if own else f"error bound {seconds(tracking.error_bound)}"
    return f"{bound}, stratum {tracking.stratum}, reference {reference_of(tracking)}"


def reference_of(tracking: TrackingStatus) -> str:
    """Return the name of what a clock is synchronised to."""
    return tracking.reference_ip or tracking.reference_id_name


def age_of_update(reports: AllReports, tracking: TrackingStatus) -> float:
    """Return the age of the last update in seconds; negative if the update is in the future.

    chronyd takes the time of an update from the clock as it will be after all corrections.
    """
    return (reports.time_ns - tracking.ref_time_ns) / 1e9 + tracking.offset


def _judge_age(reports: AllReports, tracking: TrackingStatus) -> Iterator[Finding]:
    if not reports.time_ns:
        return
    age, own = age_of_update(reports, tracking), _is_own(reports.address)
    if age < -tracking.error_bound - BLUR:
        if own:
            yield State.CRITICAL, f"this clock and chronyd's report disagree by {interval(-age)}"
        else:
            yield State.CRITICAL, f"one of the two clocks is wrong by {interval(-age)}"
    expected = 0.0 if tracking.is_local_reference() else _expected_interval(reports, tracking)
    if expected and age > OVERDUE * expected + BLUR:
        by = "" if own else " by the clock of this machine"
        words = f"the last update is {interval(age)} old{by}; one is due every {interval(expected)}"
        yield State.WARNING, words


def _is_own(address: str) -> bool:
    """Whether a chronyd runs on this machine; reports without an address are a test's."""
    return not address or address.startswith(("/", "127.", "[::1]"))


def _expected_interval(reports: AllReports, tracking: TrackingStatus) -> float:
    """The longest interval counts: the last update may have been in a burst at the start."""
    polls = [s.poll for s in reports.sources or () if s.is_usable()]
    return max([tracking.update_interval, *(2.0 ** min(poll, MAX_POLL) for poll in polls)])


def _leap_second(status: LeapStatus) -> Iterator[Finding]:
    what = {LeapStatus.INSERT: "inserted", LeapStatus.DELETE: "deleted"}.get(status)
    if what:
        yield State.OK, f"a leap second is {what} at the end of the day (UTC)"
