"""Tests `pychrony.aio` on each kind of event loop."""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import threading
import time
import weakref
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from limits import HANG, fds, nothing_left, remains
from loops import LOOPS, each_kind, each_loop, run
from methods import METHODS
from programs import output
from scripted import ScriptedChronyd, Transport, script
from scripted.faults import at, delay, drop, honest, restarts
from scripted.wire import Command, ntp_source, source, tracking
from surroundings import both

import pychrony
from pychrony import ChronyConnectionError, ChronyTimeoutError, aio
from pychrony._io._shim import lib
from pychrony.testing import PrivateChronyd

MANY = script([ntp_source(f"192.0.2.{n}", source(reachability=n)) for n in range(1, 10)])


# The same names, with the same meaning.


def test_the_module_has_the_names_of_the_package_that_ask() -> None:
    asking = {name for name in dir(pychrony) if name.startswith("get_")}
    assert asking | {"ChronyConnection"} == set(aio.__all__)


@pytest.mark.parametrize("name", sorted({*METHODS.values(), "get_all", "get_report"}))
def test_functions_and_methods_are_described_alike(name: str) -> None:
    described = [getattr(place, name).__doc__ for place in (aio, aio.ChronyConnection)]
    assert described == [
        getattr(place, name).__doc__ for place in (pychrony, pychrony.ChronyConnection)
    ]
    assert len({text.partition("\n")[0] for text in described}) == 1


def test_signatures_are_those_of_the_blocking_names() -> None:
    for name in aio.__all__:
        if name != "ChronyConnection":
            ours, theirs = getattr(aio, name), getattr(pychrony, name)
            assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    ours, theirs = aio.ChronyConnection, pychrony.ChronyConnection
    assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    methods = {name for name in vars(theirs) if not name.startswith("_")} - {"close"}
    assert methods | {"aclose"} == {name for name in vars(ours) if not name.startswith("_")}
    for name in methods - {"address", "transport"}:
        assert inspect.iscoroutinefunction(getattr(ours, name))
        assert (
            inspect.signature(getattr(ours, name)).parameters
            == inspect.signature(getattr(theirs, name)).parameters
        )


@each_loop
async def test_each_function_opens_asks_and_closes(scripted: ScriptedChronyd) -> None:
    await asyncio.sleep(0)
    where: dict[str, Any] = {"address": scripted.address, "timeout": HANG}
    with nothing_left(scripted.address):
        for method in (*METHODS.values(), "get_all"):
            assert await getattr(aio, method)(**where) == getattr(pychrony, method)(**where)
        described = await aio.get_report("authdata", **where)
        assert described == pychrony.get_report("authdata", **where)


@each_loop
async def test_mistakes_are_told(scripted: ScriptedChronyd) -> None:
    connection = aio.ChronyConnection(scripted.address)
    for method in METHODS.values():
        with pytest.raises(RuntimeError, match="'async with' block"):
            await getattr(connection, method)()
    for _ in range(2):
        async with connection as entered:
            assert entered is connection
            with pytest.raises(RuntimeError, match="already open"):
                await connection.__aenter__()
            with pytest.raises(ValueError, match="'source'"):
                await connection.get_all("source")
            with pytest.raises(ValueError, match="'source'"):
                await connection.get_report("source")
            await connection.get_tracking()
        with pytest.raises(RuntimeError, match="'async with' block"):
            await connection.get_tracking()


@each_loop
async def test_a_connection_belongs_to_the_loop_that_opened_it(scripted: ScriptedChronyd) -> None:
    async with aio.ChronyConnection(scripted.address) as connection:
        with pytest.raises(RuntimeError, match="opened in another event loop"):
            await asyncio.to_thread(asyncio.run, connection.get_tracking())
        assert (await connection.get_tracking()).stratum == 3


# The loop goes on.


@each_loop
async def test_other_tasks_run_during_each_call(chronyd: PrivateChronyd) -> None:
    """Even if the answer is there at once."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with aio.ChronyConnection(chronyd.address, timeout=HANG) as connection:
        counting = asyncio.ensure_future(count())
        for _ in range(500):
            before = turns
            await connection.get_tracking()
            assert turns > before
        counting.cancel()


@each_loop
async def test_other_tasks_run_between_the_sockets_that_many_calls_open() -> None:
    """Opening one can take milliseconds. No call gives its socket back before all have one.

    Over UDP, overdue requests could open further sockets.
    """
    counts: list[int] = []

    async def count() -> None:
        while True:
            counts.append(fds())
            await asyncio.sleep(0)

    with ScriptedChronyd(transport="unix", fault=delay(0.2)) as chronyd:
        async with aio.ChronyConnection(chronyd.address, timeout=HANG) as connection:
            counting = asyncio.ensure_future(count())
            await asyncio.gather(*(connection.get_tracking() for _ in range(16)))
            counting.cancel()
    opened = [after - before for before, after in pairwise(counts)]
    assert max(opened) == 2  # a socket, and /dev/urandom


@each_loop
async def test_no_threads_are_started_but_for_names(scripted: ScriptedChronyd) -> None:
    threads = threading.active_count()
    async with aio.ChronyConnection(scripted.address) as connection:
        await asyncio.gather(*(connection.get_sources() for _ in range(50)))
    assert threading.active_count() == threads


# Several tasks share a connection.


@each_loop
@both
async def test_tasks_share_a_connection_and_each_gets_what_it_asked_for(
    transport: Transport,
) -> None:
    with ScriptedChronyd(MANY, transport) as chronyd:
        async with aio.ChronyConnection(chronyd.address, timeout=HANG) as connection:
            where = {"address": chronyd.address, "timeout": HANG}
            expected = {m: getattr(pychrony, m)(**where) for m in (*METHODS.values(), "get_all")}
            methods = [*expected] * 5
            random.Random(1).shuffle(methods)
            answers = await asyncio.gather(*(getattr(connection, m)() for m in methods))
            assert all(a == expected[m] for m, a in zip(methods, answers, strict=True))
            assert await connection.get_tracking() == expected["get_tracking"]


@each_loop
async def test_a_thousand_tasks_share_a_connection() -> None:
    with ScriptedChronyd() as chronyd:
        async with aio.ChronyConnection(chronyd.address, timeout=HANG) as connection:
            answers = await asyncio.gather(*(connection.get_tracking() for _ in range(1000)))
            assert {answer.stratum for answer in answers} == {3}
            assert fds() < 500


@each_loop
async def test_tasks_that_share_a_silent_connection_end_at_their_timeout() -> None:
    start = time.monotonic()
    with ScriptedChronyd(fault=drop) as chronyd:
        async with aio.ChronyConnection(chronyd.address, timeout=0.5) as connection:
            calls = [connection.get_tracking() for _ in range(100)]
            results = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - start < HANG / 4
    assert {type(result) for result in results} == {ChronyTimeoutError}


@each_loop
@both
async def test_tasks_survive_a_restart_together(transport: Transport) -> None:
    with ScriptedChronyd(MANY, transport) as chronyd:
        async with aio.ChronyConnection(chronyd.address, timeout=HANG) as connection:
            await connection.get_sources()
            for number in range(1, 4):
                chronyd.fault = at({number}, restarts(chronyd))
                lists = await asyncio.gather(*(connection.get_sources() for _ in range(5)))
                assert [len(sources) for sources in lists] == [9] * 5


# Cancelling ends a call at once, leaves nothing behind, and the next call is right.


@each_loop
@both
@pytest.mark.parametrize("method", ["get_tracking", "get_sources", "get_ntp_data", "get_all"])
async def test_a_cancelled_call_leaves_the_connection_as_it_was(
    transport: Transport, method: str
) -> None:
    with ScriptedChronyd(MANY, transport) as chronyd:
        async with aio.ChronyConnection(chronyd.address, timeout=HANG) as connection:
            right = await getattr(connection, method)()
            before = fds()
            for answers in range(12):
                chronyd.fault = at(range(answers, 10_000), drop)
                task = asyncio.ensure_future(getattr(connection, method)())
                await asyncio.sleep(0.02)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or same(task.result(), right)
                chronyd.fault = honest
                assert same(await getattr(connection, method)(), right)
            assert fds() <= before + 2 * 16


def same(answer: Any, other: Any) -> bool:
    if isinstance(answer, pychrony.AllReports):
        answer, other = (answer.ntpdata, answer.tracking), (other.ntpdata, other.tracking)
    return bool(answer == other)


@each_loop
async def test_late_answers_of_a_cancelled_call_are_not_taken_for_the_next() -> None:
    with ScriptedChronyd() as chronyd:
        async with aio.ChronyConnection(chronyd.address, timeout=HANG) as connection:
            for stratum in range(1, 15):
                chronyd.script = script(None, tracking(stratum=stratum))
                chronyd.fault = delay(0.03)
                task = asyncio.ensure_future(connection.get_tracking())
                await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.wait([task])
                chronyd.script = script(None, tracking(stratum=15))
                assert (await connection.get_tracking()).stratum == 15


@each_loop
@both
async def test_closing_many_connections_leaves_only_those_still_open(transport: Transport) -> None:
    with ScriptedChronyd(MANY, transport) as chronyd:
        async with aio.ChronyConnection(chronyd.address, timeout=HANG) as kept:
            right = await kept.get_sources()
            before = fds()
            for _ in range(2):
                others = [aio.ChronyConnection(chronyd.address, timeout=HANG) for _ in range(20)]
                for other in others:
                    await other.__aenter__()
                assert await asyncio.gather(*(other.get_sources() for other in others)) == 20 * [
                    right
                ]
                for other in others:
                    await other.aclose()
                assert await aio.get_sources(chronyd.address, timeout=HANG) == right
                await asyncio.sleep(0)
                assert fds() == before
            assert len(remains(chronyd.address)) == (transport == "unix")
            assert await kept.get_sources() == right


@each_loop
@both
async def test_calls_cancelled_at_any_step_leave_nothing_behind(transport: Transport) -> None:
    """Cancel after some turns of the loop, whatever the calls are doing then."""

    with ScriptedChronyd(MANY, transport) as chronyd:
        await asyncio.sleep(0)
        for turns in (*range(8), *range(8, 60, 6)):
            with nothing_left(chronyd.address):
                tasks = [
                    asyncio.ensure_future(aio.get_all(address=chronyd.address, timeout=HANG))
                    for _ in range(10)
                ]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                assert all(task.cancelled() or task.exception() is None for task in tasks)


@each_loop
@both
async def test_the_event_loop_keeps_its_descriptor_while_no_socket_is_open(
    transport: Transport,
) -> None:
    """It must not keep the old descriptor, and notice answers only when its timer expires."""

    with ScriptedChronyd(MANY, transport) as chronyd:
        async with aio.ChronyConnection(chronyd.address, timeout=HANG) as connection:
            descriptor = lib.shim_loop_fd(connection._calls.loop)
            chronyd.stop()
            with pytest.raises(ChronyConnectionError):
                await asyncio.gather(*(connection.get_tracking() for _ in range(3)))
            with suppress(ChronyConnectionError):
                await aio.get_tracking(chronyd.address)
            gc.collect()
            assert lib.shim_loop_fd(connection._calls.loop) == descriptor
            chronyd.start()
            await connection.get_tracking()


@each_loop
async def test_closing_ends_the_calls_of_other_tasks() -> None:
    with ScriptedChronyd(fault=drop) as chronyd:
        connection = aio.ChronyConnection(chronyd.address, timeout=None)
        await connection.__aenter__()
        tasks = [asyncio.ensure_future(connection.get_tracking()) for _ in range(40)]
        await asyncio.sleep(0.05)
        await connection.aclose()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), HANG)
        assert {type(result) for result in results} == {ChronyConnectionError}
        assert all("closed" in str(result) for result in results)


# What is dropped or forgotten.


@each_loop
async def test_a_connection_that_is_dropped_warns_and_leaves_nothing_behind(
    scripted: ScriptedChronyd,
) -> None:
    await asyncio.sleep(0)
    with nothing_left(scripted.address):
        connection = aio.ChronyConnection(scripted.address)
        await connection.__aenter__()
        await connection.get_sources()
        with pytest.warns(ResourceWarning, match="unclosed"):
            del connection
        for _ in range(3):
            await asyncio.sleep(0)


@each_kind
def test_a_loop_that_is_closed_before_its_connection_is_no_harm(
    kind: str, scripted: ScriptedChronyd
) -> None:
    async def forget() -> aio.ChronyConnection:
        connection = aio.ChronyConnection(scripted.address)
        await connection.__aenter__()
        await connection.get_tracking()
        return connection

    before = fds()
    connection = run(kind, forget())

    async def reuse() -> None:
        with pytest.raises(RuntimeError, match="event loop"):
            await connection.get_tracking()
        await connection.aclose()
        async with connection:
            assert (await connection.get_tracking()).stratum == 3

    run(kind, reuse())
    assert fds() == before


@each_kind
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("dropped", ["before", "after", "closed"])
@pytest.mark.parametrize("unfinished", [0, 1, 20])
def test_a_loop_that_is_closed_with_a_dropped_connection_is_freed(
    kind: str, dropped: str, unfinished: int, scripted: ScriptedChronyd
) -> None:
    async def forget() -> aio.ChronyConnection:
        connection = aio.ChronyConnection(scripted.address)
        await connection.__aenter__()
        await connection.get_tracking()
        for _ in range(unfinished):
            asyncio.ensure_future(connection.get_all())  # noqa: RUF006
        await asyncio.sleep(0)
        return connection

    gc.collect()
    before, loops = fds(), []
    for _ in range(10):
        loop = LOOPS[kind]()
        opened = [loop.run_until_complete(forget())]
        if dropped == "before":
            opened.clear()
        loop.close()
        if dropped == "closed":
            asyncio.run(opened[0].aclose())
        opened.clear()
        loops.append(weakref.ref(loop))
        del loop
    gc.collect()
    assert (fds(), [loop() for loop in loops]) == (before, [None] * 10)


def test_importing_the_package_imports_no_asyncio() -> None:
    code = """
        import sys
        import pychrony
        pychrony.get_tracking, pychrony.get_many, pychrony.Answer
        print("asyncio" in sys.modules)
    """
    assert output(code) == "False\n"


@each_loop
async def test_a_command_that_never_answers_does_not_hold_up_the_others() -> None:
    with ScriptedChronyd({**MANY, Command.SERVERSTATS: None}) as chronyd:
        async with aio.ChronyConnection(chronyd.address, timeout=2.0) as connection:
            stuck = asyncio.ensure_future(connection.get_server_stats())
            for _ in range(20):
                assert len(await connection.get_sources()) == 9
            assert not stuck.done()
            with pytest.raises(ChronyTimeoutError):
                await stuck
