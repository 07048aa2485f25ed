"""Tests the outcome of every fault of chronyd, for every report, over both transports.

Each test takes one row of the table of faults, and makes all calls at the same time, each with its
own chronyd.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, NamedTuple

import pytest
from fault_table import DATA, ENOUGH, FAULTS, KNOWN, NONE, TIMEOUT, Expected, Row
from faults_page import PAGE, page
from limits import HANG, LONG, remains
from methods import METHODS, REPORTS
from scripted import Script, ScriptedChronyd, Transport, wire
from scripted.faults import honest
from scripted.wire import Command
from ways import AWAITING, BLOCKING, Ask, Failure, Stream, Way

from pychrony import (
    ChronyConnectionError,
    ChronyDataError,
    ChronyPermissionError,
    ChronyTimeoutError,
)
from pychrony._model.fields import origins
from pychrony.models import MODELS

EXIT_CODES = {
    ChronyConnectionError: 1,
    ChronyTimeoutError: 1,
    ChronyPermissionError: 3,
    ChronyDataError: 4,
}

ROWS = [row for rows in FAULTS.values() for row in rows]
THREADS = 32


class Call(NamedTuple):
    """A call for one report while there is a fault."""

    row: Row
    transport: Transport
    report: str
    way: Way

    def __str__(self) -> str:
        return f"{self.report} over {self.transport}, {self.way.name}"


def calls_of(row: Row) -> Iterator[Call]:
    """All calls for a row; in the short run, each report is asked for in an event loop once."""
    for report in row.reports:
        chance = Random(f"{row.name} {report}")  # the same in every run
        kinds: dict[Transport, Sequence[Way]] = {}
        kinds["udp"], kinds["unix"] = chance.sample((BLOCKING, AWAITING), 2)
        for transport in row.over:
            for way in BLOCKING + AWAITING if LONG else [chance.choice(kinds[transport])]:
                yield Call(row, transport, report, way)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_fault_ends_as_the_table_says(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Stream("output"))
    monkeypatch.setattr(sys, "stderr", Stream("errors"))
    with ThreadPoolExecutor(THREADS) as threads:
        running = [(str(call), threads.submit(check, call)) for call in calls_of(row)]
    failures = [(call, ended.exception()) for call, ended in running]
    assert [(call, failure) for call, failure in failures if failure] == []


@pytest.mark.skipif(not PAGE.exists(), reason="the installed package is tested, without the manual")
def test_the_manual_shows_the_table() -> None:
    assert PAGE.read_text() == page(), "run 'tools/run faults'"


def check(call: Call) -> None:
    """Make a call, and others when the fault is over."""
    with ScriptedChronyd(KNOWN, call.transport) as chronyd:
        check_at(chronyd, call)
        assert remains(chronyd.address) == []


def check_at(chronyd: ScriptedChronyd, call: Call) -> None:
    row, report = call.row, call.report
    with call.way.prepare(chronyd.address, row.timeout) as ask:
        begin(row, chronyd)
        start = time.monotonic()
        answer = ask(report)
        taken = time.monotonic() - start
        end(chronyd)
        expected = row.expects(report)
        assert taken >= row.timeout or not expected.waits, f"gave up after {taken} s"
        assert taken < HANG + (0 if row.timeout == ENOUGH else row.timeout), f"took {taken} s"
        judge(call, chronyd.address, answer, expected)
        for later in (report, "all"):
            assert_right(call._replace(report=later), patiently(ask, later), [KNOWN])


def begin(row: Row, chronyd: ScriptedChronyd) -> None:
    caused = row.cause(chronyd)
    if callable(caused):
        chronyd.fault = caused
    elif caused is not None:
        chronyd.script = caused


def end(chronyd: ScriptedChronyd) -> None:
    chronyd.fault, chronyd.script, chronyd.opencommands = honest, KNOWN, list(Command)
    if not chronyd.listening:
        chronyd.start()


def patiently(ask: Ask, report: str) -> Any:
    """Ask until there is an answer: the timeout may be too short for a busy machine."""
    over = time.monotonic() + HANG
    while True:
        answer = ask(report)
        late = isinstance(answer, Failure) and TIMEOUT.words in answer.message
        if not late or time.monotonic() > over:
            return answer


# What is right.


def judge(call: Call, address: str, answer: Any, expected: Expected) -> None:
    """Compare an answer with what is expected."""
    if expected.error is not None:
        assert isinstance(answer, Failure), answer
        assert answer.kind in (expected.error, EXIT_CODES[expected.error]), answer
        judge_message(call, address, answer.message, expected)
    elif expected is NONE:
        assert answer is None, answer
    elif call.report == "all" and expected is not DATA:
        judge_each(call, address, answer)
    else:
        assert_right(call, answer, [KNOWN, call.row.then])


def judge_each(call: Call, address: str, answer: Any) -> None:
    """Check an answer for all reports, some of which could not be read."""
    calls = {report: call._replace(report=report) for report in METHODS}
    each = {report: call.row.expects(report) for report in METHODS}
    if isinstance(answer, Failure):  # as the command ends if no report can be shown
        assert DATA not in each.values(), answer
        judge(calls["tracking"], address, answer, each["tracking"])
        return
    missing = answer["missing"]
    assert missing.keys() == {report for report, one in each.items() if one is not DATA}
    for report, expected in each.items():
        if expected.error is None:
            judge(calls[report], address, answer[report], expected)
        else:
            assert answer[report] is None
            judge_message(calls[report], address, missing[report], expected)


def judge_message(call: Call, address: str, message: str, expected: Expected) -> None:
    """Check that a message says what was tried, where, and what came back."""
    reports = REPORTS if call.report == "all" else [call.report]
    words = call.row.words(expected, call.transport)
    starts = [f"connecting to {address}: ", *(f"reading {r} from {address}: " for r in reports)]
    assert message.startswith(tuple(start + words for start in starts)), message


def assert_right(call: Call, answer: Any, known: list[Script]) -> None:
    """Compare an answer with what chronyd knows, or, if it was replaced, one of the two.

    Over UDP, a call does not notice that another chronyd has taken over, so each record may come
    from either.
    """
    assert not isinstance(answer, Failure), answer
    if call.report == "all":
        assert not answer["missing"]
        for report in METHODS:
            assert_right(call._replace(report=report), answer[report], known)
        return
    records = answer if isinstance(answer, list) else [answer]
    each = [truth(call.report, script) for script in known]
    whole = any(
        len(records) == len(sent)
        and all(is_same(call.report, *pair) for pair in zip(records, sent, strict=True))
        for sent in each
    )
    unnoticed = call.transport == "udp" and call.row.then is not KNOWN
    mixed = unnoticed and all(
        any(is_same(call.report, record, one) for sent in each for one in sent)
        for record in records
    )
    assert whole or (mixed and len(records) in map(len, each)), answer


def truth(report: str, known: Script) -> list[dict[str, Any]]:
    """Return the values that a chronyd sends in a report, under libchrony's names."""
    answer: Any = known[Command[report.upper()]]
    if isinstance(answer, wire.Record):
        return [dict(answer.values)]
    records = answer.values() if isinstance(answer, Mapping) else answer
    found = [dict(record.values) for record in records]
    if report == "authdata":  # whose record lacks its source's address
        stats = truth("sourcestats", known)
        addresses = [one["address"] for one in stats if one["address"]]
        for record, address in zip(found, addresses, strict=True):
            record["address"] = address
    return found


def is_same(report: str, record: dict[str, Any], sent: dict[str, Any]) -> bool:
    """Whether a record has what chronyd sent, in all fields that need no conversion."""
    for name, origin in origins(MODELS[report]).items():
        field = next((n for n in origin.names if n in sent), None)
        if origin.convert is not None or field is None:
            continue
        got, wanted = record[name], sent[field]
        if got != wanted and (got or wanted):  # no address is "" or None
            return False
    return True
