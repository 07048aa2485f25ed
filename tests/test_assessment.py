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

S = SourceState


def sources(*states: SourceState, reachability: int = 255) -> list[Source]:
    return [make_source(state=state, reachability=reachability, poll=6) for state in states]


UNRESOLVED = [make_source(address=f"ID#000000000{n}", reachability=0) for n in (1, 2, 3)]


def reports(**changes: Any) -> AllReports:
    """Reports of a good clock, except for these changes."""
    good = AllReports(
        tracking=TRACKING,
        sources=sources(S.SELECTED, S.UNSELECTED, S.SELECTABLE),
        time_ns=int(NOW * 1e9),
    )
    return replace(good, **changes)


def tracking(**changes: Any) -> AllReports:
    return reports(tracking=replace(TRACKING, **changes))


def test_a_good_clock_is_ok_without_a_reason() -> None:
    assert assess(reports()) == (State.OK, ())


def test_an_answer_is_judged_by_what_it_has() -> None:
    error = ChronyTimeoutError("no answer")
    assert assess(Answer("here", reports())) == assess(reports())
    assert assess(Answer("there", error=error)) == assess(error)


UNSYNCHRONISED = {
    "reference_id": 0,
    "stratum": 0,
    "leap_status": LeapStatus.UNSYNC,
    "ref_time": 0.0,
    "root_delay": 1.0,
    "root_dispersion": 1.0,
}
LOCAL = {"reference_id": 0x7F7F0101, "reference_ip": "", "root_dispersion": 0.0, "root_delay": 0.0}


STRICT = {"warning": 0.001, "critical": 0.002}
LOOSE = {"warning": 1e4, "critical": 1e4}
FAR = "ntp1.example.net:323"


@pytest.mark.parametrize(
    ("changed", "options", "said"),
    [
        (tracking(**UNSYNCHRONISED), {}, "CRITICAL: the clock is not synchronised"),
        (tracking(**LOCAL), {}, "CRITICAL: chronyd is its own reference, without a source"),
        (tracking(**LOCAL), {"local_ok": True}, "OK"),
        (
            reports(sources=sources(S.SELECTED, S.NONSELECTABLE, reachability=0)),
            {},
            "CRITICAL: no source is reachable; 0 of 2 sources usable, 1 required",
        ),
        (reports(sources=[]), {}, "CRITICAL: chronyd has no sources"),
        (
            reports(sources=UNRESOLVED),
            {},
            "CRITICAL: chronyd has not resolved the name of any source",
        ),
        (
            reports(sources=[*sources(S.SELECTED, S.FALSETICKER, S.FALSETICKER), *UNRESOLVED]),
            {"sources": 2},
            "CRITICAL: 2 of 3 sources are falsetickers; 1 of 3 sources usable, 2 required",
        ),
        (
            reports(sources=sources(S.SELECTED, S.FALSETICKER, S.FALSETICKER, S.NONSELECTABLE)),
            {},
            "CRITICAL: 2 of 4 sources are falsetickers",
        ),
        (reports(sources=sources(S.SELECTED, S.FALSETICKER)), {}, "OK"),
        (
            reports(sources=sources(S.SELECTED, S.JITTERY, S.NONSELECTABLE)),
            {"sources": 2},
            "WARNING: 1 of 3 sources usable, 2 required",
        ),
        (reports(), {"sources": 3}, "OK"),
        (reports(), {"warning": 0.008}, "OK"),
        (reports(), {"warning": 0.0079}, "WARNING: error bound 8.00 ms is above 7.90 ms"),
        (reports(), STRICT, "CRITICAL: error bound 8.00 ms is above 2.00 ms"),
        (reports(), {"stratum": 2}, "WARNING: stratum 3 is above 2"),
        (
            tracking(ref_time=NOW - 601),
            {},
            "WARNING: the last update is 10m01s old; one is due every 64.0 s",
        ),
        (tracking(ref_time=NOW - 500), {}, "OK"),
        # After a burst at the start, the next update is a poll away.
        (tracking(ref_time=NOW - 300, update_interval=2.0), {}, "OK"),
        (
            tracking(ref_time=NOW - 3601, update_interval=2.0),
            {},
            "WARNING: the last update is 1h00m old; one is due every 64.0 s",
        ),
        # A source that is not usable, however rare its polls are, gives no updates.
        (
            reports(
                tracking=replace(TRACKING, ref_time=NOW - 601),
                sources=[*sources(S.SELECTED), make_source(state=S.NONSELECTABLE, poll=10)],
            ),
            {},
            "WARNING: the last update is 10m01s old; one is due every 64.0 s",
        ),
        # chronyd counts from true time: from the clock, corrected by the offset that remains.
        (tracking(ref_time=NOW - 2010, offset=-2000.0), LOOSE, "OK"),
        (
            tracking(ref_time=NOW + 10, offset=2000.0),
            LOOSE,
            "WARNING: the last update is 33m10s old; one is due every 64.0 s",
        ),
        *(
            (
                reports(tracking=replace(TRACKING, ref_time=NOW + YEAR + 60), address=address),
                {},
                f"CRITICAL: {words} by 1y00d",
            )
            for address, words in {
                "": "this clock and chronyd's report disagree",
                "[::1]:323": "this clock and chronyd's report disagree",
                FAR: "one of the two clocks is wrong",
            }.items()
        ),
        (
            tracking(ref_time=NOW + YEAR + 60),
            {"warning": 0.001},
            "CRITICAL: this clock and chronyd's report disagree by 1y00d; "
            "error bound 8.00 ms is above 1.00 ms",
        ),
        (
            reports(tracking=replace(TRACKING, ref_time=NOW - YEAR - 60), address=FAR),
            {},
            "WARNING: the last update is 1y00d old by the clock of this machine; "
            "one is due every 64.0 s",
        ),
        (
            tracking(**LOCAL, ref_time=NOW + 10),
            {"local_ok": True},
            "CRITICAL: this clock and chronyd's report disagree by 10.0 s",
        ),
        # chronyd blurs the time, and the bound is how far two good clocks may be apart.
        (tracking(ref_time=NOW + 1), {}, "OK"),
        (tracking(ref_time=NOW + 4, root_dispersion=3.0), LOOSE, "OK"),
        # Without a time of reading, the age is not known.
        (reports(time_ns=0), {}, "OK"),
        (
            tracking(leap_status=LeapStatus.INSERT),
            {},
            "OK: a leap second is inserted at the end of the day (UTC)",
        ),
        (
            tracking(leap_status=LeapStatus.DELETE, stratum=15),
            {"stratum": 14},
            "WARNING: stratum 15 is above 14; a leap second is deleted at the end of the day (UTC)",
        ),
        (reports(sources=None), {}, "UNKNOWN: the report 'sources' was not asked for"),
        (reports(sources=None), {"sources": 0}, "OK"),
        (
            reports(sources=None, missing={"sources": ChronyPermissionError("not allowed")}),
            STRICT,
            "CRITICAL: error bound 8.00 ms is above 2.00 ms; not allowed",
        ),
        (
            reports(tracking=None, missing={"tracking": ChronyDataError("malformed")}),
            {},
            "UNKNOWN: malformed",
        ),
    ],
)
def test_each_finding_has_its_state_and_reason(
    changed: AllReports, options: dict[str, Any], said: str
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
    odd = [make_source(state=S.SELECTED, reachability=1, poll=poll)]
    assert assess(reports(sources=odd)).state is State.OK


def test_states_are_the_exit_codes_of_plug_ins_and_sort_by_severity() -> None:
    assert [state.value for state in State] == [0, 1, 2, 3]
    by_severity = sorted(State, key=lambda state: state.severity)
    assert by_severity == [State.OK, State.WARNING, State.UNKNOWN, State.CRITICAL]
