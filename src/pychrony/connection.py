"""Reads chronyd's reports: through a connection, or with functions that connect for a single call.

The functions take the arguments of `ChronyConnection`, raise the same exceptions, and return what
its method of the same name returns.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from ._io import blocking
from ._io.address import parse_address, parse_timeout
from ._io.conversation import Daemon, find, remaining
from ._io.questions import Answers, Fields, Question, Together, reading, single
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


class Connection:
    """What connections have in common, whether they block or are awaited."""

    _kind = "ChronyConnection"  # its name in messages
    _daemon: Daemon | None = None  # while it is open
    _stays = False  # whether it keeps to the first address that has answered

    def __init__(self, address: AnyAddress = None, *, timeout: float | None = 5.0) -> None:
        self._wanted = parse_address(address)
        self._given = None if address is None else os.fspath(address)
        self._name = str(self._given) if self._wanted.is_name else ""
        self._timeout = parse_timeout(timeout)

    def __repr__(self) -> str:
        address, transport = self.address, self.transport
        state = f"over {transport.value}" if transport else "not connected"
        return f"<{self._kind} to {address or self._given or 'the local chronyd'}, {state}>"

    @property
    def address(self) -> str | None:
        """The given address, or else where chronyd was found; `None` if not connected."""
        daemon = self._daemon
        return (self._given or daemon.address) if daemon else None

    @property
    def transport(self) -> Transport | None:
        """How chronyd is reached; `None` if not connected."""
        address = self.address
        if address is None:
            return None
        return Transport.UNIX_SOCKET if address.startswith("/") else Transport.COMMAND_PORT

    def _open(self, daemon: Daemon, close_dropped: Callable[..., None], *others: object) -> None:
        """Begin to use a daemon; raise `RuntimeError` if another thread was faster."""
        daemon.stays = self._stays
        daemon.finalizer = weakref.finalize(self, close_dropped, daemon, os.getpid(), *others)
        if self.__dict__.setdefault("_daemon", daemon) is not daemon:  # one step, so without a lock
            daemon.close("thread")
            raise self._already_open()

    def _leave(self) -> Daemon | None:
        """End the use of the daemon, and return it; `None` if it is not in use any more."""
        daemon: Daemon | None = self.__dict__.pop("_daemon", None)
        return daemon

    def _already_open(self) -> RuntimeError:
        return RuntimeError("this ChronyConnection is already open")


class ChronyConnection(Connection):
    """Reads reports from one chronyd; a context manager for any number of calls.

    Several threads can use it at the same time. It survives a restart of chronyd, and a fork, after
    which the child process opens its own sockets. It opens sockets as needed: up to 16, and one for
    each further thread that makes a call at the same time.

    `address` is `None` for the local chronyd (its Unix socket, else 127.0.0.1, else ::1), the
    absolute path of a Unix socket, or an IP address or host name with or without a port. A host
    name is looked up when the connection is opened. If there are several addresses and the first
    one is silent, a call asks the next one, too, and takes all reports from the first that answers.

    `timeout` limits each call, in seconds, however many records it reads, and the look-up of a host
    name; `None` waits for ever.

    Invalid arguments raise `TypeError` or `ValueError`. Opening the connection raises
    `ChronyLibraryError`, `ChronyConnectionError` or `ChronyPermissionError`. Each method raises
    these, `ChronyTimeoutError`, `ChronyDataError`, and `RuntimeError` outside a `with` block.
    """

    def __enter__(self) -> ChronyConnection:
        if self._daemon is not None:
            raise self._already_open()
        # drive() must not return what has sockets: an exception that interrupts it may keep its
        # result alive, and with it the sockets.
        places = blocking.drive(find(self._wanted, self._timeout))
        daemon = Daemon(places, self._timeout, self._name)
        daemon.open_first()
        self._open(daemon, Daemon.close_dropped, "thread", "use a 'with' block, or close()")
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
        daemon = self._leave()
        if daemon is not None:
            daemon.close("thread")

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
        about the same sources, unless the sources change all the time. A report is `None` if it is
        not permitted, turned off or unusable; `missing` then has the error. If chronyd cannot be
        reached, the call raises the error instead.
        """
        answers = self._ask(Together(named_models(names)))
        return gather(answers, self._given)

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
        that is its own reference does not count as synchronised. chronyd may restart meanwhile.
        `timeout` limits the whole wait, in seconds; `None` waits for ever.

        Raises `ChronyNotSynchronizedError` when the timeout has passed.
        """
        waiting, question = Waiting(max_error, timeout), single(TrackingStatus)
        while waiting.good is None:
            time.sleep(waiting.pause)
            try:
                tracking = self._ask(question, waiting.for_question(self._timeout))
            except ChronyConnectionError as error:
                waiting.take(error)
            else:
                waiting.take(tracking)
        return waiting.good

    def _ask(self, question: Question[A], timeout: int | None = None) -> A:
        daemon = self._daemon
        if daemon is None:
            raise RuntimeError("this ChronyConnection is not open: use it in a 'with' block")
        return blocking.ask(daemon, question, self._timeout if timeout is None else timeout)


class _Once(ChronyConnection):
    """A connection for one call; opening it counts towards the timeout."""

    def __enter__(self) -> ChronyConnection:
        self._start = time.monotonic_ns()
        return super().__enter__()

    def _ask(self, question: Question[A], timeout: int | None = None) -> A:
        return super()._ask(question, remaining(self._timeout, self._start, time.monotonic_ns()))


def named_models(names: Sequence[str]) -> list[type[Report]]:
    """Return the model of each report named, or all of them if none is; raise `ValueError`."""
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise ValueError(f"unknown report {unknown[0]!r}; choose from {', '.join(MODELS)}")
    return [MODELS[name] for name in dict.fromkeys(names or MODELS)]


def gather(answers: Answers, given: str | None) -> AllReports:
    """Return answers that have just arrived as `AllReports`, with the current time.

    Their address is the one that was given, or the one where chronyd was found.
    """
    now = time.time_ns()
    records = answers.records
    missing = {name: found for name, found in records.items() if isinstance(found, ChronyError)}
    values: dict[str, Any] = {
        name: found if MODELS[name]._per_source else found[0]
        for name, found in records.items()
        if not isinstance(found, ChronyError)
    }
    return AllReports(**values, missing=missing, address=given or answers.address, time_ns=now)


def get_tracking(address: AnyAddress = None, *, timeout: float | None = 5.0) -> TrackingStatus:
    """Return the state of the system clock, and the source to which it is synchronised.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_tracking()


def get_sources(address: AnyAddress = None, *, timeout: float | None = 5.0) -> list[Source]:
    """Return the state and the last sample of each source, in chronyd's order.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_sources()


def get_source_stats(
    address: AnyAddress = None, *, timeout: float | None = 5.0
) -> list[SourceStats]:
    """Return the estimated drift and offset of each source, in chronyd's order.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_source_stats()


def get_rtc_data(address: AnyAddress = None, *, timeout: float | None = 5.0) -> RTCData | None:
    """Return the state of the hardware clock; `None` if chronyd is not tracking it.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_rtc_data()


def get_select_data(address: AnyAddress = None, *, timeout: float | None = 5.0) -> list[SelectData]:
    """Return each source's role in source selection, in chronyd's order.

    By default, chronyd serves this report over its Unix socket only. The function opens a
    connection for this one call; `ChronyConnection` describes its arguments and errors.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_select_data()


def get_activity(address: AnyAddress = None, *, timeout: float | None = 5.0) -> Activity:
    """Return the number of NTP sources in each state.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_activity()


def get_auth_data(address: AnyAddress = None, *, timeout: float | None = 5.0) -> list[AuthData]:
    """Return the authentication of each NTP source, without reference clocks.

    By default, chronyd serves this report over its Unix socket only. The function opens a
    connection for this one call; `ChronyConnection` describes its arguments and errors.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_auth_data()


def get_ntp_data(address: AnyAddress = None, *, timeout: float | None = 5.0) -> list[NTPData]:
    """Return the last measurement of each NTP source, without reference clocks.

    By default, chronyd serves this report over its Unix socket only. The function opens a
    connection for this one call; `ChronyConnection` describes its arguments and errors.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_ntp_data()


def get_server_stats(address: AnyAddress = None, *, timeout: float | None = 5.0) -> ServerStats:
    """Return the number of requests that chronyd has received since it started.

    By default, chronyd serves this report over its Unix socket only. The function opens a
    connection for this one call; `ChronyConnection` describes its arguments and errors.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_server_stats()


def get_smoothing(address: AnyAddress = None, *, timeout: float | None = 5.0) -> Smoothing | None:
    """Return the state of smoothing; `None` if chronyd does not smooth the time it serves.

    The function opens a connection for this one call; `ChronyConnection` describes its arguments
    and errors.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_smoothing()


def get_all(*names: str, address: AnyAddress = None, timeout: float | None = 5.0) -> AllReports:
    """Return several reports, read together; without names, return every report.

    The function opens a connection for this one call. `ChronyConnection` describes `address`,
    `timeout` and the errors, and its method `get_all()` the names and the result.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_all(*names)


def get_report(
    name: str, address: AnyAddress = None, *, timeout: float | None = 5.0
) -> list[dict[str, ReportField]]:
    """Return any report that the loaded libchrony knows, under libchrony's own names.

    The function opens a connection for this one call. `ChronyConnection` describes `address`,
    `timeout` and the errors, and its method `get_report()` the result.
    """
    with _Once(address, timeout=timeout) as connection:
        return connection.get_report(name)
