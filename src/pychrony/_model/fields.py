"""Defines how the fields of a libchrony report become attributes of a model.

Each field of a model names its libchrony field, its unit and its converter with `of()`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, NamedTuple, TypeVar

from .converters import clock_name
from .plain import fields_of


class OpenEnum(Enum):
    """An enum that takes a value newer than this package as a member `UNKNOWN_<value>`."""

    @classmethod
    def _missing_(cls, value: object) -> Any:
        if type(value) is not type(next(iter(cls)).value) or (isinstance(value, int) and value < 0):
            return None
        member = object.__new__(cls)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        # As in any enum, there is one member per value.
        return cls._value2member_map_.setdefault(value, member)

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        """Pickle by value: early releases of Python 3.11 would pickle by name."""
        return type(self), (self.value,)


class FieldType(OpenEnum):
    """How libchrony holds the value of a field (`chrony_field_type`)."""

    NONE = 0
    UINTEGER = 1
    INTEGER = 2
    FLOAT = 3
    TIMESPEC = 4
    STRING = 5


class FieldContent(OpenEnum):
    """What the value of a field means, and its unit (`chrony_field_content`)."""

    NONE = 0
    COUNT = 1
    TIME = 2
    INTERVAL_LOG2_SECONDS = 3
    INTERVAL_SECONDS = 4
    OFFSET_SECONDS = 5
    MEASURE_SECONDS = 6
    OFFSET_PPM = 7
    MEASURE_PPM = 8
    OFFSET_PPM_PER_SECOND = 9
    RATIO = 10
    REFERENCE_ID = 11
    ENUM = 12
    BITS = 13
    FLAGS = 14
    ADDRESS = 15
    PORT = 16
    INDEX = 17
    LENGTH_BITS = 18
    LENGTH_BYTES = 19
    BOOLEAN = 20


class ReportField(NamedTuple):
    """One field of a record, as the loaded libchrony describes it."""

    value: int | float | str | bool
    """The value. A time is in nanoseconds since 1970 (UTC); an address that is not set is empty."""
    type: FieldType
    """How libchrony holds the value."""
    content: FieldContent
    """What the value means, and its unit; `NONE` for a reserved field or an address not set."""
    names: tuple[str, ...]
    """libchrony's name of the constant, or of each flag that is set; often empty."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Base class of all reports."""

    _report: ClassVar[str]
    """libchrony's name of the report."""
    _per_source: ClassVar[bool] = False
    """Whether there is a record for each source."""
    _joined: ClassVar[bool] = False
    """Whether the record lacks its source's address, so that the shim must put it in front."""
    _computed: ClassVar[tuple[str, ...]] = ()
    """Methods and properties whose values are in the JSON too."""

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of all fields, ready for `json.dumps()`.

        Enums are represented by their names, and flags by lists of names. The dictionary of
        `TrackingStatus` also has `is_synchronized` and `error_bound`.
        """
        values = {name: getattr(self, name) for name in self._computed}
        return fields_of(self) | {name: v() if callable(v) else v for name, v in values.items()}


class SourceReport(Report):
    """Base class of the reports that have a record for each source."""

    _per_source = True

    @property
    def name(self) -> str:
        """Name of the source: its address, or a reference clock's ID such as `PPS0`.

        Every report about sources has the same name for a source, so that records can be matched.
        """
        fields = vars(self)
        if "remote_address" in fields:  # `ntpdata`, which has no reference clocks
            return str(fields["remote_address"])
        return str(fields["address"] or clock_name(fields.get("reference_id", 0)))


R = TypeVar("R", bound=Report)


class Origin(NamedTuple):
    """Where an attribute comes from: what `of()` notes in a field's metadata."""

    names: tuple[str, ...]
    content: FieldContent
    convert: Callable[..., Any] | None
    given: tuple[str, ...]
    positive: str
    since: str


def of(
    *names: str,
    content: FieldContent,
    convert: Callable[..., Any] | None = None,
    given: tuple[str, ...] = (),
    positive: str = "",
    since: str = "",
) -> Mapping[str, Origin]:
    """Return the metadata of a model's field.

    The field is the first of libchrony's `names` that a record has. `content` is libchrony's class
    of the field, which implies the unit. `convert` takes the raw value, followed by the raw values
    of the fields in `given`, and returns the attribute's value; it raises `ValueError` for a value
    that it cannot represent. `positive` says what a value above zero means, such as "system clock
    is behind"; a value below zero means the opposite. `since` is the first version of chronyd that
    sends the field; before, it is `None`. A field that some records lack must have a default.
    """
    return {"origin": Origin(names, content, convert, given, positive, since)}


def origins(model: type[Report]) -> dict[str, Origin]:
    """Return where each attribute of `model` comes from."""
    return {field.name: field.metadata["origin"] for field in dataclasses.fields(model)}
