"""Tests the outcome of every fault of chronyd, for every report, over both transports.

`FAULTS` is the table of faults and outcomes. Each test takes one row, and makes all calls at the
same time, each with its own chronyd. docs/faults.md shows the outcomes (see faults_page.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, NamedTuple

import pytest
from faults_page import Outcome, note
from limits import HANG, LONG, remains
from methods import METHODS, REPORTS
from scripted import (
    OPEN_COMMANDS,
    Answer,
    Fault,
    Request,
    Script,
    ScriptedChronyd,
    Transport,
    in_turn,
    script,
    wire,
)
from scripted.faults import (
    at,
    delay,
    dies,
    drip,
    drop,
    duplicate,
    garbage,
    header,
    honest,
    instead,
    on,
    refuse,
    resize,
    restarts,
    stale,
    wrong,
)
from scripted.wire import Command, Source, Status
from ways import AWAITING, BLOCKING, OPTIONAL, Ask, Failure, Stream, Way

from pychrony import (
    ChronyConnectionError,
    ChronyDataError,
    ChronyError,
    ChronyPermissionError,
    ChronyTimeoutError,
)
from pychrony._model.fields import origins
from pychrony.models import MODELS

LISTS = ("sources", "sourcestats", "selectdata", "authdata", "ntpdata")
UNIX_ONLY = ("selectdata", "authdata", "ntpdata", "serverstats")
EXIT_CODES = {
    ChronyConnectionError: 1,
    ChronyTimeoutError: 1,
    ChronyPermissionError: 3,
    ChronyDataError: 4,
}

# Timeouts in seconds.
ENOUGH = 2 * HANG  # for calls that end before it, even if they must ask again
SHORT = 1.0  # for calls that wait until the end
MIXED = 4.0  # where some calls wait until the end, and others are answered before, on any machine


# What chronyd knows.


def sources(*numbers: int) -> list[Source]:
    """Sources that differ in every report; the second is a reference clock."""
    found = [
        wire.ntp_source(
            f"192.0.2.{number}",
            wire.source(reachability=number, poll=number % 16 - 4),
            wire.sourcestats(samples=number, offset=number / 8),
            wire.selectdata(score=float(number)),
            wire.authdata(mode=1, key_type=1, key_id=number),
            wire.ntpdata(transmitted_messages=number, offset=-number / 8),
        )
        for number in numbers
    ]
    return [found[0], wire.refclock(), *found[1:]]


def old(known: Sequence[Source]) -> Script:
    """A chronyd 3.5: no selectdata, no authdata, shorter answers."""
    names = {f.name for f in wire.NTPDATA[16].fields}
    for source in known:
        if Command.NTPDATA in source:
            values = source[Command.NTPDATA].values
            source[Command.NTPDATA] = wire.NTPDATA[16].record({n: values[n] for n in names})
    answers = script(known, wire.SERVERSTATS[14]())
    return {**answers, Command.SELECTDATA: Status.INVALID, Command.AUTHDATA: Status.INVALID}


KNOWN = script(sources(*range(1, 20)))
COUNT = 20
NO_SOURCES = script([])
OTHERS = script(sources(40, 41, 42))
OLD_CHRONYD = old(sources(40, 41, 42))


def counting(answer: Answer, known: Script = KNOWN) -> Script:
    """A chronyd that gives this number of sources."""
    return {**known, Command.N_SOURCES: answer}


# What a call ends in.


class Expected(NamedTuple):
    """The right values, unless there is an error."""

    cell: str  # on the page
    error: type[ChronyError] | None = None
    words: str = ""  # in the message, after what was tried and where
    waits: bool = False  # until the timeout
    unix: str = ""  # other words over a Unix socket


DATA = Expected("data")
NONE = Expected("none")
TIMEOUT = Expected("timeout", ChronyTimeoutError, "no answer within ", waits=True)
UNAUTHORIZED = Expected("permission", ChronyPermissionError, "not authorized; ")
REFUSED = "connection refused; chronyd does not listen there; "
NO_FILE = "no such file or directory; chronyd has no socket there; "
CRASHED = Expected("connection", ChronyConnectionError, REFUSED)
STOPPED = CRASHED._replace(unix=NO_FILE)


def refused(words: str) -> Expected:
    return Expected("refused", ChronyDataError, words)


OLD = refused("this chronyd is too old for the report")
NEW = refused("this chronyd is newer than libchrony understands; update libchrony")
ERROR = refused("chronyd answered with an error; see its log")
MALFORMED = refused("a malformed answer; check which program answers at that address")
OFF = refused("chronyd has this report disabled")

Outcomes = Expected | Mapping[str, Expected]  # by report; `DATA` for those not in the mapping


def only(reports: Sequence[str], expected: Expected) -> Outcomes:
    return dict.fromkeys(reports, expected)


def by_status(status: int) -> Outcomes:
    known = {
        Status.UNAUTH: UNAUTHORIZED,
        Status.INVALID: OLD,
        Status.BADPKTVERSION: NEW,
        Status.BADPKTLENGTH: NEW,
    }
    if status in (Status.NOTENABLED, Status.NORTC):
        return dict.fromkeys(METHODS, OFF) | dict.fromkeys(OPTIONAL, NONE)
    return {int(s): expected for s, expected in known.items()}.get(status, ERROR)


# The faults.


class Row(NamedTuple):
    """A fault, and what calls end in."""

    name: str
    cause: Callable[[ScriptedChronyd], Fault | Script | None]
    """Causes the fault itself, or returns what happens to all answers, or what chronyd knows."""
    expected: Outcomes
    timeout: float = ENOUGH
    then: Script = KNOWN
    """What chronyd knows at the end of the call."""
    over: Sequence[Transport] = ("udp", "unix")
    reports: Sequence[str] = REPORTS

    def __str__(self) -> str:
        return self.name

    def expects(self, report: str) -> Expected:
        if isinstance(self.expected, Expected):
            return self.expected
        return self.expected.get(report, DATA)


def overtaken(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
    """Requests that other sockets made later are answered first."""
    return [(0.01 * (number % 3 == 0), reply)]


def with_status(status: int, *, counts: bool = False) -> Row:
    """A row for answers with a status, perhaps only after the number of sources."""

    def fault(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
        counted = counts and request.command is Command.N_SOURCES
        return (honest if counted else refuse(status))(request, reply, number)

    name = {int(known): known.name for known in Status}.get(status, "unknown")
    after = " after the number of sources" if counts else ""
    return Row(f"status {status} ({name}){after}", lambda _: fault, by_status(status))


def users(command: Command) -> list[str]:
    """Return the reports for which libchrony sends this command."""
    if command is Command.N_SOURCES:
        return [*LISTS]
    by_address = ("authdata", "ntpdata") if command is Command.SOURCESTATS else ()
    return [command.name.lower(), *by_address]


def lost(number: int) -> Row:
    """A row for an answer that is lost: under way, or since chronyd's send buffer was full."""
    return Row(f"answer {number} is lost", lambda _: at({number - 1}, drop), DATA)


def unanswered(about: str, command: Command) -> Row:
    outcomes = only(users(command), TIMEOUT)
    return Row(f"no answer about {about}", lambda _: on(command, drop), outcomes, MIXED)


def cut(layout: wire.Layout) -> Iterator[Row]:
    """Rows for an answer that lacks a part of its header, or a part of what follows."""
    command, name = layout.command, layout.command.name
    asked = users(command)
    header, most = wire.HEADER.size - 1, layout.length - 1
    yield Row(
        f"{name} cut to 0-27", lambda _: on(command, resize(header)), TIMEOUT, SHORT, reports=asked
    )
    yield Row(
        f"{name} cut to 28 bytes or more",
        lambda _: on(command, resize(most)),
        MALFORMED,
        reports=asked,
    )


def claiming(number: int) -> Row:
    absurd = refused(f"chronyd claims {number} records, which cannot be true; ")
    return Row(f"{number} sources counted", lambda _: counting(number), only(LISTS, absurd))


def replaced(number: int) -> Row:
    name = f"is replaced by another with other sources instead of answer {number + 1}"
    return Row(name, lambda c: at({number}, restarts(c, OTHERS)), DATA, then=OTHERS)


CUT = (
    *(wire.n_sources, wire.tracking, wire.source, wire.sourcestats, wire.selectdata),
    *(wire.activity, wire.authdata, wire.ntpdata, wire.serverstats, wire.rtcdata),
    wire.smoothing,
)

FAULTS: dict[str, list[Row]] = {
    "No fault": [Row("none", lambda _: None, DATA)],
    "Answers that are lost or late": [
        Row("every answer is lost", lambda _: drop, TIMEOUT, SHORT),
        *(lost(number) for number in range(1, 6)),
        unanswered("authentication", Command.AUTHDATA),
        unanswered("NTP data", Command.NTPDATA),
        unanswered("statistics", Command.SOURCESTATS),
        Row("answers late", lambda _: delay(0.01), DATA),
        Row("answers too late", lambda _: delay(3 * SHORT), TIMEOUT, SHORT),
        Row("answers twice", lambda _: duplicate, DATA),
        Row("every third answer later than others", lambda _: overtaken, DATA),
        Row("repeats the last answer first", lambda _: stale(), DATA),
    ],
    "Answers that are not to this question": [
        Row("wrong version", lambda _: wrong("version"), TIMEOUT, SHORT),
        Row("wrong type", lambda _: wrong("type"), TIMEOUT, SHORT),
        Row("wrong reserved", lambda _: wrong("reserved"), TIMEOUT, SHORT),
        Row("wrong command", lambda _: wrong("command"), TIMEOUT, SHORT),
        Row("wrong sequence", lambda _: wrong("sequence"), TIMEOUT, SHORT),
        Row("wrong reply code", lambda _: wrong("reply"), NEW),
        Row("reply code of no report", lambda _: header(reply=1), NEW),
        Row(
            "reply code of another report",
            lambda _: header(reply=wire.tracking.reply),
            only([*METHODS][1:], NEW),
        ),
        Row(
            "wrong version once, then the answer",
            lambda _: drip(0, junk=wrong("version"), count=1),
            DATA,
        ),
        Row(
            "wrong sequence once, then the answer",
            lambda _: drip(0, junk=wrong("sequence"), count=1),
            DATA,
        ),
        Row("random bytes", lambda _: garbage(), TIMEOUT, SHORT),
        Row("an empty datagram", lambda _: instead(b""), TIMEOUT, SHORT),
        Row("junk that never stops", lambda _: drip(0.01), TIMEOUT, SHORT),
        Row("junk, then the answer", lambda _: drip(0.001, count=20), DATA),
    ],
    "Answers with an error": [
        *(with_status(status) for status in (*[*Status][1:], 65535)),
        Row("success, but no reply", lambda _: refuse(0), NEW),
        *(with_status(status, counts=True) for status in [*Status][1:5]),
        Row(
            "as a chronyd with its own list of open reports",
            lambda chronyd: setattr(chronyd, "opencommands", OPEN_COMMANDS),
            only(UNIX_ONLY, UNAUTHORIZED),
            over=["udp"],
        ),
    ],
    "Answers of a wrong length": [
        Row("filled up to 1024 bytes", lambda _: resize(1024), DATA),
        Row("filled up to 4000 bytes", lambda _: resize(4000), DATA),
        Row("filled up to 9000 bytes", lambda _: resize(9000), DATA),
        *(row for layout in CUT for row in cut(layout)),
    ],
    "chronyd stops, restarts, is replaced": [
        Row("stopped before the call", lambda c: c.stop(), STOPPED),
        Row("crashed before the call", lambda c: c.stop(crash=True), CRASHED),
        Row("restarted before the call", lambda c: c.restart(), DATA),
        Row("crashed and restarted before the call", lambda c: c.restart(crash=True), DATA),
        Row(
            "replaced by chronyd 3.5 before the call",
            lambda c: c.restart(OLD_CHRONYD),
            only(("selectdata", "authdata"), OLD),
            then=OLD_CHRONYD,
        ),
        Row("stops instead of answer 1, for good", lambda c: at({0}, dies(c)), STOPPED, MIXED),
        Row(
            "stops instead of answer 2, for good",
            lambda c: at({1}, dies(c)),
            only(LISTS, STOPPED),
            MIXED,
        ),
        Row("restarts instead of answer 1", lambda c: at({0}, restarts(c)), DATA),
        Row("restarts instead of answer 2", lambda c: at({1}, restarts(c)), DATA),
        Row("restarts instead of answer 3", lambda c: at({2}, restarts(c)), DATA),
        Row("restarts instead of answer 4", lambda c: at({3}, restarts(c)), DATA),
        replaced(1),
        replaced(2),
        replaced(3),
    ],
    "Lists that change, or cannot be": [
        Row(
            "one source less than was counted",
            lambda _: counting(in_turn(COUNT + 1, COUNT)),
            DATA,
        ),
        Row(
            "always one source less than was counted",
            lambda _: counting(COUNT + 1),
            only(LISTS, ERROR),
        ),
        Row("no sources", lambda _: NO_SOURCES, DATA, then=NO_SOURCES),
        Row(
            "65536 sources counted, none there",
            lambda _: counting(65536, NO_SOURCES),
            only(LISTS, ERROR),
            then=NO_SOURCES,
        ),
        claiming(65537),
        claiming(0x7FFFFFFF),
        claiming(0x80000000),
        claiming(0xFFFFFFFF),
    ],
}


ROWS = [(group, row) for group, rows in FAULTS.items() for row in rows]
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


@pytest.mark.parametrize("number", range(len(ROWS)), ids=lambda n: str(ROWS[n][1]))
def test_a_fault_ends_as_the_table_says(
    number: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Stream("output"))
    monkeypatch.setattr(sys, "stderr", Stream("errors"))
    group, row = ROWS[number]
    with ThreadPoolExecutor(THREADS) as threads:
        running = [(call, threads.submit(outcome, call)) for call in calls_of(row)]
    failures = [(str(call), ended.exception()) for call, ended in running]
    assert [(call, failure) for call, failure in failures if failure] == []
    note(
        request,
        (
            Outcome(number, group, row.name, call.transport, call.report, *ended.result())
            for call, ended in running
        ),
    )


def outcome(call: Call) -> tuple[str, str]:
    """Make a call, and others when the fault is over; return what the page says of it."""
    with ScriptedChronyd(KNOWN, call.transport) as chronyd:
        ended = end_of(call, chronyd)
        assert remains(chronyd.address) == []
    return ended


def end_of(call: Call, chronyd: ScriptedChronyd) -> tuple[str, str]:
    row, report = call.row, call.report
    with call.way.prepare(chronyd.address, row.timeout) as ask:
        begin(row, chronyd)
        start = time.monotonic()
        answer = ask(report)
        taken = time.monotonic() - start
        end(chronyd)
        expected = expects_of_all(row) if report == "all" else row.expects(report)
        assert taken >= row.timeout or not expected.waits, f"gave up after {taken} s"
        assert taken < HANG + (0 if row.timeout == ENOUGH else row.timeout), f"took {taken} s"
        message = judge(call, chronyd.address, answer, expected)
        for later in (report, "all"):
            assert_right(call._replace(report=later), patiently(ask, later), [KNOWN])
    return expected.cell, message


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


def expects_of_all(row: Row) -> Expected:
    """All reports together fail only if chronyd cannot be reached."""
    each = [row.expects(report) for report in METHODS]
    for one in each:
        if one.error is not None and issubclass(one.error, ChronyConnectionError):
            return one
    missing = sum(one is not DATA for one in each)
    return Expected(f"missing {missing}") if missing else DATA


def judge(call: Call, address: str, answer: Any, expected: Expected) -> str:
    """Compare an answer with what is expected; return what its message says."""
    if expected.error is not None:
        assert isinstance(answer, Failure), answer
        assert answer.kind in (expected.error, EXIT_CODES[expected.error]), answer
        return judge_message(call, address, answer.message, expected)
    if expected is NONE:
        assert answer is None, answer
    elif call.report == "all" and expected is not DATA:
        judge_each(call, address, answer)
    else:
        assert_right(call, answer, [KNOWN, call.row.then])
    return ""


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


def judge_message(call: Call, address: str, message: str, expected: Expected) -> str:
    """Check that a message says what was tried, and where; return what came back."""
    reports = REPORTS if call.report == "all" else [call.report]
    starts = [f"reading {report} from {address}: " for report in reports]
    start = next(s for s in (f"connecting to {address}: ", *starts, "") if message.startswith(s))
    assert start, message
    said = message.removeprefix(start)
    words = expected.words + f"{call.row.timeout:g} s; " * expected.waits
    words = (call.transport == "unix" and expected.unix) or words
    assert said.startswith(words), message
    return said.partition(";")[0] if "came with" not in said else expected.words


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
