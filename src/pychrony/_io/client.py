"""Asks one chronyd: starts a batch of the C engine, waits for it, and decodes what it read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._model.converters import nanoseconds, signed16
from .._model.decoder import Shape, layout, reader
from .._model.fields import FieldContent, FieldType, Report, ReportField
from ..exceptions import (
    ChronyConnectionError,
    ChronyDataError,
    ChronyError,
    ChronyPermissionError,
)
from ._shim import ffi, lib
from .failures import DISABLED, OFF, absurd, failure
from .library import reports

if TYPE_CHECKING:
    from ._shim import Ask, Batch, Loop

Answers = dict[str, "list[Report] | ChronyError"]
"""The records of each of several reports, or the error in their place."""
R = TypeVar("R", bound=Report)
A = TypeVar("A")

KEPT = 16
"""The most sockets that a client keeps; with more than eight, chronyd itself is the bottleneck."""
SLICE = 200_000_000
"""Nanoseconds after which a wait lets signal handlers run, and notices `close()` elsewhere."""

_LISTS = {"sources", "sourcestats", "selectdata", "authdata", "ntpdata"}
_ADDRESSED = {"authdata", "ntpdata"}
_PLACE = Struct("=iII")


def remaining(timeout: int, start: int) -> int:
    """Return what is left of a timeout that began to run at `start`, both in nanoseconds."""
    return timeout if timeout < 0 else max(0, start + timeout - time.monotonic_ns())


class Terms:
    """What all clients of a connection share, including those that are in a call."""

    def __init__(self, timeout: int) -> None:
        """Set the timeout of each call, in nanoseconds; negative for none."""
        self.timeout = timeout
        self.closed = False


class Question(Generic[A]):
    """Reports to ask for, and how to decode their answers; can be asked any number of times."""

    def __init__(self, *names: str, flags: int = 0) -> None:
        """Take libchrony's names of the reports, and flags for all of them."""
        self.names = names
        self.asked = len(names)
        self.asks = ffi.new("shim_ask[]", self.asked)
        for ask, name in zip(self.asks, names, strict=True):
            ask.report = reports()[name]
            ask.flags = flags | _flags(name)

    def answer(self, client: Client) -> A:
        """Decode the finished batch of a client, or raise its error."""
        raise NotImplementedError


class Reading(Question[list[R]]):
    """The records of one report."""

    def __init__(self, model: type[R]) -> None:
        super().__init__(model._report, flags=_joined(model))
        self._model = model

    def answer(self, client: Client) -> list[R]:
        """Return the records; an empty list if the report is turned off in chronyd."""
        ask = client.batch.asks[0]
        error = ask.error
        if not error:
            return client.records(self._model, ask)
        if error == DISABLED and self._model._report in OFF:
            return []
        raise client.failure(self._model._report, ask)


class Single(Question[R]):
    """The record of a report that always has one. It is decoded in as few steps as possible."""

    def __init__(self, model: type[R]) -> None:
        super().__init__(model._report)
        self._model = model
        self._readers = _READERS[model]

    def answer(self, client: Client) -> R:
        """Return the record."""
        shape, offset, _ = client.first_place()
        if shape < 0:
            raise client.failure(self._model._report, client.batch.asks[0])
        record: R = self._readers[shape](client.bytes, offset)
        return record


class Together(Question[Answers]):
    """Several reports at the same time."""

    def __init__(self, models: Sequence[type[Report]]) -> None:
        super().__init__(*(model._report for model in models))
        self._models = models
        for ask, model in zip(self.asks, models, strict=True):
            ask.flags |= _joined(model)

    def answer(self, client: Client) -> Answers:
        """Return the records of each report, or the error in their place."""
        answers: Answers = {}
        for number, model in enumerate(self._models):
            ask = client.batch.asks[number]
            try:
                if ask.error:
                    raise client.failure(model._report, ask)
                answers[model._report] = client.records(model, ask)
            except (ChronyPermissionError, ChronyDataError) as error:
                answers[model._report] = error
        return answers


class Fields(Question["list[dict[str, ReportField]]"]):
    """The records of any report, under libchrony's own names."""

    def __init__(self, name: str) -> None:
        """Ask for a report by libchrony's name; raise `TypeError` or `ValueError` for another."""
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        if name not in reports():
            raise ValueError(f"unknown report {name!r}; choose from {', '.join(reports())}")
        super().__init__(name, flags=lib.SHIM_NAMED)

    def answer(self, client: Client) -> list[dict[str, ReportField]]:
        """Return a dictionary for each record; an empty one for a record without fields."""
        ask = client.batch.asks[0]
        if ask.error == DISABLED:
            return []
        if ask.error:
            raise client.failure(self.names[0], ask)
        return [
            _describe(_shape(shape), client.bytes[offset : offset + size]) if shape >= 0 else {}
            for shape, offset, size in client.places(ask)
        ]


_READINGS: dict[type[Report], Reading[Any]] = {}
_SINGLES: dict[type[Report], Single[Any]] = {}


def reading(model: type[R]) -> Reading[R]:
    """Return the question for the records of one report; all calls share it."""
    return _READINGS.get(model) or _READINGS.setdefault(model, Reading(model))


def single(model: type[R]) -> Single[R]:
    """Return the question for the only record of one report; all calls share it."""
    return _SINGLES.get(model) or _SINGLES.setdefault(model, Single(model))


class Client:
    """The sockets for one chronyd, and the memory for one batch at a time.

    It closes itself when it is dropped, since an exception from a signal handler may lose it.
    """

    def __init__(
        self,
        address: str,
        terms: Terms,
        *,
        name: str = "",
        kept: int = KEPT,
        loop: Loop | None = None,
    ) -> None:
        """Open a first socket to `address`; if that is empty, libchrony chooses.

        `name` is the host name that was resolved to it, for messages. `loop` is shared with other
        clients; without it, the client creates its own.
        """
        reports()
        self.wanted = address
        self.loop = new_loop() if loop is None else loop
        self._owns_loop = loop is None
        self._client = ffi.gc(lib.shim_client_new(self.loop, kept), lib.shim_client_free)
        system = ffi.new("int[]", 1)
        error = lib.shim_open(self._client, os.fsencode(address), system)
        if error:
            label = labelled(name, address or "the local chronyd")
            raise failure("connecting to", label, address, error, system[0])
        self.address = os.fsdecode(ffi.string(lib.shim_address(self._client)))
        self.label = labelled(name, self.address)
        """What messages call this chronyd."""
        self.batch: Batch = lib.shim_batch_of(self._client)
        self.tag = self.batch.tag
        """A number that no other client of the loop has."""
        self.bytes = self._places = memoryview(b"")  # the batch's, once there are any
        self._moved = 0
        self.due = 0
        """The nanoseconds from `start()` until the next step of the loop is due."""
        self._terms = terms

    def close(self) -> None:
        """Close all sockets; the client cannot be used again."""
        ffi.release(self._client)
        if self._owns_loop:
            ffi.release(self.loop)

    def ask(self, question: Question[A], timeout: int) -> A:
        """Ask a question, wait, and return the answer."""
        asks, asked = question.asks, question.asked
        done = lib.shim_start_and_run(self._client, asks, asked, timeout, SLICE)
        if done < 0:
            raise self._not_started(-done)
        if done == 0:
            self.wait()
        return question.answer(self)

    def start(self, question: Question[Any], timeout: int) -> None:
        """Start asking, in place of a running batch; `timeout` is the rest of the call's."""
        self.due = lib.shim_start(self._client, question.asks, question.asked, timeout)
        if self.due < 0:
            raise self._not_started(-self.due)

    def _not_started(self, error: int) -> ChronyError:
        return failure("asking", self.label, self.address, error, 0)

    def wait(self) -> None:
        """Block until the batch is done, but let signal handlers run."""
        while not lib.shim_run(self.loop, SLICE):
            if self._terms.closed:
                self.stop()
                raise ChronyConnectionError._compose(
                    "asking", self.label, "closed by another thread"
                )

    def stop(self) -> None:
        """Give up the running batch."""
        lib.shim_stop(self._client)

    def records(self, model: type[R], ask: Ask) -> list[R]:
        """Decode the records of one report of the finished batch, which has no error."""
        places, readers, read = self.places(ask), _READERS[model], self.bytes
        return [readers[shape](read, offset) for shape, offset, _ in places if shape >= 0]

    def places(self, ask: Ask) -> Iterator[tuple[int, int, int]]:
        """Return shape, offset in `bytes`, and size of each record of one report."""
        if self._moved != self.batch.moved:
            self._follow()
        start = ask.first * _PLACE.size
        return _PLACE.iter_unpack(self._places[start : start + ask.records * _PLACE.size])

    def first_place(self) -> tuple[int, int, int]:
        """Return the same for the first record of the batch; its shape is negative on an error."""
        if self._moved != self.batch.moved:
            self._follow()
        return _PLACE.unpack_from(self._places)

    def _follow(self) -> None:
        """Look up where the batch's memory is now."""
        batch = self.batch
        self._places = memoryview(ffi.buffer(batch.places, batch.room * _PLACE.size))
        self.bytes = memoryview(ffi.buffer(batch.bytes, batch.size))
        self._moved = batch.moved

    def failure(self, report: str, ask: Ask) -> ChronyError:
        """Return the exception for a report that could not be read."""
        action = f"reading {report} from"
        if ask.error == lib.SHIM_ABSURD:
            return absurd(action, self.label, ask.records)
        waited = self._terms.timeout / 1e9
        code, system = ask.error, ask.system
        return failure(action, self.label, self.address, code, system, report=report, waited=waited)


def labelled(name: str, address: str) -> str:
    """Say first what was asked for."""
    return f"{name} ({address})" if name else address


def new_loop() -> Loop:
    """Return a loop that closes itself once it and its clients are dropped."""
    return ffi.gc(lib.shim_loop_new(), lib.shim_loop_free)


def _flags(name: str) -> int:
    """Return what the engine must know about a report."""
    flags = lib.SHIM_SOURCES if name in _LISTS else 0
    flags |= lib.SHIM_ADDRESSED if name in _ADDRESSED else 0
    return flags | (lib.SHIM_ADDRESSES if name == "sourcestats" else 0)


def _joined(model: type[Report]) -> int:
    return lib.SHIM_JOINED if model._joined else 0


class _Readers(dict[int, Callable[[Any, int], Any]]):
    """For each shape, the function that builds a model from its records; generated on first use."""

    def __init__(self, model: type[Report]) -> None:
        super().__init__()
        self._model = model

    def __missing__(self, shape: int) -> Callable[[Any, int], Any]:
        self[shape] = read = reader(self._model, _shape(shape))
        return read


class _AllReaders(dict[type[Report], _Readers]):
    """The readers of each model, added on first use."""

    def __missing__(self, model: type[Report]) -> _Readers:
        self[model] = readers = _Readers(model)
        return readers


_READERS = _AllReaders()


def _shape(number: int) -> Shape:
    shape = lib.shim_get_shape(number)
    fields = [shape.fields[i] for i in range(shape.count)]
    return Shape(
        tuple(ffi.string(field.name).decode() for field in fields),
        tuple(FieldType(field.type) for field in fields),
        tuple(FieldContent(field.content) for field in fields),
    )


def _describe(shape: Shape, record: memoryview) -> dict[str, ReportField]:
    """Return the fields of a record under libchrony's own names."""
    struct, places = layout(shape)
    raw = struct.unpack_from(record)
    texts = bytes(record[struct.size :]).decode().split("\0")
    described = {}
    for name, kind, content, text in zip(*shape, texts, strict=False):
        values = [raw[place] for place in places[name]]
        value: int | float | str | bool = values[0] if values else 0
        if kind is FieldType.TIMESPEC:
            value = nanoseconds(*values)
        elif kind is FieldType.INTEGER:
            value = signed16(values[0])
        elif kind is FieldType.STRING:
            value = values[0].decode()
            content = content if value else FieldContent.NONE
        elif content is FieldContent.BOOLEAN and values[0] <= 1:
            value = bool(values[0])
        described[name] = ReportField(value, kind, content, tuple(text.split("\n")[:-1]))
    return described
