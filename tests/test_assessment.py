"""Tests how `assess()` judges a clock, and the reasons that it gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pychrony import (
    AllReports,
    Answer,
    ChronyConnectionError,
    ChronyDataError,
    ChronyError,
    ChronyLibraryError,
    ChronyNotSynchronizedError,
    ChronyPermissionError,
    ChronyTimeoutError,
    LeapStatus,
    Source,
    SourceState,
    State,
    assess,
)
from pychrony.testing import make_source, make_tracking

NOW = 1_700_000_000.0
YEAR = 365 * 86400.0

TRACKING = make_tracking(
    ref_time=NOW - 10,
    update_interval=64.0,
    offset=-0.001,
    root_delay=0.010,
    root_dispersion=0.002,
    stratum=3,
)
"""Its error bound is 8 ms."""

STATES = dict(zip("*?x~+-", SourceState, strict=True))
"""The states of a source, by the characters in which chronyc shows them."""


def sources(states: str, reachability: int = 255) -> list[Source]:
    return [make_source(state=STATES[s], reachability=reachability, poll=6) for s in states]


UNRESOLVED = [make_source(address=f"ID#000000000{n}", reachability=0) for n in (1, 2, 3)]


def reports(**changes: Any) -> AllReports:
    """Reports of a good clock, except for these changes."""
    good = AllReports(
        tracking=TRACKING,
        sources=sources("*+-"),
        time_ns=int(NOW * 1e9),
    )
    return replace(good, **changes)


def tracking(known: list[Source] | None = None, address: str = "", **changes: Any) -> AllReports:
    """Reports of a clock with these changes of its report `tracking`."""
    changed = reports(tracking=replace(TRACKING, **changes), address=address)
    return changed if known is None else replace(changed, sources=known)


def test_a_good_clock_is_ok_without_a_reason() -> None:
    assert assess(reports()) == (State.OK, ())


def test_an_answer_is_judged_by_what_it_has() -> None:
    error = ChronyTimeoutError("no answer")
    assert assess(Answer("here", reports())) == assess(reports())
    assert assess(Answer("there", error=error)) == assess(error)


UNSYNCHRONISED: dict[str, Any] = {
    "reference_id": 0,
    "stratum": 0,
    "leap_status": LeapStatus.UNSYNC,
    "ref_time": 0.0,
    "root_delay": 1.0,
    "root_dispersion": 1.0,
}
LOCAL: dict[str, Any] = {"reference_id": 0x7F7F0101, "reference_ip": ""}
LOCAL |= {"root_dispersion": 0.0, "root_delay": 0.0}


STRICT = {"warning": 0.001, "critical": 0.002}
LOOSE = {"warning": 1e4, "critical": 1e4}
FAR = "ntp1.example.net:323"


def case(changed: AllReports, said: str, **options: Any) -> tuple[AllReports, str, dict[str, Any]]:
    return changed, said, options


DISAGREE = "this clock and chronyd's report disagree"
RARE = "one is due every 64.0 s"
MIXED = [*sources("*xx"), *UNRESOLVED]
UNUSABLE = [*sources("*"), make_source(state=SourceState.NONSELECTABLE, poll=10)]
MUTE = {"sources": ChronyPermissionError("not allowed")}
MAD = {"tracking": ChronyDataError("malformed")}

CASES = [
    case(tracking(**UNSYNCHRONISED), "CRITICAL: the clock is not synchronised"),
    case(tracking(**LOCAL), "CRITICAL: chronyd is its own reference, without a source"),
    case(tracking(**LOCAL), "OK", local_ok=True),
    case(
        reports(sources=sources("*?", reachability=0)),
        "CRITICAL: no source is reachable; 0 of 2 sources usable, 1 required",
    ),
    case(reports(sources=[]), "CRITICAL: chronyd has no sources"),
    case(reports(sources=UNRESOLVED), "CRITICAL: chronyd has not resolved the name of any source"),
    case(
        reports(sources=MIXED),
        "CRITICAL: 2 of 3 sources are falsetickers; 1 of 3 sources usable, 2 required",
        sources=2,
    ),
    case(reports(sources=sources("*xx?")), "CRITICAL: 2 of 4 sources are falsetickers"),
    case(reports(sources=sources("*x")), "OK"),
    case(reports(sources=sources("*~?")), "WARNING: 1 of 3 sources usable, 2 required", sources=2),
    case(reports(), "OK", sources=3),
    case(reports(), "OK", warning=0.008),
    case(reports(), "WARNING: error bound 8.00 ms is above 7.90 ms", warning=0.0079),
    case(reports(), "CRITICAL: error bound 8.00 ms is above 2.00 ms", **STRICT),
    case(reports(), "WARNING: stratum 3 is above 2", stratum=2),
    case(tracking(ref_time=NOW - 500), "OK"),
    case(tracking(ref_time=NOW - 601), f"WARNING: the last update is 10m01s old; {RARE}"),
    # After a burst at the start, the next update is a poll away.
    case(tracking(ref_time=NOW - 300, update_interval=2.0), "OK"),
    case(
        tracking(ref_time=NOW - 3601, update_interval=2.0),
        f"WARNING: the last update is 1h00m old; {RARE}",
    ),
    # A source that is not usable, however rare its polls are, gives no updates.
    case(tracking(UNUSABLE, ref_time=NOW - 601), f"WARNING: the last update is 10m01s old; {RARE}"),
    # chronyd counts from true time: from the clock, corrected by the offset that remains.
    case(tracking(ref_time=NOW - 2010, offset=-2000.0), "OK", **LOOSE),
    case(
        tracking(ref_time=NOW + 10, offset=2000.0),
        f"WARNING: the last update is 33m10s old; {RARE}",
        **LOOSE,
    ),
    case(tracking(ref_time=NOW + YEAR + 60), f"CRITICAL: {DISAGREE} by 1y00d"),
    case(
        tracking(ref_time=NOW + YEAR + 60, address="[::1]:323"),
        f"CRITICAL: {DISAGREE} by 1y00d",
    ),
    case(
        tracking(ref_time=NOW + YEAR + 60, address=FAR),
        "CRITICAL: one of the two clocks is wrong by 1y00d",
    ),
    case(
        tracking(ref_time=NOW + YEAR + 60),
        f"CRITICAL: {DISAGREE} by 1y00d; error bound 8.00 ms is above 1.00 ms",
        warning=0.001,
    ),
    case(
        tracking(ref_time=NOW - YEAR - 60, address=FAR),
        f"WARNING: the last update is 1y00d old by the clock of this machine; {RARE}",
    ),
    case(tracking(**LOCAL, ref_time=NOW + 10), f"CRITICAL: {DISAGREE} by 10.0 s", local_ok=True),
    # chronyd blurs the time, and the bound is how far two good clocks may be apart.
    case(tracking(ref_time=NOW + 1), "OK"),
    case(tracking(ref_time=NOW + 4, root_dispersion=3.0), "OK", **LOOSE),
    # Without a time of reading, the age is not known.
    case(reports(time_ns=0), "OK"),
    case(
        tracking(leap_status=LeapStatus.INSERT),
        "OK: a leap second is inserted at the end of the day (UTC)",
    ),
    case(
        tracking(leap_status=LeapStatus.DELETE, stratum=15),
        "WARNING: stratum 15 is above 14; a leap second is deleted at the end of the day (UTC)",
        stratum=14,
    ),
    case(reports(sources=None), "UNKNOWN: the report 'sources' was not asked for"),
    case(reports(sources=None), "OK", sources=0),
    case(
        reports(sources=None, missing=MUTE),
        "CRITICAL: error bound 8.00 ms is above 2.00 ms; not allowed",
        **STRICT,
    ),
    case(reports(tracking=None, missing=MAD), "UNKNOWN: malformed"),
]


@pytest.mark.parametrize(("changed", "said", "options"), CASES)
def test_each_finding_has_its_state_and_reason(
    changed: AllReports, said: str, options: dict[str, Any]
) -> None:
    state, reasons = assess(changed, **options)
    assert ": ".join(filter(None, [state.name, "; ".join(reasons)])) == said


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ChronyConnectionError("refused"), State.CRITICAL),
        (ChronyTimeoutError("no answer"), State.CRITICAL),
        (ChronyNotSynchronizedError("no bound"), State.CRITICAL),
        (ChronyLibraryError("no libchrony"), State.UNKNOWN),
        (ChronyPermissionError("denied"), State.UNKNOWN),
        (ChronyDataError("malformed"), State.UNKNOWN),
    ],
)
def test_an_error_is_judged_like_reports(error: ChronyError, state: State) -> None:
    assert assess(error) == (state, (error.message,))


@pytest.mark.parametrize("poll", [-32768, 32767])
def test_no_poll_is_too_odd_to_judge(poll: int) -> None:
    odd = [make_source(state=SourceState.SELECTED, reachability=1, poll=poll)]
    assert assess(reports(sources=odd)).state is State.OK


def test_states_are_the_exit_codes_of_plug_ins_and_sort_by_severity() -> None:
    assert [state.value for state in State] == [0, 1, 2, 3]
    by_severity = sorted(State, key=lambda state: state.severity)
    assert by_severity == [State.OK, State.WARNING, State.UNKNOWN, State.CRITICAL]
