"""Tests reading several reports in one call: values, errors, and that lists agree."""

from __future__ import annotations

import json
import pickle
import time
import traceback
from collections.abc import Iterator
from dataclasses import fields
from typing import get_args

import pytest
from limits import HANG
from methods import LISTS
from scripted import Script, ScriptedChronyd, changing, script
from scripted.wire import Command, Status, ntp_source, refclock

import pychrony
from pychrony import (
    AllReports,
    Answer,
    ChronyDataError,
    ChronyPermissionError,
    ChronyTimeoutError,
    ReportName,
)
from pychrony.models import MODELS
from pychrony.testing import make_tracking

ONE, TWO, THREE = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def known(*addresses: str) -> Script:
    return script([*map(ntp_source, addresses), refclock()])


@pytest.fixture
def scripted() -> Iterator[ScriptedChronyd]:
    with ScriptedChronyd(known(ONE, TWO), "unix") as scripted:
        yield scripted


def read(scripted: ScriptedChronyd, *names: str) -> AllReports:
    return pychrony.get_all(*names, address=scripted.address, timeout=HANG)


def there(answers: AllReports) -> set[str]:
    return {name for name in MODELS if getattr(answers, name) is not None}


def test_there_is_a_field_and_a_name_for_each_report() -> None:
    assert [f.name for f in fields(AllReports)] == [*MODELS, "missing", "address", "time_ns"]
    assert get_args(ReportName) == tuple(MODELS)


def test_a_report_that_was_asked_for_is_required() -> None:
    tracking, denied = make_tracking(), ChronyPermissionError("denied")
    reports = AllReports(tracking=tracking, sources=[], missing={"authdata": denied})
    assert reports.require("tracking") is tracking
    assert reports.require("sources") == []
    for _ in range(2):
        with pytest.raises(ChronyPermissionError) as raised:
            reports.require("authdata")
        assert raised.value is denied
        assert len(list(traceback.walk_tb(denied.__traceback__))) == 2
    with pytest.raises(ValueError, match="activity was not asked for"):
        reports.require("activity")
    with pytest.raises(ValueError, match="unknown report 'source'; choose from tracking, sources"):
        reports.require("source")  # type: ignore[call-overload]


def test_an_answer_has_a_result_or_raises_its_error() -> None:
    reports, error = AllReports(tracking=make_tracking()), ChronyTimeoutError("too late")
    assert Answer("here", reports).result() is reports
    with pytest.raises(ChronyTimeoutError, match="too late"):
        Answer("there", error=error).result()
    with pytest.raises(ValueError, match="either reports or an error"):
        Answer("nowhere").result()


def test_the_answer_says_where_and_when_it_was_read(scripted: ScriptedChronyd) -> None:
    before = time.time_ns()
    answers = read(scripted)
    assert answers.address == scripted.address
    assert before <= answers.time_ns <= time.time_ns()


def test_everything_becomes_plain_values(scripted: ScriptedChronyd) -> None:
    scripted.script = {**known(ONE), Command.SMOOTHING: Status.NOTENABLED}
    answers = read(scripted)
    plain = answers.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert answers.tracking is not None
    assert answers.sources is not None
    assert plain["tracking"] == answers.tracking.to_dict()
    assert plain["sources"] == [source.to_dict() for source in answers.sources]
    assert plain["smoothing"] is None
    assert plain["missing"] == {
        "smoothing": {
            "error": "ChronyDataError",
            "message": answers.missing["smoothing"].message,
        }
    }


def test_a_copy_with_errors_is_equal(scripted: ScriptedChronyd) -> None:
    scripted.script = {**known(ONE), Command.SMOOTHING: Status.NOTENABLED}
    answers = read(scripted)
    copy = pickle.loads(pickle.dumps(answers))
    assert copy == answers
    (error,) = answers.missing.values()
    assert {*copy.missing.values(), error} == {error}
    assert error != ChronyPermissionError(error.message, error.error_code)
    assert error != ChronyDataError(error.message)


@pytest.mark.parametrize("names", [["tracking"], ["ntpdata", "activity"], ["sources", "sources"]])
def test_only_the_reports_that_are_named_are_asked_for(
    names: list[str], scripted: ScriptedChronyd
) -> None:
    numbers = []
    allowed = {Command[name.upper()] for name in names} | {Command.N_SOURCES, Command.SOURCESTATS}
    for _ in range(5):  # a busy machine may have requests repeated
        scripted.requests.clear()
        assert there(read(scripted, *names)) == set(names)
        asked = [request.command for request in scripted.requests if request.raw]
        assert set(asked) <= allowed
        numbers.append(asked.count(Command.N_SOURCES))
    assert min(numbers) <= 2  # the first lists of a connection are counted twice, all together


@pytest.mark.parametrize("wrong", ["Tracking", "", "sources ", 7, None])
def test_a_name_that_is_no_report_is_a_mistake(wrong: object, scripted: ScriptedChronyd) -> None:
    with pytest.raises(ValueError, match=r"unknown report .*; choose from tracking, sources, "):
        read(scripted, "tracking", wrong)  # type: ignore[arg-type]
    assert not scripted.requests


def addresses(answers: AllReports) -> dict[str, list[str]]:
    """The NTP sources that each list is about."""
    return {
        name: [
            address
            for record in getattr(answers, name)
            if (address := getattr(record, "address", "") or getattr(record, "remote_address", ""))
            in (ONE, TWO, THREE)
        ]
        for name in LISTS
    }


@pytest.mark.parametrize("when", range(0, 24))
def test_lists_that_were_read_while_a_source_was_replaced_are_read_again(when: int) -> None:
    replaced = changing([known(ONE, TWO), known(ONE, THREE)], lambda number: number > when)
    with ScriptedChronyd(replaced, "unix") as chronyd:
        answers = read(chronyd, *LISTS)
    found = addresses(answers)
    assert len({tuple(places) for places in found.values()}) == 1, found
    assert found["sources"] in ([ONE, TWO], [ONE, THREE])


def test_lists_that_never_agree_are_returned_as_they_are() -> None:
    answers = {**known(ONE), Command.SOURCES: known(TWO)[Command.SOURCES]}
    with ScriptedChronyd(answers, "unix") as chronyd:
        found = addresses(read(chronyd))
    assert found.pop("sources") == [TWO]
    assert set(map(tuple, found.values())) == {(ONE,)}
