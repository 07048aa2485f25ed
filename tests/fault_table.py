"""Lists the faults of chronyd and of the network, and what calls for each report end in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from limits import HANG
from methods import LISTS, METHODS, REPORTS, UNIX_ONLY
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
from ways import OPTIONAL

from pychrony import (
    ChronyConnectionError,
    ChronyDataError,
    ChronyError,
    ChronyPermissionError,
    ChronyTimeoutError,
)

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
        """What a call for this report ends in, or for all, which fails only without a chronyd."""
        if report != "all":
            by_report = self.expected
            return by_report if isinstance(by_report, Expected) else by_report.get(report, DATA)
        each = [self.expects(one) for one in METHODS]
        for one in each:
            if one.error is not None and issubclass(one.error, ChronyConnectionError):
                return one
        missing = sum(one is not DATA for one in each)
        return Expected(f"missing {missing}") if missing else DATA

    def words(self, expected: Expected, transport: Transport) -> str:
        """How a message begins, after what was tried and where."""
        words = expected.words + f"{self.timeout:g} s; " * expected.waits
        return (transport == "unix" and expected.unix) or words


def overtaken(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
    """Requests that other sockets made later are answered first."""
    return [(0.01 * (number % 3 == 0), reply)]


def sparing(commands: Sequence[Command], fault: Fault) -> Fault:
    """Apply the fault to all answers but those to certain commands."""
    return lambda request, reply, number: (honest if request.command in commands else fault)(
        request, reply, number
    )


def shorter(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
    return [(0, reply[:-1])]


def with_status(status: int, *, counts: bool = False) -> Row:
    """A row for answers with a status, perhaps only after the number of sources."""
    fault = sparing([Command.N_SOURCES] * counts, refuse(status))
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


def cut(about: str, spared: Sequence[Command], reports: Sequence[str]) -> Iterator[Row]:
    """Rows for answers that lack a part of their header, or a part of what follows."""
    least, most = sparing(spared, resize(wire.HEADER.size - 1)), sparing(spared, shorter)
    yield Row(f"{about} cut to 27 bytes", lambda _: least, TIMEOUT, SHORT, reports=reports)
    yield Row(f"{about} without the last byte", lambda _: most, MALFORMED, reports=reports)


def claiming(number: int) -> Row:
    absurd = refused(f"chronyd claims {number} records, which cannot be true; ")
    return Row(f"{number} sources counted", lambda _: counting(number), only(LISTS, absurd))


def replaced(number: int) -> Row:
    name = f"is replaced by another with other sources instead of answer {number + 1}"
    return Row(name, lambda c: at({number}, restarts(c, OTHERS)), DATA, then=OTHERS)


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
        *cut("all answers", [], REPORTS),
        *cut("answers after the number of sources", [Command.N_SOURCES], LISTS),
        *cut(
            "answers about one address",
            [Command.N_SOURCES, Command.SOURCESTATS],
            ["authdata", "ntpdata"],
        ),
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
