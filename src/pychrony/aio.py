"""Reads chronyd's reports from asyncio programs, with the standard event loop or uvloop.

Each name has the arguments, the result and the errors of the same name in `pychrony`. Nothing
blocks the event loop. No thread is started, except to look up a host name. A cancelled call ends
at once and leaves no socket behind, and its connection remains usable.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import closing, suppress
from types import FunctionType, TracebackType
from typing import Any, TypeVar
from weakref import ref

from . import connection
from ._io.address import parse_timeout
from ._io.conversation import Daemon, remaining
from ._io.events import Calls, running_loop, wait_for
from ._io.many import Many
from ._io.questions import Fields, Question, Together, reading, single
from ._waiting import Waiting
from .connection import AnyAddress, Connection, gather, named_models
from .exceptions import ChronyConnectionError
from .many import answer_of, check
from .models import (
    Activity,
    AllReports,
    Answer,
    AuthData,
    NTPData,
    ReportField,
    RTCData,
    SelectData,
    ServerStats,
    Smoothing,
    Source,
    SourceStats,
    TrackingStatus,
)

__all__ = [
    "ChronyConnection",
    "get_activity",
    "get_all",
    "get_auth_data",
    "get_many",
    "get_ntp_data",
    "get_report",
    "get_rtc_data",
    "get_select_data",
    "get_server_stats",
    "get_smoothing",
    "get_source_stats",
    "get_sources",
    "get_tracking",
]

A = TypeVar("A")


class ChronyConnection(Connection):
    """Reads reports from one chronyd; an asynchronous context manager for any number of calls.

    Several tasks can use it at the same time; it serves 16 of them at once, and the others wait.
    It belongs to the event loop in which it was opened; once closed, it can be opened again in
    another. It survives a restart of chronyd.

    Arguments, results and errors are those of `pychrony.ChronyConnection`. Methods raise
    `RuntimeError` outside an `async with` block, and in another event loop.
    """

    _kind = "pychrony.aio.ChronyConnection"

    async def __aenter__(self) -> ChronyConnection:
        if self._daemon is not None:
            raise self._already_open()
        calls = Calls(running_loop())
        try:
            await calls.connect(self._wanted, self._timeout, self._name)
            self._open(calls.daemon, _close_dropped, ref(calls))
        except BaseException:
            calls.leave()
            raise
        self._calls = calls
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    async def aclose(self) -> None:
        """Close the connection. Calls in progress in other tasks end with an error.

        Closing it again does nothing.
        """
        self._close()

    def _close(self) -> None:
        if self._daemon is None:
            return
        calls = self._calls
        if not calls.events.is_closed():
            calls.check()
        self._leave()
        calls.close()

    async def get_tracking(self) -> TrackingStatus:
        return await self._ask(single(TrackingStatus))

    async def get_sources(self) -> list[Source]:
        return await self._ask(reading(Source))

    async def get_source_stats(self) -> list[SourceStats]:
        return await self._ask(reading(SourceStats))

    async def get_rtc_data(self) -> RTCData | None:
        records = await self._ask(reading(RTCData))
        return records[0] if records else None

    async def get_select_data(self) -> list[SelectData]:
        return await self._ask(reading(SelectData))

    async def get_activity(self) -> Activity:
        return await self._ask(single(Activity))

    async def get_auth_data(self) -> list[AuthData]:
        return await self._ask(reading(AuthData))

    async def get_ntp_data(self) -> list[NTPData]:
        return await self._ask(reading(NTPData))

    async def get_server_stats(self) -> ServerStats:
        return await self._ask(single(ServerStats))

    async def get_smoothing(self) -> Smoothing | None:
        records = await self._ask(reading(Smoothing))
        return records[0] if records else None

    async def get_all(self, *names: str) -> AllReports:
        answers = await self._ask(Together(named_models(names)))
        return gather(answers, self._given)

    async def get_report(self, name: str) -> list[dict[str, ReportField]]:
        return await self._ask(Fields(name))

    async def wait_synchronized(
        self, *, max_error: float | None = None, timeout: float | None = 60.0
    ) -> TrackingStatus:
        waiting, question = Waiting(max_error, timeout), single(TrackingStatus)
        while waiting.good is None:
            await asyncio.sleep(waiting.pause)
            try:
                tracking = await self._ask(question, waiting.for_question(self._timeout))
            except ChronyConnectionError as error:
                waiting.take(error)
            else:
                waiting.take(tracking)
        return waiting.good

    async def _ask(self, question: Question[A], timeout: int | None = None) -> A:
        if self._daemon is None:
            raise RuntimeError("this ChronyConnection is not open: use it in an 'async with' block")
        return await self._calls.ask(question, self._timeout if timeout is None else timeout)


class _Once(ChronyConnection):
    """A connection for one call; opening it counts towards the timeout."""

    async def __aenter__(self) -> ChronyConnection:
        self._start = time.monotonic_ns()
        return await super().__aenter__()

    async def _ask(self, question: Question[A], timeout: int | None = None) -> A:
        left = remaining(self._timeout, self._start, time.monotonic_ns())
        return await super()._ask(question, left)


def _close_dropped(daemon: Daemon, process: int, reference: ref[Calls]) -> None:
    """Close a connection that was dropped, or is still open at the end of the process.

    The reference is weak, since the connection belongs to calls that a closed event loop has left
    unfinished.
    """
    calls = reference()
    if calls is not None and os.getpid() == process:
        with suppress(RuntimeError):  # a closed event loop watches nothing
            calls.events.call_soon_threadsafe(calls.leave)
    daemon.close_dropped(process, "task", "use an 'async with' block, or aclose()")


async def get_tracking(
    address: AnyAddress = None, *, timeout: float | None = 5.0
) -> TrackingStatus:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_tracking()


async def get_sources(address: AnyAddress = None, *, timeout: float | None = 5.0) -> list[Source]:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_sources()


async def get_source_stats(
    address: AnyAddress = None, *, timeout: float | None = 5.0
) -> list[SourceStats]:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_source_stats()


async def get_rtc_data(
    address: AnyAddress = None, *, timeout: float | None = 5.0
) -> RTCData | None:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_rtc_data()


async def get_select_data(
    address: AnyAddress = None, *, timeout: float | None = 5.0
) -> list[SelectData]:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_select_data()


async def get_activity(address: AnyAddress = None, *, timeout: float | None = 5.0) -> Activity:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_activity()


async def get_auth_data(
    address: AnyAddress = None, *, timeout: float | None = 5.0
) -> list[AuthData]:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_auth_data()


async def get_ntp_data(address: AnyAddress = None, *, timeout: float | None = 5.0) -> list[NTPData]:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_ntp_data()


async def get_server_stats(
    address: AnyAddress = None, *, timeout: float | None = 5.0
) -> ServerStats:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_server_stats()


async def get_smoothing(
    address: AnyAddress = None, *, timeout: float | None = 5.0
) -> Smoothing | None:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_smoothing()


async def get_all(
    *names: str, address: AnyAddress = None, timeout: float | None = 5.0
) -> AllReports:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_all(*names)


async def get_report(
    name: str, address: AnyAddress = None, *, timeout: float | None = 5.0
) -> list[dict[str, ReportField]]:
    async with _Once(address, timeout=timeout) as connection:
        return await connection.get_report(name)


def get_many(
    addresses: Iterable[str | os.PathLike[str]], *names: str, timeout: float | None = 5.0
) -> AsyncGenerator[Answer, None]:
    """Read reports from any number of daemons at once; yield each `Answer` as it arrives.

    This is `pychrony.get_many()` for `async for`. The event loop resolves host names. If you leave
    the loop early, the event loop closes the iterator later; call `aclose()` to close it at once.
    """
    question, nanoseconds = Together(named_models(names)), parse_timeout(timeout)
    return _answers(check(addresses), question, nanoseconds)


async def _answers(
    addresses: Iterable[object], question: Together, timeout: int
) -> AsyncGenerator[Answer, None]:
    with closing(Many(addresses, question, timeout)) as many:
        while not many.ended:
            many.step(0)
            await wait_for(many.loop, many.due())
            with many.pause():
                while many.outcomes:
                    yield answer_of(*many.outcomes.popleft())


def _describe(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Take the descriptions from the blocking functions or methods of the same names."""
    for name in ours.keys() & theirs.keys():
        if isinstance(ours[name], FunctionType) and name.startswith(("get_", "wait_")):
            ours[name].__doc__ = ours[name].__doc__ or theirs[name].__doc__


_describe(globals(), vars(connection))
_describe(vars(ChronyConnection), vars(connection.ChronyConnection))
