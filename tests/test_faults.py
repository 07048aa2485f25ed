"""Tests the outcome of every fault of chronyd, for every report, over both transports.

Each test takes one fault and makes all calls at the same time, each with its own chronyd; the
outcomes go to docs/faults.md (see faults_page.py).
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import pytest
from faults_page import REPORTS, Outcome, note
from limits import HANG, LONG
from loops import BackgroundLoop
from methods import METHODS
from scripted import (
    OPEN_COMMANDS,
    Answer,
    Fault,
    Request,
    Script,
    ScriptedChronyd,
    at,
    delay,
    dies,
    drip,
    drop,
    duplicate,
    garbage,
    header,
    honest,
    in_turn,
    instead,
    on,
    refuse,
    resize,
    restarts,
    script,
    stale,
    wire,
    wrong,
)
from scripted.wire import Command, Source, Status

import pychrony
from pychrony import (
    ChronyConnection,
    ChronyConnectionError,
    ChronyDataError,
    ChronyError,
    ChronyPermissionError,
    ChronyTimeoutError,
    aio,
)
from pychrony._command import reports
from pychrony._command.cli import COMMANDS, main
from pychrony._io.address import parse_timeout
from pychrony._model.fields import Report, origins
from pychrony.models import MODELS

THREADS = 32  # calls at the same time
ONCE = 2 * HANG  # a timeout for calls that must end before it
SHORT = 1.0  # seconds, for calls that must wait until the end
MIXED = (
    4.0  # where some calls must wait, and others must be answered by then, even on a busy machine
)
PATIENT = HANG  # for calls that must ask again, and are answered then

Transport = Literal["udp", "unix"]
SINGLE = ("tracking", "activity", "serverstats", "rtcdata", "smoothing")
LISTS = ("sources", "sourcestats", "selectdata", "authdata", "ntpdata")
UNIX_ONLY = ("selectdata", "authdata", "ntpdata", "serverstats")
OPTIONAL = ("rtcdata", "smoothing")
WAYS_TO_READ = METHODS | {"all": "get_all"}


HEADER = wire.HEADER.size
CUT = (
    wire.n_sources,
    wire.tracking,
    wire.source,
    wire.sourcestats,
    wire.selectdata,
    wire.activity,
    wire.authdata,
    wire.ntpdata,
    wire.serverstats,
    wire.rtcdata,
    wire.smoothing,
)


def asked_for(report: str) -> set[Command]:
    """Return the commands that libchrony sends to read a report."""
    commands = {command_of(report)}
    if report in LISTS:
        commands.add(Command.N_SOURCES)
    if report in ("authdata", "ntpdata"):
        commands.add(Command.SOURCESTATS)
    return commands


def command_of(report: str) -> Command:
    return Command[report.upper()]


@cache
def healthy(count: int, first: int = 1) -> Script:
    """Return the script for that many sources, with all their reports."""
    return script(sources(count, first))


@cache
def aged(count: int, first: int) -> Script:
    return old_chronyd(sources(count, first))


def at_limit(record: wire.Record, *, most: bool) -> wire.Record:
    """Return the record with the largest or smallest numbers that can be sent."""
    values: dict[str, wire.Value] = {}
    for f in record.layout.fields:
        if f.kind is wire.FLOAT:
            values[f.name] = 1e30 if most else -1e30
        elif f.kind is wire.TIMESPEC:  # the largest is of a chronyd with 32-bit time
            high = wire.NO_HIGH_WORD if most else 0x80000000
            values[f.name] = wire.timespec(high, 0xFFFFFFFF, 0xFFFFFFFF)
        elif f.kind in (wire.ADDRESS, wire.REFCLOCK) or f.name in KEPT:
            values[f.name] = record.values[f.name]
        elif f.kind in (wire.I8, wire.I16):
            values[f.name] = (
                2 ** (8 * f.kind.size - 1) - 1 if most else -(2 ** (8 * f.kind.size - 1))
            )
        else:
            values[f.name] = 2 ** (8 * f.kind.size) - 1 if most else 0
    return record.layout.record(values)


# Of `sources`, what says which kind of source it is; and a boolean, which has no other values.
KEPT = ("mode", "NAK", "authentication")


@cache
def limits(count: int, *, most: bool) -> Script:
    """A chronyd whose numbers are all as large or as small as can be."""
    known = [
        {command: at_limit(record, most=most) for command, record in source.items()}
        for source in sources(count)
    ]
    kinds = (wire.tracking, wire.activity, wire.serverstats, wire.rtcdata, wire.smoothing)
    return script(known, *(at_limit(kind(), most=most) for kind in kinds))


def sources(count: int, first: int = 1) -> list[Source]:
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
        for number in range(first, first + count - 1)
    ]
    return [found[0], wire.refclock(), *found[1:]]


# What is expected.


class Expected(NamedTuple):
    """How a call must end: with an `error`, or else with the right values."""

    cell: str
    error: type[ChronyError] | None = None
    words: str = ""  # in the message
    waits: bool = False  # until its time is over


DATA = Expected("data")
NONE = Expected("none")
TIMEOUT = Expected("timeout", ChronyTimeoutError, "no answer within ", waits=True)


def refused(words: str) -> Expected:
    return Expected("refused", ChronyDataError, words)


OLD = refused("this chronyd is too old for the report")
NEW = refused("this chronyd is newer than libchrony understands; update libchrony")
ERROR = refused("chronyd answered with an error; see its log")
MALFORMED = refused("a malformed answer; check which program answers at that address")
OFF = refused("chronyd has this report disabled")
UNAUTHORIZED = Expected("permission", ChronyPermissionError, "not authorized; ")

Expectation = Expected | Callable[[str, Transport], Expected]


@dataclass(frozen=True)
class Mode:
    """One fault: how to cause it, and the expected outcome."""

    group: str
    name: str
    arrange: Callable[[ScriptedChronyd], None]
    expected: Expectation
    timeout: float = ONCE
    after: Callable[[int], Script] | None = None  # what chronyd answers in the end, if not the same
    transports: Sequence[Transport] = ("udp", "unix")
    number: int = field(default_factory=itertools.count().__next__)

    def __str__(self) -> str:
        return self.name

    def expects(self, report: str, transport: Transport) -> Expected:
        if callable(self.expected):
            return self.expected(report, transport)
        return self.expected


def with_fault(make: Callable[[], Fault]) -> Callable[[ScriptedChronyd], None]:
    """Make a separate fault for each chronyd, since some faults count."""

    def arrange(chronyd: ScriptedChronyd) -> None:
        chronyd.fault = make()

    return arrange


def at_answer(
    number: int, make: Callable[[ScriptedChronyd], Fault], chronyd: ScriptedChronyd
) -> None:
    chronyd.fault = at({number}, make(chronyd))


def to_limits(chronyd: ScriptedChronyd, *, most: bool) -> None:
    chronyd.script = limits(_count(chronyd.script), most=most)


def with_script(change: Callable[[Script], dict[Command, Answer]]) -> Callable[..., None]:
    def arrange(chronyd: ScriptedChronyd) -> None:
        chronyd.script = change(chronyd.script)

    return arrange


def for_records(make: Callable[[], Fault]) -> Callable[[], Fault]:
    """The fault for all answers but the number of sources."""

    def make_both() -> Fault:
        fault = make()

        def change(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
            chosen = honest if request.command is Command.N_SOURCES else fault
            return chosen(request, reply, number)

        return change

    return make_both


def counted(number: int, answers: Script) -> dict[Command, Answer]:
    return {**answers, Command.N_SOURCES: number}


def _count(answers: Script) -> int:
    count = answers[Command.N_SOURCES]
    assert isinstance(count, int)
    return count


def overtaken() -> Fault:
    """Requests that other sockets made later are answered first."""
    return lambda request, reply, number: [(0.01 * (number % 3 == 0), reply)]


def by_status(status: int) -> Expectation:
    if status == Status.UNAUTH:
        return UNAUTHORIZED
    if status == Status.INVALID:
        return OLD
    if status in (Status.BADPKTVERSION, Status.BADPKTLENGTH):
        return NEW
    if status in (Status.NOTENABLED, Status.NORTC):
        return lambda report, transport: NONE if report in OPTIONAL else OFF
    return ERROR


def only(reports: Sequence[str], expected: Expected) -> Expectation:
    return lambda report, transport: expected if report in reports else DATA


def gone(report: str, transport: Transport) -> Expected:
    if transport == "udp":
        return Expected("connection", ChronyConnectionError, "connection refused; chronyd does not")
    return Expected("connection", ChronyConnectionError, "no such file or directory; chronyd has")


def crashed(report: str, transport: Transport) -> Expected:
    if transport == "udp":
        return gone(report, transport)
    return Expected("connection", ChronyConnectionError, "connection refused; chronyd does not")


def gone_after(answers: int, report: str, transport: Transport) -> Expected:
    return DATA if answers == 1 and report in SINGLE else gone(report, transport)


def old_chronyd(known: Iterable[Source]) -> Script:
    """A chronyd 3.5: no selectdata, no authdata, shorter answers."""
    answers = script(
        [
            {
                command: wire.NTPDATA[16].record(
                    {
                        name: value
                        for name, value in record.values.items()
                        if name in {f.name for f in wire.NTPDATA[16].fields}
                    }
                )
                if command is Command.NTPDATA
                else record
                for command, record in source.items()
            }
            for source in known
        ],
        wire.SERVERSTATS[14](),
    )
    return {**answers, Command.SELECTDATA: Status.INVALID, Command.AUTHDATA: Status.INVALID}


NAMES = {int(status): status.name for status in Status}

LOST = "Answers that are lost or late"
FORGED = "Answers that are not to this question"
STATUS = "Answers with an error"
SIZE = "Answers of a wrong length"
AWAY = "chronyd stops, restarts, is replaced"
VALUES = "Numbers at their limits"
LIST = "Lists that change, or cannot be"

ABSURD = (65537, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

MODES = [
    Mode("No fault", "none", lambda chronyd: None, DATA),
    Mode(LOST, "every answer is lost", with_fault(lambda: drop), TIMEOUT, SHORT),
    *(
        Mode(LOST, f"answer {k + 1} is lost", with_fault(partial(at, {k}, drop)), DATA, PATIENT)
        for k in range(5)
    ),
    Mode(
        LOST,
        "no answer about authentication",
        with_fault(lambda: on(Command.AUTHDATA, drop)),
        only(("authdata", "all"), TIMEOUT),
        MIXED,
    ),
    Mode(
        LOST,
        "no answer about NTP data",
        with_fault(lambda: on(Command.NTPDATA, drop)),
        only(("ntpdata", "all"), TIMEOUT),
        MIXED,
    ),
    Mode(
        LOST,
        "no answer about statistics",
        with_fault(lambda: on(Command.SOURCESTATS, drop)),
        only(("sourcestats", "authdata", "ntpdata", "all"), TIMEOUT),
        MIXED,
    ),
    Mode(LOST, "answers late", with_fault(lambda: delay(0.01)), DATA),
    Mode(LOST, "answers too late", with_fault(lambda: delay(3 * SHORT)), TIMEOUT, SHORT),
    Mode(LOST, "answers twice", with_fault(lambda: duplicate), DATA),
    Mode(LOST, "every third answer later than others", with_fault(overtaken), DATA),
    Mode(LOST, "repeats the last answer first", with_fault(stale), DATA),
    *(
        Mode(FORGED, f"wrong {name}", with_fault(partial(wrong, name)), TIMEOUT, SHORT)
        for name in ("version", "type", "reserved", "command", "sequence")
    ),
    Mode(FORGED, "wrong reply code", with_fault(lambda: wrong("reply")), NEW),
    Mode(FORGED, "reply code of no report", with_fault(lambda: header(reply=1)), NEW),
    Mode(
        FORGED,
        "reply code of another report",
        with_fault(lambda: header(reply=5)),
        lambda report, transport: DATA if report == "tracking" else NEW,
    ),
    *(
        Mode(
            FORGED,
            f"wrong {name} once, then the answer",
            with_fault(partial(drip, 0, junk=wrong(name), count=1)),
            DATA,
        )
        for name in ("version", "sequence")
    ),
    Mode(FORGED, "random bytes", with_fault(garbage), TIMEOUT, SHORT),
    Mode(FORGED, "an empty datagram", with_fault(lambda: instead(b"")), TIMEOUT, SHORT),
    Mode(FORGED, "junk that never stops", with_fault(lambda: drip(0.01)), TIMEOUT, SHORT),
    Mode(FORGED, "junk, then the answer", with_fault(lambda: drip(0.001, count=20)), DATA),
    *(
        Mode(
            STATUS,
            f"status {number} ({NAMES.get(number, 'unknown')})",
            with_fault(partial(refuse, number)),
            by_status(number),
        )
        for number in (*range(1, 22), 65535)
    ),
    Mode(STATUS, "success, but no reply", with_fault(lambda: refuse(0)), NEW),
    *(
        Mode(
            STATUS,
            f"status {status} ({status.name}) after the number of sources",
            with_fault(for_records(partial(refuse, status))),
            by_status(status),
        )
        for status in (Status.FAILED, Status.UNAUTH, Status.INVALID, Status.NOSUCHSOURCE)
    ),
    Mode(
        STATUS,
        "as a chronyd with its own list of open reports",
        lambda chronyd: setattr(chronyd, "opencommands", OPEN_COMMANDS),
        lambda report, transport: (
            UNAUTHORIZED if transport == "udp" and report in UNIX_ONLY else DATA
        ),
    ),
    Mode(
        SIZE,
        "filled up to 1024 bytes",
        with_fault(lambda: resize(1024)),
        DATA,
    ),
    Mode(SIZE, "filled up to 4000 bytes", with_fault(lambda: resize(4000)), DATA),
    Mode(SIZE, "filled up to 9000 bytes", with_fault(lambda: resize(9000)), DATA),
    Mode(AWAY, "stopped before the call", lambda chronyd: chronyd.stop(), gone),
    Mode(AWAY, "crashed before the call", lambda chronyd: chronyd.stop(crash=True), crashed),
    Mode(AWAY, "restarted before the call", lambda chronyd: chronyd.restart(), DATA),
    Mode(
        AWAY,
        "crashed and restarted before the call",
        lambda chronyd: chronyd.restart(crash=True),
        DATA,
    ),
    Mode(
        AWAY,
        "replaced by chronyd 3.5 before the call",
        lambda chronyd: chronyd.restart(aged(3, 40)),
        lambda report, transport: OLD if report in ("selectdata", "authdata") else DATA,
        after=lambda count: aged(3, 40),
    ),
    *(
        Mode(
            AWAY,
            f"stops instead of answer {k + 1}, for good",
            partial(at_answer, k, dies),
            partial(gone_after, k),
            MIXED,
        )
        for k in range(2)
    ),
    *(
        Mode(
            AWAY,
            f"restarts instead of answer {k + 1}",
            partial(at_answer, k, restarts),
            DATA,
            PATIENT,
        )
        for k in range(4)
    ),
    *(
        Mode(
            AWAY,
            f"is replaced by another with other sources instead of answer {k + 1}",
            partial(at_answer, k, partial(restarts, answers=healthy(3, 40))),
            DATA,
            PATIENT,
            after=lambda count: healthy(3, 40),
        )
        for k in (1, 2, 3)
    ),
    *(
        Mode(
            VALUES,
            f"all numbers as {'large' if most else 'small'} as can be",
            partial(to_limits, most=most),
            DATA,
            after=partial(limits, most=most),
        )
        for most in (True, False)
    ),
    Mode(
        LIST,
        "one source less than was counted",
        with_script(lambda s: {**s, Command.N_SOURCES: in_turn(_count(s) + 1, _count(s))}),
        DATA,
    ),
    Mode(
        LIST,
        "always one source less than was counted",
        with_script(lambda s: {**s, Command.N_SOURCES: _count(s) + 1}),
        only((*LISTS, "all"), ERROR),
    ),
    Mode(
        LIST,
        "no sources",
        with_script(lambda s: dict(script([]))),
        DATA,
        after=lambda count: script([]),
    ),
    Mode(
        LIST,
        "65536 sources counted, none there",
        with_script(lambda s: {**script([]), Command.N_SOURCES: 65536}),
        only((*LISTS, "all"), ERROR),
        after=lambda count: script([]),
    ),
    *(
        Mode(
            LIST,
            f"{number} sources counted",
            with_script(partial(counted, number)),
            only((*LISTS, "all"), refused(f"chronyd claims {number} records, which cannot")),
        )
        for number in ABSURD
    ),
]


# How a call is made.


class Way(NamedTuple):
    """One way to make a call: for how many sources, on which kind of connection."""

    name: str
    sources: int


CONNECTION = Way("connection", 3)
USED = Way("used connection", 20)  # used before, until it had opened all its sockets
ONE_SHOT = Way("one-shot", 20)
COMMAND = Way("command", 3)
MANY = Way("get_many", 20)
AWAITED = Way("awaited connection", 3)
AWAITED_USED = Way("awaited used connection", 20)
AWAITED_ONE_SHOT = Way("awaited one-shot", 20)
AWAITED_MANY = Way("awaited get_many", 3)

BLOCKING = (CONNECTION, USED, ONE_SHOT, COMMAND, MANY)
AWAITING = (AWAITED, AWAITED_USED, AWAITED_ONE_SHOT, AWAITED_MANY)
LOOP = BackgroundLoop()  # one loop for all calls, which must not delay each other


def ways(report: str, kinds: Sequence[Way]) -> Sequence[Way]:
    """Return the ways to read a report; `use()` is for lists, which alone take many sockets."""
    unused = (USED, AWAITED_USED) if report in SINGLE else ()
    return [way for way in kinds if way not in unused]


def use(connection: ChronyConnection | aio.ChronyConnection) -> None:
    """Read a list, which makes a connection open all its sockets."""
    connection._timeout = parse_timeout(ONCE)  # the fault's is for the call after these
    for _ in range(16):
        LOOP.result(connection.get_activity())
    LOOP.result(connection.get_sources())
    LOOP.result(connection.get_sources())


@dataclass
class Call:
    """One call under one fault."""

    mode: Mode
    transport: Transport
    report: str
    way: Way

    def run(self, turn: threading.Lock) -> Outcome:
        with ScriptedChronyd(healthy(self.way.sources), self.transport) as self.chronyd:
            address = self.chronyd.address
            if self.way in (ONE_SHOT, AWAITED_ONE_SHOT):
                module = pychrony if self.way is ONE_SHOT else aio
                function = getattr(module, WAYS_TO_READ[self.report])
                return self._watch(
                    lambda timeout: LOOP.result(function(address=address, timeout=timeout)), turn
                )
            if self.way in (MANY, AWAITED_MANY):
                return self._watch(self._ask_many, turn)
            if self.way is COMMAND:
                options = [self.report, "--json", "--address", address, "--timeout"]
                return self._watch(lambda timeout: command(*options, str(timeout)), turn)
            with self._connected() as connection:
                if self.way in (USED, AWAITED_USED):
                    use(connection)
                return self._watch(partial(self._ask_connection, connection), turn)

    @contextmanager
    def _connected(self) -> Iterator[ChronyConnection | aio.ChronyConnection]:
        address, timeout = self.chronyd.address, self.mode.timeout
        if self.way in (CONNECTION, USED):
            with ChronyConnection(address, timeout=timeout) as connection:
                yield connection
        else:
            awaited = aio.ChronyConnection(address, timeout=timeout)
            try:
                yield LOOP.result(awaited.__aenter__())
            finally:
                LOOP.result(awaited.aclose())

    def _ask_connection(
        self, connection: ChronyConnection | aio.ChronyConnection, timeout: float
    ) -> Any:
        connection._timeout = parse_timeout(timeout)
        return LOOP.result(getattr(connection, WAYS_TO_READ[self.report])())

    def _ask_many(self, timeout: float) -> Any:
        """Return or raise the result of `get_many()`, like the method of the report."""
        names = [] if self.report == "all" else [self.report]
        if self.way is MANY:
            [answer] = pychrony.get_many([self.chronyd.address], *names, timeout=timeout)
        else:
            [answer] = LOOP.all(aio.get_many([self.chronyd.address], *names, timeout=timeout))
        assert answer.address == self.chronyd.address
        if answer.error is not None:
            raise answer.error
        assert answer.reports is not None
        if self.report == "all":
            return answer.reports
        missing = answer.reports.missing.get(self.report)
        if missing is not None and self.mode.expects(self.report, self.transport) is not NONE:
            raise missing
        return getattr(answer.reports, self.report)

    def _watch(self, ask: Callable[[float], Any], turn: threading.Lock) -> Outcome:
        self.mode.arrange(self.chronyd)
        start = time.monotonic()
        answer: Any
        try:
            answer = ask(self.mode.timeout)
        except ChronyError as error:
            answer = error
        taken = time.monotonic() - start
        expected = self._expected()
        message = self._judge(answer, expected)
        assert not expected.waits or taken >= self.mode.timeout, f"gave up after {taken} s"
        most = self.mode.timeout if self.mode.timeout < ONCE else 0
        assert taken < most + HANG, f"took {taken} s"
        with turn:
            self._ask_again(ask)
        return Outcome(
            self.mode.number,
            self.mode.group,
            self.mode.name,
            self.transport,
            self.report,
            expected.cell,
            message,
        )

    def _expected(self) -> Expected:
        if self.report != "all":
            return self.mode.expects(self.report, self.transport)
        each = [self.mode.expects(report, self.transport) for report in REPORTS[:-1]]
        for one in each:
            if one.error is not None and issubclass(one.error, ChronyConnectionError):
                return one
        missing = sum(one.cell != "data" for one in each)
        return Expected(f"missing {missing}") if missing else DATA

    def _judge(self, answer: Any, expected: Expected) -> str:
        """Compare the answer with what is expected; return what its message says."""
        if isinstance(answer, Printed):
            return self._judge_printed(answer, expected)
        if expected.cell == "none":
            assert answer is None
            return ""
        if expected.error is not None:
            return self._judge_error(answer, expected, self.report)
        assert not isinstance(answer, ChronyError), repr(answer)
        if self.report == "all":
            reports = {name: vars_of(getattr(answer, name)) for name in REPORTS[:-1]}
            self._judge_all(reports, {name: str(e) for name, e in answer.missing.items()})
        else:
            assert self._is_right(vars_of(answer), self.report), answer
        return ""

    def _judge_all(self, reports: dict[str, Any], missing: dict[str, str]) -> None:
        for report in REPORTS[:-1]:
            expected = self.mode.expects(report, self.transport)
            if expected.cell == "data":
                assert self._is_right(reports[report], report), reports[report]
            else:
                assert reports[report] is None
                if expected.cell != "none":
                    self._judge_message(missing[report], expected, report)

    def _judge_printed(self, printed: Printed, expected: Expected) -> str:
        codes: dict[type[ChronyError] | None, int] = {
            None: 0,
            ChronyConnectionError: 1,
            ChronyTimeoutError: 1,
            ChronyPermissionError: 3,
            ChronyDataError: 4,
        }
        if expected.cell == "none":
            assert (printed.code, printed.output) == (0, "null\n")
            return expected.words
        if self.report == "all" and expected.cell == f"missing {len(METHODS)}":
            assert printed.code in (0, 3, 4)
            return ""
        assert printed.code == codes[expected.error], printed
        if expected.error is not None:
            assert printed.errors.startswith("pychrony: ")
            assert printed.errors.endswith("\n")
            return self._judge_message(printed.errors[10:-1], expected, self.report)
        shown = json.loads(printed.output)
        if self.report == "all":
            messages = {name: entry["message"] for name, entry in shown.pop("missing").items()}
            self._judge_all(shown, messages)
        else:
            assert self._is_right(shown, self.report), shown
        return ""

    def _judge_error(self, error: Any, expected: Expected, report: str) -> str:
        assert type(error) is expected.error, repr(error)
        assert error.message == str(error)
        return self._judge_message(str(error), expected, report)

    def _judge_message(self, message: str, expected: Expected, report: str) -> str:
        address = self.chronyd.address
        starts = [f"connecting to {address}: "]
        for name in REPORTS if report == "all" else [report]:
            starts.append(f"reading {name} from {address}: ")
        start = next((s for s in starts if message.startswith(s)), None)
        assert start is not None, message
        said = message[len(start) :]
        assert said.startswith(expected.words), said
        if expected.waits:
            assert said.startswith(f"{expected.words}{self.mode.timeout:g} s; "), said
        return said.partition(";")[0] if "came with" not in said else expected.words

    def _is_right(self, answer: Any, report: str) -> bool:
        """Whether the answer is that of the chronyd, or of the one that replaced it.

        Over UDP a replacement goes unnoticed, so that each record may be from either.
        """
        scripts = [healthy(self.way.sources)]
        if self.mode.after is not None:
            scripts.append(self.mode.after(self.way.sources))
        either = [truth(report, answers) for answers in scripts]
        records = answer if isinstance(answer, list) else [answer]
        model = MODELS[report]
        if any(equal_lists(model, records, sent) for sent in either):
            return True
        return self.transport == "udp" and all(
            any(equal(model, record, one) for sent in either for one in sent) for record in records
        )

    def _ask_again(self, ask: Callable[[float], Any]) -> None:
        self.chronyd.fault = honest
        self.chronyd.opencommands = list(Command)
        self.chronyd.script = healthy(self.way.sources)
        if not self.chronyd.listening:
            self.chronyd.start()
        answer, report = ask(ONCE), self.report
        if isinstance(answer, Printed):
            answer = json.loads(answer.output)
            answer = answer["ntpdata"] if report == "all" else answer
        elif report == "all":
            assert not answer.missing, answer.missing
            answer = vars_of(answer.ntpdata)
        else:
            answer = vars_of(answer)
        report = "ntpdata" if report == "all" else report
        records = answer if isinstance(answer, list) else [answer]
        sent = truth(report, healthy(self.way.sources))
        assert equal_lists(MODELS[report], records, sent), answer


def vars_of(answer: Any) -> Any:
    """The attributes of a record, or of each record of a list."""
    if isinstance(answer, list):
        return [vars(record) for record in answer]
    return None if answer is None else vars(answer)


class Printed(NamedTuple):
    """The result of the command."""

    code: int
    output: str
    errors: str


class Streams(threading.local):
    """Standard output and standard error of the command in the same thread."""

    def __init__(self) -> None:
        self.output, self.errors = io.StringIO(), io.StringIO()


STREAMS = Streams()


class Stream:
    """Forwards to the stream of that name that belongs to the writing thread."""

    def __init__(self, name: Literal["output", "errors"]) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(STREAMS, self._name), name)


def command(*options: str) -> Printed:
    """Run the command in this thread."""
    STREAMS.__init__()  # type: ignore[misc]
    code = main(options)
    return Printed(code, STREAMS.output.getvalue(), STREAMS.errors.getvalue())


make_parser = reports._parser


@cache
def parser() -> argparse.ArgumentParser:
    """The command's parser, which is the same for all calls, and takes long to make."""
    return make_parser(COMMANDS, explain=False)


def truth(report: str, answers: Script) -> list[dict[str, Any]]:
    """Return the values that a script has for a report, except those that a converter changes."""
    answer: Any = answers[command_of(report)]
    if isinstance(answer, wire.Record):
        return [dict(answer.values)]
    if isinstance(answer, Status):
        return []
    records = answer.values() if isinstance(answer, dict) else answer
    found = [dict(record.values) for record in records]
    if report == "authdata":
        stats: Any = answers[Command.SOURCESTATS]
        addresses = [record.values["address"] for record in stats if record.values["address"]]
        for record, address in zip(found, addresses, strict=True):
            record["address"] = address
    return found


def equal_lists(model: type[Report], records: list[Any], sent: list[dict[str, Any]]) -> bool:
    return len(records) == len(sent) and all(
        equal(model, record, one) for record, one in zip(records, sent, strict=True)
    )


def equal(model: type[Report], record: dict[str, Any], sent: dict[str, Any]) -> bool:
    """Whether a record has what chronyd sent, in all fields that need no converter.

    Raw bytes are what no value stands for.
    """
    for name, origin in origins(model).items():
        if origin.convert is not None:
            continue
        field = next((n for n in origin.names if n in sent), None)
        if field is not None and not isinstance(sent[field], bytes):
            got, wanted = record[name], sent[field]
            if got != wanted and (got or wanted):  # no address is "" or None
                return False
    return True


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_fault_ends_in_the_right_answer_or_error(
    mode: Mode, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Stream("output"))
    monkeypatch.setattr(sys, "stderr", Stream("errors"))
    monkeypatch.setattr(reports, "_parser", lambda others, explain: parser())
    calls = []  # the short run makes one call for each report, in a different way each time
    asked = itertools.product(mode.transports, REPORTS)
    for turn, (transport, report) in enumerate(asked, mode.number):
        kinds = (BLOCKING, AWAITING)[turn % 2]
        possible = ways(report, kinds)
        turn = turn // 2 % len(possible)
        calls += [
            Call(mode, transport, report, way)
            for way in (ways(report, BLOCKING + AWAITING) if LONG else possible[turn : turn + 1])
        ]
    note(request, run_all(calls))


def cut(length: int, command: Command) -> Callable[[], Fault]:
    return lambda: on(command, resize(length))


def lengths(layout: wire.Layout) -> Iterable[int]:
    """All lengths that are too short; in the short run the ends of the parts, and some between."""
    if LONG:
        return range(layout.length)
    ends = {0, 1, HEADER - 1, HEADER, HEADER + 1, layout.length - 1}
    return sorted({*ends, *range(0, layout.length, 5)})


@pytest.mark.parametrize("transport", ["udp", "unix"])
@pytest.mark.parametrize("layout", CUT, ids=str)
def test_an_answer_cut_at_any_length_is_refused(
    layout: wire.Layout, transport: Transport, request: pytest.FixtureRequest
) -> None:
    command = layout.command
    reports = [r for r in REPORTS[:-1] if command in asked_for(r)]
    calls = []
    for turn, (length, report) in enumerate(itertools.product(lengths(layout), reports)):
        header_only = length < HEADER
        if header_only and not LONG and turn % 2:
            continue
        name = f"{command.name} cut to {'0-27' if header_only else '28 bytes or more'}"
        fault = with_fault(cut(length, command))
        order = len(MODES) + 2 * CUT.index(layout) + (not header_only)
        expected = TIMEOUT if header_only else MALFORMED
        mode = Mode(SIZE, name, fault, expected, SHORT if header_only else ONCE, number=order)
        way = (CONNECTION, AWAITED, MANY, AWAITED_MANY)[turn // 2 % 4]
        calls.append(Call(mode, transport, report, way))
    note(request, run_all(calls))


def run_all(calls: Sequence[Call]) -> list[Outcome]:
    """Make all calls at the same time; raise the first failure."""
    turn = threading.Lock()
    with ThreadPoolExecutor(THREADS) as threads:
        running = [threads.submit(call.run, turn) for call in calls]
    outcomes, failures = [], []
    for call, future in zip(calls, running, strict=True):
        error = future.exception()
        if error is None:
            outcomes.append(future.result())
        else:
            failures.append(f"{call.report} over {call.transport}, {call.way.name}: {error!r}")
    assert not failures, "\n".join(failures)
    return outcomes
