"""Defines how the fields of a libchrony report become attributes of a model.

Each field of a model names its libchrony field, its unit and its converter with `of()`. The shim
returns a record as bytes of a known `Shape`. For each model and shape, `reader()` generates the
function that builds the model from these bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from struct import Struct
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeVar

from ..exceptions import ChronyDataError
from .deferred import Deferred, fields
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
    """libchrony's names for the value, of a constant or of each flag that is set; often empty."""


class Report(Deferred):
    """Base class of all reports."""

    _report: ClassVar[str]
    """libchrony's name of the report."""
    _per_source: ClassVar[bool] = False
    """Whether there is a record for each source."""
    _joined: ClassVar[bool] = False
    """Whether the record lacks its source's address, so that the shim must put it in front."""

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of all fields, ready for `json.dumps()`.

        Enums are represented by their names, and flags by lists of names.
        """
        return fields_of(self)


R = TypeVar("R", bound=Report)


class Shape(NamedTuple):
    """The fields of one kind of record, as libchrony lists them."""

    names: tuple[str, ...]
    types: tuple[FieldType, ...]
    contents: tuple[FieldContent, ...]


class Origin(NamedTuple):
    """Where an attribute comes from: what `of()` notes in a field's metadata."""

    names: tuple[str, ...]
    content: FieldContent
    convert: Callable[..., Any] | None
    given: tuple[str, ...]
    positive: str


def of(
    *names: str,
    content: FieldContent,
    convert: Callable[..., Any] | None = None,
    given: tuple[str, ...] = (),
    positive: str = "",
) -> Mapping[str, Origin]:
    """Return the metadata of a model's field.

    The field is the first of libchrony's `names` that a record has. `content` is libchrony's class
    of the field, which implies the unit. `convert` takes the raw value, followed by the raw values
    of the fields in `given`, and returns the attribute's value; it raises `ValueError` for a value
    that it cannot represent. `positive` says what a value above zero means, such as "system clock
    is behind"; a value below zero means the opposite. A field of the model that has a default is
    one that older versions of chronyd do not send.
    """
    return {"origin": Origin(names, content, convert, given, positive)}


def origins(model: type[Report]) -> dict[str, Origin]:
    """Return where each attribute of `model` comes from."""
    return {name: options["metadata"]["origin"] for name, options in fields(model).items()}


# Converters. A time arrives as the result of `nanoseconds()`; all other values are libchrony's.


def signed16(raw: int) -> int:
    """libchrony returns 16-bit integers without their sign."""
    return raw - 0x1_0000 if raw >= 0x8000 else raw


def unless_never(raw: int) -> int | None:
    """All ones in 32 bits is chronyd's "never" and "not supported"."""
    return None if raw == 0xFFFF_FFFF else raw


def unless_zero(raw: int) -> int | None:
    """Key numbers count from one: zero is chronyd's "there is none"."""
    return raw or None


def yes_or_no(raw: int) -> bool:
    """A boolean has 8 or 16 bits on the wire."""
    if raw > 1:
        raise ValueError("neither 0 nor 1")
    return raw == 1


def nanoseconds(seconds: int, fraction: int) -> int:
    """Return a time in nanoseconds.

    A chronyd with 32-bit time marks the high half of the seconds; chronyd and libchrony do not
    check the fraction.
    """
    if seconds >> 32 == 0x7FFF_FFFF:
        seconds &= 0xFFFF_FFFF
    return seconds * 1_000_000_000 + (fraction if fraction < 1_000_000_000 else 999_999_999)


def epoch(time: int) -> float:
    """A float holds seconds since 1970 to about a quarter of a microsecond.

    The division is of two integers, which rounds only once.
    """
    return time / 1_000_000_000


def to_nanoseconds(seconds: float) -> int:
    """Round seconds since 1970 once: a product of floats would be off by a hundred nanoseconds."""
    if not math.isfinite(seconds):
        return 0
    numerator, denominator = seconds.as_integer_ratio()
    return (2 * numerator * 1_000_000_000 + denominator) // (2 * denominator)


@lru_cache(1024)
def clock_name(raw: int) -> str:
    """A reference clock's ID is up to four ASCII characters; like chronyc, skip what is not."""
    return "".join(chr(byte) for byte in raw.to_bytes(4, "big") if 0x20 <= byte < 0x7F)


def dotted(raw: int) -> str:
    """A reference ID that is no text is an IPv4 address, or looks like one."""
    return ".".join(map(str, raw.to_bytes(4, "big"))) if raw else ""


def source_name(raw: int | str) -> str:
    """`sources` has an address, or the ID of a reference clock in its place."""
    return clock_name(raw) if isinstance(raw, int) else raw


LOCAL_REFERENCE = 0x7F7F_0101  # NTP_REFID_LOCAL of chrony: its `local` directive


def tracked_name(raw: int, address: str) -> str:
    """Only a reference clock is tracked without an address, besides chronyd itself."""
    return dotted(raw) if address or raw == LOCAL_REFERENCE else clock_name(raw)


def upstream_name(raw: int, stratum: int) -> str:
    """A stratum 1 server follows a reference clock; stratum 0 is a kiss code (RFC 5905, 7.3)."""
    return clock_name(raw) if stratum <= 1 else dotted(raw)


# From bytes to models.

_CODES = {
    FieldType.UINTEGER: "Q",
    FieldType.INTEGER: "q",
    FieldType.FLOAT: "d",
    FieldType.TIMESPEC: "qq",
    FieldType.STRING: "48p",
}


_RECURRING = {FieldContent.ENUM, FieldContent.FLAGS, FieldContent.REFERENCE_ID}
"""Contents with few different values, so that it pays to remember what they convert to."""


def layout(shape: Shape) -> tuple[Struct, dict[str, tuple[int, ...]]]:
    """Return how the shim packs a record, and the positions of each field's raw values."""
    codes = [_CODES.get(kind, "") for kind in shape.types]
    places: dict[str, tuple[int, ...]] = {}
    position = 0
    for name, code in zip(shape.names, codes, strict=True):
        width = len(code.lstrip("0123456789"))
        places[name] = tuple(range(position, position + width))
        position += width
    return Struct("=" + "".join(codes)), places


def reader(model: type[R], shape: Shape) -> Callable[[Any, int], R]:
    """Return the function that builds a `model` from a buffer and the offset of a record there.

    It is generated as source code, like the methods of a dataclass: it runs for every record, and
    this avoids all look-ups by name. Setting the whole `__dict__` avoids a guarded assignment for
    each field of the frozen class.
    """
    struct, places = layout(shape)
    scope: dict[str, Any] = {"unpack": struct.unpack_from, "new": object.__new__, "model": model}
    scope |= {"fill": vars(Deferred)["__dict__"].__set__, "refuse": _refuse, "shape": shape}
    scope["time"] = nanoseconds

    def value(attribute: str, origin: Origin, name: str) -> str:
        arguments = [f"r{places[n][0]}" for n in (name, *origin.given)]
        if origin.convert is None:
            return arguments[0]
        convert = origin.convert
        if origin.content in _RECURRING:
            convert = lru_cache(1024)(convert)  # even an enum's own call takes longer
        scope[f"c_{attribute}"] = convert
        return f"c_{attribute}({', '.join(arguments)})"

    parts = []
    for attribute, options in fields(model).items():
        origin: Origin = options["metadata"]["origin"]
        name = next(filter(places.get, origin.names), origin.names[0])
        missing = next((n for n in (name, *origin.given) if not places.get(n)), None)
        if missing is None:
            parts.append(f"{attribute!r}: {value(attribute, origin, name)}")
        elif "default" not in options:
            raise ChronyDataError._compose(
                f"reading {model._report}",
                "",
                f"the answer has no field {missing!r}",
                "this libchrony or chronyd is not one that pychrony knows",
            )
        else:
            parts.append(f"{attribute!r}: {options['default']!r}")
    raw = [f"r{place}" for name in shape.names for place in places[name]]
    made = {FieldType.STRING: "r{0} = r{0}.decode()", FieldType.TIMESPEC: "r{0} = time(r{0}, r{1})"}
    values = [
        made[kind].format(*places[name])
        for name, kind in zip(shape.names, shape.types, strict=True)
        if kind in made
    ]
    source = f"""
def read(buffer, offset):
    {", ".join(raw)}, = r = unpack(buffer, offset)
    self = new(model)
    try:
        {"; ".join(values)}
        fill(self, {{{", ".join(parts)}}})
    except (ValueError, OverflowError):
        refuse(model, shape, r)
    return self
"""
    exec(source, scope)
    read: Callable[[Any, int], R] = scope["read"]
    return read


def _refuse(model: type[Report], shape: Shape, raw: tuple[Any, ...]) -> NoReturn:
    """Raise the error that names the field which could not be converted."""
    _, places = layout(shape)
    for origin in origins(model).values():
        for name in origin.names:
            if name not in places or origin.convert is None:
                continue
            values = [raw[places[field][0]] for field in (name, *origin.given)]
            try:
                origin.convert(*(v.decode() if isinstance(v, bytes) else v for v in values))
            except (ValueError, OverflowError) as error:
                raise ChronyDataError._compose(
                    f"reading {model._report}", "", f"{name!r} cannot be {values[0]!r} ({error})"
                ) from error
    raise AssertionError("a record that fails must have a field that fails")
