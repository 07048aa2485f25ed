"""Tests asking many daemons at the same time, blocking and in an event loop."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, aclosing, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from limits import HANG, fds, nothing_left, remains
from loops import WAYS, ask, each_loop, each_way, run
from programs import output
from scripted import ScriptedChronyd, script
from scripted.faults import at, delay, drop, restarts
from scripted.wire import ntp_source, tracking
from surroundings import both

import pychrony
from pychrony import (
    Answer,
    ChronyConnectionError,
    ChronyDataError,
    ChronyError,
    ChronyPermissionError,
    ChronyTimeoutError,
    TrackingStatus,
    aio,
)
from pychrony._io.many import Many
from pychrony._io.questions import Together
from pychrony.testing import PrivateChronyd

GetMany = Callable[..., list[Answer]]


@pytest.fixture(params=WAYS)
def get_many(request: pytest.FixtureRequest) -> GetMany:
    """Collect the answers of `get_many()`, blocking or on a kind of event loop."""

    def collect(*arguments: Any, timeout: float | None = HANG) -> list[Answer]:
        return list(ask(request.param, "get_many", *arguments, timeout=timeout))

    return collect


@contextmanager
def daemons(count: int, **options: Any) -> Iterator[list[ScriptedChronyd]]:
    """Daemons of stratum 1, 2, 3 and so on."""
    with ExitStack() as resources:
        yield [
            resources.enter_context(
                ScriptedChronyd(script(None, tracking(stratum=number)), **options)
            )
            for number in range(1, count + 1)
        ]


def stratum(answer: Answer) -> int:
    return answer.result().require("tracking").stratum


def error(answer: Answer) -> ChronyError:
    assert answer.reports is None
    assert answer.error is not None
    return answer.error


# Answers.


@pytest.mark.parametrize("transport", ["udp", "udp6", "unix"])
def test_each_daemon_gives_its_own_answer(transport: Any, get_many: GetMany) -> None:
    with daemons(5, transport=transport) as found:
        answers = get_many([chronyd.address for chronyd in found], "tracking")
    assert {answer.address: stratum(answer) for answer in answers} == {
        chronyd.address: number for number, chronyd in enumerate(found, 1)
    }


def test_an_address_is_given_back_as_it_was_given(get_many: GetMany) -> None:
    with daemons(1) as [udp], daemons(1, transport="unix") as [unix]:
        port = udp.address.rpartition(":")[2]
        given = [f"localhost:{port}", udp.address, Path(unix.address), udp.address]
        answers = get_many(given, "tracking")
    assert sorted(answer.address for answer in answers) == sorted(map(str, given))
    assert [stratum(answer) for answer in answers] == [1, 1, 1, 1]


def test_an_answer_has_the_reports_that_were_asked_for(get_many: GetMany) -> None:
    sources = script([ntp_source(f"192.0.2.{n}") for n in range(1, 21)])
    with ScriptedChronyd(sources, "unix") as chronyd:
        [answer] = get_many([chronyd.address], "sources", "activity")
        connection = pychrony.get_all("sources", "activity", address=chronyd.address, timeout=HANG)
    assert answer.error is None
    assert answer.reports == connection


def test_no_addresses_give_no_answers(get_many: GetMany) -> None:
    assert get_many([]) == []


# A bad address results in an error for that address alone.


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "empty"),
        ("192.0.2.1:0", "port"),
        ("no host", "host name"),
        (5, "must be"),
        (None, "must be"),
    ],
)
def test_what_cannot_be_an_address_is_an_answer(
    address: object, words: str, get_many: GetMany
) -> None:
    with daemons(1) as [chronyd]:
        answers = get_many([address, chronyd.address], "tracking")
    by_address = {answer.address: answer for answer in answers}
    assert stratum(by_address.pop(chronyd.address)) == 1
    [bad] = by_address.values()
    assert bad.address == str(address)
    assert type(error(bad)) is ChronyConnectionError
    assert words in str(bad.error)
    assert isinstance(error(bad).__cause__, TypeError | ValueError)


def test_every_kind_of_failure_is_an_answer(get_many: GetMany) -> None:
    with (
        daemons(4) as [good, away, silent, mad],
        ScriptedChronyd(opencommands=[]) as closed,
    ):
        away.stop()
        silent.fault = drop
        mad.script = {}
        given = {
            good.address: None,
            away.address: ChronyConnectionError,
            silent.address: ChronyTimeoutError,
            mad.address: None,
            closed.address: None,
            "/nowhere/chronyd.sock": ChronyConnectionError,
            "name.invalid": ChronyConnectionError,
        }
        answers = get_many(given, "tracking", timeout=1)
        missing = {
            a.address: a.reports.missing["tracking"]
            for a in answers
            if a.reports and a.reports.missing
        }
    assert len(answers) == len(given)
    assert {a.address: a.error and type(a.error) for a in answers} == given
    assert {address: type(error) for address, error in missing.items()} == {
        mad.address: ChronyDataError,
        closed.address: ChronyPermissionError,
    }
    silence = next(a.error for a in answers if a.address == silent.address)
    assert f"from {silent.address}: no answer within 1 s" in str(silence)


def test_a_chronyd_that_restarts_is_asked_again(get_many: GetMany) -> None:
    names = [f"192.0.2.{n}" for n in range(1, 10)]
    with ExitStack() as resources:
        found = [
            resources.enter_context(ScriptedChronyd(script(map(ntp_source, names)), "unix"))
            for _ in range(3)
        ]
        for number, chronyd in enumerate(found):
            chronyd.fault = at({number}, restarts(chronyd))
        answers = get_many([chronyd.address for chronyd in found], "sources")
    for answer in answers:
        assert answer.reports is not None, answer.error
        assert [source.address for source in answer.reports.sources or []] == names


# Time.


def test_answers_come_as_the_daemons_give_them(get_many: GetMany) -> None:
    with daemons(3) as [late, later, prompt]:
        late.fault, later.fault = delay(0.3), delay(0.9)
        given = [later.address, late.address, prompt.address]
        assert [a.address for a in get_many(given, "tracking")] == given[::-1]


def test_daemons_are_waited_for_at_the_same_time(get_many: GetMany) -> None:
    with ScriptedChronyd(fault=drop) as silent, daemons(1) as [chronyd]:
        start = time.monotonic()
        answers = get_many([silent.address] * 100 + [chronyd.address], "tracking", timeout=1.0)
        taken = time.monotonic() - start
    assert answers[0].address == chronyd.address
    assert all(isinstance(error(answer), ChronyTimeoutError) for answer in answers[1:])
    assert 1.0 <= taken < HANG


def test_a_timeout_may_be_none(get_many: GetMany) -> None:
    with ScriptedChronyd(fault=delay(0.5)) as chronyd:
        [answer] = get_many([chronyd.address], "tracking", timeout=None)
    assert stratum(answer) == 3


def test_a_pause_of_the_caller_is_not_part_of_the_timeout() -> None:
    """What is asked next depends on answers that are taken in only when the caller comes back."""
    sources = script([ntp_source(f"192.0.2.{n}") for n in range(1, 40)])
    with ScriptedChronyd(sources, fault=delay(0.05)) as slow, ScriptedChronyd() as prompt:
        addresses = [prompt.address, *[slow.address] * 5]
        with closing(pychrony.get_many(addresses, "sources", timeout=2.0)) as answers:
            assert next(answers).address == prompt.address
            time.sleep(2.5)
            assert all(answer.reports for answer in answers)


@pytest.mark.parametrize("way", ["blocking", "asyncio"])  # uvloop resolves in C
def test_names_are_part_of_the_timeout_and_hold_nobody_up(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "slow.test":
            time.sleep(3)
        return original("localhost", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with daemons(1) as [chronyd]:
        given = ["slow.test"] * 20 + ["slow.test:1323", chronyd.address]
        answers = list(ask(way, "get_many", given, "tracking", timeout=1.0))
    assert answers[0].address == chronyd.address
    assert {type(error(answer)) for answer in answers[1:]} == {ChronyTimeoutError}
    assert all("resolving slow.test: no answer within 1 s" in str(a.error) for a in answers[1:])


# Addresses are taken as they can be asked, and the caller may stop at any time.


@each_way
def test_an_endless_generator_of_addresses_works(way: str) -> None:
    taken = 0

    def endless(address: str) -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield address

    async def some(address: str) -> list[int]:
        answers = aio.get_many(endless(address), "tracking")
        found = [stratum(await anext(answers)) for _ in range(300)]
        await answers.aclose()
        return found

    with daemons(1) as [chronyd], nothing_left():
        if way == "blocking":
            with closing(pychrony.get_many(endless(chronyd.address), "tracking")) as answers:
                found = [stratum(answer) for answer in itertools.islice(answers, 300)]
        else:
            found = run(way, some(chronyd.address))
    assert found == [1] * 300
    assert taken < 3000


@each_loop
async def test_answers_that_come_at_once_do_not_block_the_event_loop(tmp_path: Path) -> None:
    other = asyncio.ensure_future(asyncio.sleep(0))
    async with aclosing(aio.get_many([tmp_path / "missing"] * 1000, "tracking")) as answers:
        async for _ in answers:
            if other.done():
                break
    assert other.done()


@pytest.mark.parametrize("how", ["close", "drop", "throw"])
@both
def test_an_iterator_that_is_abandoned_leaves_nothing_behind(transport: Any, how: str) -> None:
    with daemons(20, transport=transport) as found:
        for chronyd in found[1:]:
            chronyd.fault = drop
        before, threads = fds(), threading.active_count()
        answers = pychrony.get_many([chronyd.address for chronyd in found], "tracking")
        assert stratum(next(answers)) == 1
        assert fds() > before
        if how == "close":
            answers.close()
        elif how == "throw":
            with pytest.raises(KeyboardInterrupt):
                answers.throw(KeyboardInterrupt)
        del answers
        assert fds() == before
        assert threading.active_count() == threads
        assert [remains(chronyd.address) for chronyd in found] == [[]] * 20


@each_loop
@pytest.mark.parametrize("how", ["close", "drop", "cancel"])
async def test_an_async_iterator_that_is_abandoned_leaves_nothing_behind(how: str) -> None:
    await asyncio.sleep(0)
    with daemons(20) as found, nothing_left():
        for chronyd in found[1:]:
            chronyd.fault = drop
        answers = aio.get_many([chronyd.address for chronyd in found], "tracking")
        assert stratum(await anext(answers)) == 1
        if how == "close":
            await answers.aclose()
        elif how == "cancel":
            task = asyncio.ensure_future(anext(answers))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        del answers
        for _ in range(5):
            await asyncio.sleep(0)


def test_an_error_of_the_addresses_is_the_callers(get_many: GetMany) -> None:
    def addresses(first: str) -> Iterator[str]:
        yield first
        raise LookupError("no more")

    with (
        daemons(1) as [chronyd],
        nothing_left(),
        pytest.raises(LookupError, match="no more"),
    ):
        get_many(addresses(chronyd.address), "tracking")


# Invalid arguments raise errors at once.


@pytest.mark.parametrize(
    ("arguments", "options", "mistake"),
    [
        (("127.0.0.1",), {}, TypeError),
        ((b"127.0.0.1",), {}, TypeError),
        ((Path("/run/chrony/chronyd.sock"),), {}, TypeError),
        ((5,), {}, TypeError),
        ((["127.0.0.1"], "source"), {}, ValueError),
        ((["127.0.0.1"], "tracking"), {"timeout": 0}, ValueError),
        ((["127.0.0.1"], "tracking"), {"timeout": "1"}, TypeError),
    ],
)
def test_a_mistake_is_told_before_anything_is_asked(
    arguments: Any, options: Any, mistake: type[Exception]
) -> None:
    with pytest.raises(mistake):
        pychrony.get_many(*arguments, **options)
    with pytest.raises(mistake):
        aio.get_many(*arguments, **options)


# Limits.


LIMITED = """
    import asyncio, resource, sys
    from pychrony import aio, get_many
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    address, way = sys.argv[1:]

    async def awaited():
        return [answer async for answer in aio.get_many([address] * 500, "tracking")]

    if way == "aio":
        answers = asyncio.run(awaited())
    else:
        answers = list(get_many([address] * 500, "tracking"))
    assert [answer.error for answer in answers] == [None] * 500, answers
"""


@pytest.mark.parametrize("way", ["blocking", "aio"])
@both
def test_a_low_limit_of_descriptors_only_takes_longer(way: str, transport: Any) -> None:
    with daemons(1, transport=transport) as [chronyd]:
        assert output(LIMITED, chronyd.address, way) == ""


SHORTAGE = """
    import os, resource, sys
    from pychrony import get_many
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
    others = []

    def files():
        return len(os.listdir("/proc/self/fd"))

    def addresses():
        while files() < 390:
            others.append(open("/dev/null"))
        for _ in range(100):
            yield sys.argv[1]

    answers = get_many(addresses(), "tracking")
    first = next(answers)
    for file in others:
        file.close()
    before = files()
    opened = [(files() - before, answer.error) for answer in answers]
    assert [error for _, error in opened] == [None] * 99, opened
    print(max(opened)[0] > 20, first.error)
"""


def test_more_daemons_are_asked_once_there_are_descriptors_again() -> None:
    with ScriptedChronyd(fault=delay(0.1)) as chronyd:
        assert output(SHORTAGE, chronyd.address) == "True None\n"


FORK_IN_SHORTAGE = """
    import os, resource, signal, sys
    from pychrony import get_many
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))

    def addresses():
        while len(os.listdir("/proc/self/fd")) < 390:
            os.open("/dev/null", os.O_RDONLY)
        for _ in range(8):
            yield sys.argv[1]

    def fork(*_):
        global child
        child = os.fork()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))

    signal.signal(signal.SIGALRM, fork)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    answers = list(get_many(addresses(), "tracking"))
    assert [answer.error for answer in answers] == [None] * 8, answers
    if child == 0:
        os._exit(0)
    print(os.waitpid(child, 0)[1])
"""


def test_a_child_that_is_forked_without_descriptors_asks_all_daemons() -> None:
    with ScriptedChronyd(fault=delay(0.5)) as chronyd:
        assert output(FORK_IN_SHORTAGE, chronyd.address, str(HANG)) == "0\n"


def test_iterators_in_several_threads_get_their_own_answers() -> None:
    results: dict[int, list[int]] = {}

    def collect(number: int, address: str) -> None:
        results[number] = [stratum(a) for a in pychrony.get_many([address] * 200, "tracking")]

    with daemons(4) as found:
        threads = [
            threading.Thread(target=collect, args=(number, chronyd.address))
            for number, chronyd in enumerate(found, 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {number: [number] * 200 for number in range(1, 5)}


def test_several_iterators_may_be_open_in_one_thread() -> None:
    with daemons(2) as [one, two]:
        both = zip(
            pychrony.get_many([one.address] * 50, "tracking"),
            pychrony.get_many([two.address] * 50, "tracking"),
            strict=True,
        )
        assert [(stratum(a), stratum(b)) for a, b in both] == [(1, 2)] * 50


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of forks beside threads
def test_a_forked_child_may_drop_the_iterator_of_its_parent() -> None:
    with daemons(1, transport="unix") as [chronyd]:
        answers = pychrony.get_many([chronyd.address] * 20, "tracking")
        assert stratum(next(answers)) == 1
        child = os.fork()
        if child == 0:
            answers.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert [stratum(answer) for answer in answers] == [1] * 19


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of forks beside threads
def test_the_time_of_daemons_begins_anew_in_a_forked_child(chronyd: PrivateChronyd) -> None:
    """The child runs only when the timeouts of its parent have passed."""
    addresses = [chronyd.command_address] * 200
    answers = pychrony.get_many(addresses, "tracking", timeout=2.0)
    assert next(answers).reports
    child = os.fork()
    if child == 0:
        time.sleep(2.5)
        os._exit(min(99, sum(answer.reports is None for answer in answers)))
    assert os.waitpid(child, 0)[1] == 0
    assert all(answer.reports for answer in answers)


def test_an_answer_does_not_wait_for_further_addresses() -> None:
    taken: list[int] = []

    def slowly(address: str) -> Iterator[str]:
        for number in range(50):
            taken.append(number)
            yield address
            time.sleep(0.1)

    with daemons(1) as [chronyd]:
        with closing(pychrony.get_many(slowly(chronyd.address), "tracking")) as answers:
            assert stratum(next(answers)) == 1
        assert len(taken) < 25


def test_the_end_of_the_addresses_is_not_waited_for(tmp_path: Path) -> None:
    question = Together([TrackingStatus])
    with closing(Many([tmp_path / "missing"], question, -1)) as many:
        many.step(0)
        assert len(many.outcomes) == 1
        many.outcomes.clear()
        many.step(0)
        assert many.ended
        assert many.due() == 0


def test_the_time_of_a_daemon_begins_when_its_address_has_been_taken(get_many: GetMany) -> None:
    def slowly(address: str) -> Iterator[str]:
        for _ in range(2):
            time.sleep(2.1)
            yield address

    sources = script([ntp_source(f"192.0.2.{n}") for n in range(1, 40)])
    with ScriptedChronyd(sources, fault=delay(0.05)) as chronyd:
        answers = get_many(slowly(chronyd.address), "sources", timeout=2)
    assert [len(answer.result().sources or []) for answer in answers] == [39] * 2
