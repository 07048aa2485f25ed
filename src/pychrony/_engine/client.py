"""Asks one chronyd, and keeps what that takes: sockets, and memory for the answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from operator import attrgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import (
    ChronyConnectionError,
    ChronyDataError,
    ChronyError,
    ChronyPermissionError,
)
from ..models import MODELS, NTPData, ReportField, Source, SourceMode, SourceStats
from ._shim import ffi, lib
from .failures import DISABLED, OFF, absurd, failure
from .fields import (
    FieldContent,
    FieldType,
    Report,
    Shape,
    layout,
    nanoseconds,
    reader,
    signed16,
)
from .library import reports

if TYPE_CHECKING:
    from ._shim import Ask, Asks

R = TypeVar("R", bound=Report)
Models = tuple[type[Report], ...]

ATTEMPTS = 3
"""How often several lists are asked for, while sources come and go between them."""

_PLACE = Struct("=iII")


def remaining(timeout: int, start: int) -> int:
    """Return what is left of a timeout that began to run at `start`, both in nanoseconds."""
    return timeout if timeout < 0 else max(0, start + timeout - time.monotonic_ns())


class Terms:
    """What a connection tells its clients, which may be in a call."""

    def __init__(self, timeout: int) -> None:
        """Take the timeout of each call, in nanoseconds; negative for none."""
        self.timeout = timeout
        self.closed = False


class Client:
    """The sockets to one chronyd, and the memory that answers are copied to, for one call.

    It closes itself when it is dropped: an exception that a signal handler raises may lose it.
    """

    def __init__(self, address: str, terms: Terms, sessions: int) -> None:
        """Open a first socket to `address`, which may be empty for libchrony's own choice."""
        reports()
        self._shim = ffi.gc(lib.shim_new(sessions), lib.shim_close)
        system = ffi.new("int[]", 1)
        error = lib.shim_open(self._shim, os.fsencode(address), system)
        if error:
            action = f"connecting to {address or 'the local chronyd'}"
            raise failure(action, address, error, system[0])
        self.address = os.fsdecode(ffi.string(lib.shim_address(self._shim)))
        self._terms = terms
        self._batch = ffi.new("shim_batch *")
        self._batch.client = self._shim
        self._prepared: dict[type[Report] | Models, Asks] = {}
        self._reserve_bytes(4096)
        self._reserve_places(16)

    def close(self) -> None:
        """Close all sockets; the client cannot be used again."""
        ffi.release(self._shim)

    def read(self, model: type[R], timeout: int) -> list[R]:
        """Return the records of one report; `timeout` is what is left of the call's."""
        asks = self._prepared.get(model)
        if asks is None:
            asks = self._prepared[model] = _prepare(model)
        self._collect(asks, 1, timeout)
        ask = asks[0]
        if ask.error == DISABLED and model._report in OFF:
            return []
        return self._answer(model, ask)

    def read_all(self, models: Models, timeout: int) -> dict[str, list[Report] | ChronyError]:
        """Return the records of several reports, or what is wrong with each.

        Sources may come and go meanwhile: the lists are asked for again until they agree.
        """
        start = time.monotonic_ns()
        answers = self._read_together(models, timeout)
        for _ in range(ATTEMPTS - 1):
            left = remaining(timeout, start)
            if left == 0 or _agree(answers):
                break
            answers = self._read_together(models, left)
        return answers

    def _read_together(self, models: Models, timeout: int) -> dict[str, list[Report] | ChronyError]:
        asks = self._prepared.get(models)
        if asks is None:
            asks = self._prepared[models] = _prepare(*models)
        self._collect(asks, len(models), timeout)
        answers: dict[str, list[Report] | ChronyError] = {}
        for ask, model in zip(asks, models, strict=True):
            try:
                answers[model._report] = self._answer(model, ask)
            except (ChronyPermissionError, ChronyDataError) as error:
                answers[model._report] = error
        return answers

    def read_fields(self, name: str, timeout: int) -> list[dict[str, ReportField]]:
        """Return the records of any report by libchrony's names; empty for those without fields."""
        asks = ffi.new("shim_ask[]", 1)
        ask = asks[0]
        ask.report = reports()[name]
        ask.flags = lib.SHIM_NAMED
        self._collect(asks, 1, timeout)
        if ask.error == DISABLED:
            return []
        if ask.error:
            raise self._failure(name, ask)
        return [
            _describe(_shape(shape), self._view[offset : offset + size]) if shape >= 0 else {}
            for shape, offset, size in self._places_of(ask)
        ]

    def _collect(self, asks: Asks, asked: int, timeout: int) -> None:
        """Ask, wait, and give the shim room; signal handlers run in between."""
        state = lib.shim_start(self._batch, asks, asked, timeout)
        while state != lib.SHIM_DONE:
            if state == lib.SHIM_ROOM:
                self._enlarge()
            elif self._terms.closed:
                lib.shim_stop(self._batch)
                raise ChronyConnectionError(f"asking {self.address}: closed by another thread")
            state = lib.shim_run(self._batch)

    def _answer(self, model: type[R], ask: Ask) -> list[R]:
        if ask.error:
            raise self._failure(model._report, ask)
        readers, view = _READERS[model], self._view
        return [
            readers[shape](view, offset) for shape, offset, _ in self._places_of(ask) if shape >= 0
        ]

    def _places_of(self, ask: Ask) -> Iterator[tuple[int, int, int]]:
        start = ask.first * _PLACE.size
        return _PLACE.iter_unpack(self._directory[start : start + ask.records * _PLACE.size])

    def _failure(self, report: str, ask: Ask) -> ChronyError:
        action = f"reading {report} from {self.address}"
        if ask.error == lib.SHIM_ABSURD:
            return absurd(action, ask.records)
        waited = self._terms.timeout / 1e9
        return failure(action, self.address, ask.error, ask.system, report=report, waited=waited)

    def _enlarge(self) -> None:
        """Give the batch at least the room that it wants, with what it has copied so far."""
        batch = self._batch
        address, self.address = self.address, ""  # cut short by an exception, it is not used again
        if batch.wanted_size > batch.size:
            old = self._bytes, batch.size
            self._reserve_bytes(max(2 * batch.size, batch.wanted_size))
            ffi.memmove(self._bytes, *old)
        if batch.wanted_capacity > batch.capacity:
            directory = self._places, batch.capacity * _PLACE.size
            self._reserve_places(max(2 * batch.capacity, batch.wanted_capacity))
            ffi.memmove(self._places, *directory)
        self.address = address

    def _reserve_bytes(self, size: int) -> None:
        self._bytes = self._batch.bytes = ffi.new("char[]", size)
        self._batch.size = size
        self._view = memoryview(ffi.buffer(self._bytes))

    def _reserve_places(self, count: int) -> None:
        self._places = self._batch.places = ffi.new("shim_place[]", count)
        self._batch.capacity = count
        self._directory = memoryview(ffi.buffer(self._places))


def _agree(answers: dict[str, list[Any] | ChronyError]) -> bool:
    """Whether all reports are about the same NTP sources in the same order."""
    lists = [
        _ntp_sources(MODELS[report], records)
        for report, records in answers.items()
        if MODELS[report]._per_source and not isinstance(records, ChronyError)
    ]
    return all(addresses == lists[0] for addresses in lists)


def _ntp_sources(model: type[Report], records: list[Any]) -> list[str]:
    """Return the addresses of NTP sources; reference clocks are left out."""
    if model is Source:
        return [record.address for record in records if record.mode is not SourceMode.REFCLOCK]
    attribute = "remote_address" if model is NTPData else "address"
    return list(filter(None, map(attrgetter(attribute), records)))


def _prepare(*models: type[Report]) -> Asks:
    asks = ffi.new("shim_ask[]", len(models))
    for ask, model in zip(asks, models, strict=True):
        ask.report = reports()[model._report]
        ask.flags = _flags(model)
    return asks


def _flags(model: type[Report]) -> int:
    flags = lib.SHIM_SOURCES if model._per_source else 0
    flags |= lib.SHIM_JOINED if model._joined else 0
    return flags | (lib.SHIM_JOINS if model is SourceStats else 0)


class _Readers(dict[int, Callable[[Any, int], Any]]):
    """The function that reads a model from a record of each shape, written when first needed."""

    def __init__(self, model: type[Report]) -> None:
        super().__init__()
        self._model = model

    def __missing__(self, shape: int) -> Callable[[Any, int], Any]:
        self[shape] = read = reader(self._model, _shape(shape))
        return read


_READERS = {model: _Readers(model) for model in MODELS.values()}


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
