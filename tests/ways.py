"""Provides all ways to ask a chronyd for a report, with results that can be compared.

A way is a context manager. It prepares to ask, for example by opening a connection, and yields a
function that asks once for a report. That returns what was read as plain values, or a `Failure`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from io import StringIO
from typing import Any, Literal, NamedTuple, TypeAlias

from loops import BackgroundLoop
from methods import METHODS

import pychrony
from pychrony import AllReports, Answer, ChronyError, ChronyTimeoutError, aio
from pychrony._command.cli import main

OPTIONAL = ("rtcdata", "smoothing")  # their methods return `None` if chronyd has them disabled
_METHODS = METHODS | {"all": "get_all"}
_DISABLED = 10  # libchrony's code for it
LOOP = BackgroundLoop()  # one loop for all calls, which must not delay each other

Ask: TypeAlias = Callable[[str], Any]


class Failure(NamedTuple):
    """How a call failed: the class of its exception, or the exit code of the command."""

    kind: type[ChronyError] | int
    message: str


class Way(NamedTuple):
    """A way to ask at an address, within a timeout."""

    name: str
    prepare: Callable[[str, float], AbstractContextManager[Ask]]


class _Streams(threading.local):
    """Standard output and standard error of the command in this thread."""

    def __init__(self) -> None:
        self.output, self.errors = StringIO(), StringIO()


_STREAMS = _Streams()


class Stream:
    """To be put in place of `sys.stdout` or `sys.stderr`, so that threads can run the command."""

    def __init__(self, name: Literal["output", "errors"]) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(_STREAMS, self._name), name)


def _plain(read: Any) -> Any:
    """Return the attributes of a record, and of everything in it."""
    if isinstance(read, AllReports):
        missing = {report: str(error) for report, error in read.missing.items()}
        return {report: _plain(getattr(read, report)) for report in METHODS} | {"missing": missing}
    if isinstance(read, list):
        return [vars(record) for record in read]
    return None if read is None else vars(read)


def _result(call: Callable[[], Any]) -> Any:
    try:
        return _plain(LOOP.result(call()))
    except ChronyError as caught:
        error = caught
    assert error.message == str(error)
    return Failure(type(error), error.message)


@contextmanager
def _connection(module: Any, used: bool, address: str, timeout: float) -> Iterator[Ask]:
    with connected(module, address, timeout) as chrony:
        uses = (chrony.get_activity,) * 16 + (chrony.get_sources,) * 2  # for all sockets
        for method in uses if used else ():
            with suppress(ChronyTimeoutError):  # the timeout may be too short for a busy machine
                LOOP.result(method())
        yield lambda report: _result(getattr(chrony, _METHODS[report]))


@contextmanager
def connected(module: Any, address: str, timeout: float | None) -> Iterator[Any]:
    """A connection of `pychrony`, or of `pychrony.aio` on the loop."""
    chrony = module.ChronyConnection(address, timeout=timeout)
    if module is pychrony:
        with chrony:
            yield chrony
        return
    LOOP.result(chrony.__aenter__())
    try:
        yield chrony
    finally:
        LOOP.result(chrony.aclose())


@contextmanager
def _one_shot(module: Any, address: str, timeout: float) -> Iterator[Ask]:
    def ask(report: str) -> Any:
        function = getattr(module, _METHODS[report])
        return _result(lambda: function(address=address, timeout=timeout))

    yield ask


@contextmanager
def _many(module: Any, address: str, timeout: float) -> Iterator[Ask]:
    def ask(report: str) -> Any:
        names = [] if report == "all" else [report]
        answers = module.get_many([address], *names, timeout=timeout)
        [answer] = answers if module is pychrony else LOOP.all(answers)
        return _report_of(answer, address, report)

    yield lambda report: _result(partial(ask, report))


def _report_of(answer: Answer, address: str, report: str) -> Any:
    """Return or raise what the method for the report would."""
    assert answer.address == address
    reports = answer.result()
    if report == "all":
        return reports
    missing = reports.missing.get(report)
    if missing and report in OPTIONAL and missing.error_code == _DISABLED:
        return None
    return reports.require(report)  # type: ignore[call-overload]


@contextmanager
def _command(address: str, timeout: float) -> Iterator[Ask]:
    def ask(report: str) -> Any:
        _STREAMS.__init__()  # type: ignore[misc]
        code = main([report, "--json", "--address", address, "--timeout", str(timeout)])
        output, errors = _STREAMS.output.getvalue(), _STREAMS.errors.getvalue()
        if code:
            assert (output, errors[:10], errors[-1]) == ("", "pychrony: ", "\n")
            return Failure(code, errors[10:-1])
        assert errors == ""
        read = json.loads(output)
        if report == "all":
            read["missing"] = {name: entry["message"] for name, entry in read["missing"].items()}
        return read

    yield ask


BLOCKING, AWAITING = (
    [
        Way(f"{prefix}connection", partial(_connection, module, False)),
        Way(f"{prefix}used connection", partial(_connection, module, True)),
        Way(f"{prefix}one-shot", partial(_one_shot, module)),
        Way(f"{prefix}get_many", partial(_many, module)),
    ]
    for prefix, module in (("", pychrony), ("awaited ", aio))
)
BLOCKING.append(Way("command", _command))
