"""Puts questions to chronyd: which reports to ask for, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from .._model.converters import nanoseconds, signed16
from .._model.decoder import Shape, layout, reader
from .._model.fields import FieldContent, FieldType, Report, ReportField
from ..exceptions import ChronyDataError, ChronyError, ChronyPermissionError
from ._shim import ffi, lib
from .failures import DISABLED, OFF, refused
from .library import reports

if TYPE_CHECKING:
    from ._shim import Ask
    from .client import Client

R = TypeVar("R", bound=Report)
A = TypeVar("A")
K = TypeVar("K")
V = TypeVar("V")

_ALONE = {"tracking", "activity", "rtcdata", "smoothing", "serverstats"}
"""Reports with a single record. The engine asks for the number of records of any other report."""
_ADDRESSED = {"authdata", "ntpdata"}


class Answers(NamedTuple):
    """The answers to several questions at once, and the address from which all of them came."""

    records: dict[str, list[Report] | ChronyError]
    """The records of each report, or the error in their place."""
    address: str


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

    def lacks_permission(self, answer: A) -> bool:
        """Whether an answer has an error because a report is not open there."""
        return False


class Reading(Question[list[R]]):
    """The records of one report."""

    def __init__(self, model: type[R]) -> None:
        super().__init__(model._report, flags=lib.SHIM_JOINED if model._joined else 0)
        self._readers = _readers(model)

    def answer(self, client: Client) -> list[R]:
        """Return the records; an empty list if the report is turned off in chronyd."""
        ask = client.batch.asks[0]
        error = ask.error
        if not error:
            return self.records(client, ask)
        if error == DISABLED and self.names[0] in OFF:
            return []
        raise client.failure(self.names[0], ask)

    def records(self, client: Client, ask: Ask) -> list[R]:
        """Decode the records of a report of the finished batch, which has no error."""
        places, readers, read = client.places(ask), self._readers, client.bytes
        return [readers[shape](read, offset) for shape, offset, _ in places if shape >= 0]


class Single(Question[R]):
    """The record of a report that always has one. It is decoded in as few steps as possible."""

    def __init__(self, model: type[R]) -> None:
        super().__init__(model._report)
        self._readers = _readers(model)

    def answer(self, client: Client) -> R:
        """Return the record."""
        shape, offset, _ = client.first_place()
        if shape < 0:
            raise client.failure(self.names[0], client.batch.asks[0])
        return self._readers[shape](client.bytes, offset)


class Together(Question[Answers]):
    """Several reports at the same time."""

    def __init__(self, models: Sequence[type[Report]]) -> None:
        super().__init__(*(model._report for model in models))
        self._readings = [reading(model) for model in models]
        for ask, one in zip(self.asks, self._readings, strict=True):
            ask.flags = one.asks[0].flags

    def answer(self, client: Client) -> Answers:
        """Return the records of each report, or the error in their place."""
        answers: dict[str, list[Report] | ChronyError] = {}
        for number, name in enumerate(self.names):
            ask = client.batch.asks[number]
            try:
                if ask.error:
                    raise client.failure(name, ask)
                answers[name] = self._readings[number].records(client, ask)
            except (ChronyPermissionError, ChronyDataError) as error:
                if not refused(error) and isinstance(error, ChronyPermissionError):
                    raise  # the system, not chronyd, refuses all requests
                answers[name] = error
        return Answers(answers, client.address)

    def lacks_permission(self, answer: Answers) -> bool:
        """Whether one of the reports is not open there."""
        return any(isinstance(found, ChronyPermissionError) for found in answer.records.values())


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


class _Made(dict[K, V]):
    """Values that are made when they are first needed.

    `get()` would lock the dictionary on a Python without a GIL (see workers.py).
    """

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> V:
        return self.setdefault(key, self._make(key))


_READINGS: _Made[type[Report], Reading[Any]] = _Made(Reading)
_SINGLES: _Made[type[Report], Single[Any]] = _Made(Single)


def reading(model: type[R]) -> Reading[R]:
    """Return the question for the records of one report; all calls share it."""
    return _READINGS[model]


def single(model: type[R]) -> Single[R]:
    """Return the question for the only record of one report; all calls share it."""
    return _SINGLES[model]


def _readers(model: type[R]) -> _Made[int, Callable[[Any, int], R]]:
    """Return, for each shape, the function that builds a model from its records."""
    return _Made(lambda shape: reader(model, _shape(shape)))


def _flags(name: str) -> int:
    """Return what the engine must know about a report."""
    flags = 0 if name in _ALONE else lib.SHIM_SOURCES
    flags |= lib.SHIM_ADDRESSED if name in _ADDRESSED else 0
    return flags | (lib.SHIM_ADDRESSES if name == "sourcestats" else 0)


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
    struct, positions = layout(shape)
    raw = struct.unpack_from(record)
    texts = bytes(record[struct.size :]).split(b"\0")
    described = {}
    for name, kind, content, text in zip(*shape, texts, strict=False):
        values = [raw[position] for position in positions[name]]
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
        described[name] = ReportField(value, kind, content, tuple(text.decode().split("\n")[:-1]))
    return described
