"""Reads chronyd's reports: through a connection, or with functions that connect for a single call.

The functions take the arguments of `ChronyConnection`, raise the same exceptions, and return what
its method of the same name returns.
"""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from ._io.address import parse_address, parse_timeout
from ._io.client import Fields, Question, Together, reading, single
from ._io.pool import Pool
from ._model.fields import Report
from ._waiting import Waiting
from .exceptions import ChronyConnectionError, ChronyError
from .models import (
    MODELS,
    Activity,
    AllReports,
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
    Transport,
)

__all__ = [
    "ChronyConnection",
    "get_activity",
    "get_all",
    "get_auth_data",
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
AnyAddress = str | os.PathLike[str] | None


class ChronyConnection:
    """Reads reports from one chronyd; a context manager for any number of calls.

    Several threads can use it at the same time. It survives a restart of chronyd, and a fork, after
    which the child process opens its own sockets. It opens sockets as needed: up to 16, and one for
    each further thread that makes a call at the same time.

    `address` is `None` for the local chronyd (its Unix socket, else 127.0.0.1, else ::1), the
    absolute path of a Unix socket, or an IP address or host name with or without a port. A host
    name is resolved when the connection is opened, which is not limited by the timeout.

    `timeout` limits each call, in seconds, however many records it reads; `None` waits for ever.

    Invalid arguments raise `TypeError` or `ValueError`. Opening the connection raises
    `ChronyLibraryError`, `ChronyConnectionError` or `ChronyPermissionError`. Each method raises
    these, `ChronyTimeoutError`, `ChronyDataError`, and `RuntimeError` outside a `with` block.
    """

    def __init__(self, address: AnyAddress = None, *, timeout: float | None = 5.0) -> None:
        self._wanted = parse_address(address)
        self._given = None if address is None else os.fspath(address)
        self._timeout = parse_timeout(timeout)
        self._pool: Pool | None = None

    def __repr__(self) -> str:
        transport = self.transport
        state = f"over {transport.value}" if transport else "not connected"
        address = self.address or self._given or "the local chronyd"
        return f"<ChronyConnection to {address}, {state}>"

    def __enter__(self) -> ChronyConnection:
        if self._pool is not None:
            raise RuntimeError("this ChronyConnection is already open")
        name = self._given if self._wanted.is_name else None
        pool = Pool(self._wanted.candidates(), self._timeout, name)
        self._finalizer = weakref.finalize(self, _close_dropped, pool, os.getpid())
        self._pool = pool
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Calls in progress in other threads end with an error.

        Closing it again does nothing.
        """
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            self._finalizer.detach()

    @property
    def address(self) -> str | None:
        """The address as given, or where chronyd was found if none was; `None` if not connected."""
        pool = self._pool
        return (self._given or pool.address) if pool else None

    @property
    def transport(self) -> Transport | None:
        """How chronyd is reached; `None` if not connected."""
        return transport_to(self.address)

    def get_tracking(self) -> TrackingStatus:
        """Return the state of the system clock, and the source to which it is synchronised."""
        return self._ask(single(TrackingStatus))

    def get_sources(self) -> list[Source]:
        """Return the state and the last sample of each source, in chronyd's order."""
        return self._ask(reading(Source))

    def get_source_stats(self) -> list[SourceStats]:
        """Return the estimated drift and offset of each source, in chronyd's order."""
        return self._ask(reading(SourceStats))

    def get_rtc_data(self) -> RTCData | None:
        """Return the state of the hardware clock; `None` if chronyd is not tracking it."""
        records = self._ask(reading(RTCData))
        return records[0] if records else None

    def get_select_data(self) -> list[SelectData]:
        """Return each source's role in source selection, in chronyd's order.

        By default, chronyd serves this report over its Unix socket only.
        """
        return self._ask(reading(SelectData))

    def get_activity(self) -> Activity:
        """Return the number of NTP sources in each state."""
        return self._ask(single(Activity))

    def get_auth_data(self) -> list[AuthData]:
        """Return the authentication of each NTP source, without reference clocks.

        By default, chronyd serves this report over its Unix socket only.
        """
        return self._ask(reading(AuthData))

    def get_ntp_data(self) -> list[NTPData]:
        """Return the last measurement of each NTP source, without reference clocks.

        By default, chronyd serves this report over its Unix socket only.
        """
        return self._ask(reading(NTPData))

    def get_server_stats(self) -> ServerStats:
        """Return the number of requests that chronyd has received since it started.

        By default, chronyd serves this report over its Unix socket only.
        """
        return self._ask(single(ServerStats))

    def get_smoothing(self) -> Smoothing | None:
        """Return the state of smoothing; `None` if chronyd does not smooth the time it serves."""
        records = self._ask(reading(Smoothing))
        return records[0] if records else None

    def get_all(self, *names: str) -> AllReports:
        """Return several reports, read together; without names, return every report.

        The names are libchrony's, such as "sourcestats"; others raise `ValueError`. All lists are
        about the same sources, unless the sources change all the time. A report that is `None` is
        not permitted, turned off or unusable; `missing` has the error. If chronyd cannot be
        reached, the call raises the error instead.
        """
        models = named_models(names)
        answers = self._ask(Together(models))
        return gather(answers, self.address or "")  # closed by another thread meanwhile

    def get_report(self, name: str) -> list[dict[str, ReportField]]:
        """Return any report that the loaded libchrony knows, under libchrony's own names.

        The list has a dictionary for each record. For a report about sources, a source without such
        a record has an empty dictionary. The list is empty if the report is turned off in chronyd.
        """
        return self._ask(Fields(name))

    def wait_synchronized(
        self, *, max_error: float | None = None, timeout: float | None = 60.0
    ) -> TrackingStatus:
        """Wait until the clock is synchronised to a source, and return the report that says so.

        With `max_error`, it also waits until `error_bound` is at most that many seconds. A chronyd
        that is its own reference is not synchronised to a source. chronyd may restart meanwhile.
        `timeout` limits the whole wait, in seconds; `None` waits for ever.

        Raises `ChronyNotSynchronizedError` when the timeout has passed.
        """
        waiting, question = Waiting(max_error, timeout), single(TrackingStatus)
        while True:
            answer: TrackingStatus | ChronyConnectionError
            try:
                answer = self._ask(question, waiting.for_question(self._timeout))
            except ChronyConnectionError as error:
                answer = error
            pause = waiting.pause_after(answer)
            if pause is None and not isinstance(answer, ChronyConnectionError):
                return answer
            time.sleep(pause or 0)

    def _ask(self, question: Question[A], timeout: int | None = None) -> A:
        pool = self._pool
        if pool is None:
            raise RuntimeError("this ChronyConnection is not open: use it in a 'with' block")
        return pool.ask(question, self._timeout if timeout is None else timeout)


def named_models(names: Sequence[str]) -> list[type[Report]]:
    """Return the model of each report named, or all of them if none is; raise `ValueError`."""
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise ValueError(f"unknown report {unknown[0]!r}; choose from {', '.join(MODELS)}")
    return [MODELS[name] for name in dict.fromkeys(names or MODELS)]


def transport_to(address: str | None) -> Transport | None:
    """Return how an address is reached; `None` if not connected."""
    if address is None:
        return None
    return Transport.UNIX_SOCKET if address.startswith("/") else Transport.COMMAND_PORT


def gather(answers: Mapping[str, list[Report] | ChronyError], address: str) -> AllReports:
    """Return answers that have just arrived as `AllReports`, with the current time."""
    now = time.time_ns()
    missing = {name: answer for name, answer in answers.items() if isinstance(answer, ChronyError)}
    values: dict[str, Any] = {
        name: answer if MODELS[name]._per_source else answer[0]
        for name, answer in answers.items()
        if not isinstance(answer, ChronyError)
    }
    return AllReports(**values, missing=missing, address=address, time_ns=now)


def _close_dropped(pool: Pool, process: int) -> None:
    """Close a connection that was dropped, or is still open at the end of the process."""
    pool.close()
    if os.getpid() == process:  # a child has nothing to close
        warnings.warn(
            f"unclosed ChronyConnection to {pool.label}: use a 'with' block, or close()",
            ResourceWarning,
            stacklevel=2,
        )


def get_tracking(address: AnyAddress = None, *, timeout: float | None = 5.0) -> TrackingStatus:
    """Return the state of the system clock, and the source to which it is synchronised.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_tracking()


def get_sources(address: AnyAddress = None, *, timeout: float | None = 5.0) -> list[Source]:
    """Return the state and the last sample of each source, in chronyd's order.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_sources()


def get_source_stats(
    address: AnyAddress = None, *, timeout: float | None = 5.0
) -> list[SourceStats]:
    """Return the estimated drift and offset of each source, in chronyd's order.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_source_stats()


def get_rtc_data(address: AnyAddress = None, *, timeout: float | None = 5.0) -> RTCData | None:
    """Return the state of the hardware clock; `None` if chronyd is not tracking it.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_rtc_data()


def get_select_data(address: AnyAddress = None, *, timeout: float | None = 5.0) -> list[SelectData]:
    """Return each source's role in source selection, in chronyd's order.

    By default, chronyd serves this report over its Unix socket only. The function opens a
    connection for this one call; `ChronyConnection` describes its arguments and errors.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_select_data()


def get_activity(address: AnyAddress = None, *, timeout: float | None = 5.0) -> Activity:
    """Return the number of NTP sources in each state.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_activity()


def get_auth_data(address: AnyAddress = None, *, timeout: float | None = 5.0) -> list[AuthData]:
    """Return the authentication of each NTP source, without reference clocks.

    By default, chronyd serves this report over its Unix socket only. The function opens a
    connection for this one call; `ChronyConnection` describes its arguments and errors.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_auth_data()


def get_ntp_data(address: AnyAddress = None, *, timeout: float | None = 5.0) -> list[NTPData]:
    """Return the last measurement of each NTP source, without reference clocks.

    By default, chronyd serves this report over its Unix socket only. The function opens a
    connection for this one call; `ChronyConnection` describes its arguments and errors.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_ntp_data()


def get_server_stats(address: AnyAddress = None, *, timeout: float | None = 5.0) -> ServerStats:
    """Return the number of requests that chronyd has received since it started.

    By default, chronyd serves this report over its Unix socket only. The function opens a
    connection for this one call; `ChronyConnection` describes its arguments and errors.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_server_stats()


def get_smoothing(address: AnyAddress = None, *, timeout: float | None = 5.0) -> Smoothing | None:
    """Return the state of smoothing; `None` if chronyd does not smooth the time it serves.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_smoothing()


def get_all(*names: str, address: AnyAddress = None, timeout: float | None = 5.0) -> AllReports:
    """Return several reports, read together; without names, return every report.

    The function opens a connection for this one call. `ChronyConnection` describes `address`,
    `timeout` and the errors, and its method `get_all()` the names and the result.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_all(*names)


def get_report(
    name: str, address: AnyAddress = None, *, timeout: float | None = 5.0
) -> list[dict[str, ReportField]]:
    """Return any report that the loaded libchrony knows, under libchrony's own names.

    The function opens a connection for this one call. `ChronyConnection` describes `address`,
    `timeout` and the errors, and its method `get_report()` the result.
    """
    with ChronyConnection(address, timeout=timeout) as connection:
        return connection.get_report(name)
