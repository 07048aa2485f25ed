"""Decodes records: from the bytes that the shim returns to instances of a model.

The shim returns a record as bytes of a known `Shape`. For each model and shape, `reader()`
generates the function that builds the model from these bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

from ..exceptions import ChronyDataError
from .converters import nanoseconds
from .fields import FieldContent, FieldType, Origin, R, Report


class Shape(NamedTuple):
    """The fields of one kind of record, as libchrony lists them."""

    names: tuple[str, ...]
    types: tuple[FieldType, ...]
    contents: tuple[FieldContent, ...]


_CODES = {
    FieldType.UINTEGER: "Q",
    FieldType.INTEGER: "q",
    FieldType.FLOAT: "d",
    FieldType.TIMESPEC: "qq",
    FieldType.STRING: "48p",
}

_PREPARED = {FieldType.STRING: "{0} = {0}.decode()", FieldType.TIMESPEC: "{0} = time({0}, {1})"}
"""Code that turns the raw values of a field into one value, for the types that need it."""

_RECURRING = {FieldContent.ENUM, FieldContent.FLAGS, FieldContent.REFERENCE_ID}
"""Contents with few different values, whose conversions are therefore cached."""

_READ = """
def read(buffer, offset):
    {raw}, = raw = unpack(buffer, offset)
    self = new(model)
    try:
        {steps}
        }})
    except (ValueError, OverflowError) as error:
        raise refusal(error, error.__traceback__.tb_lineno, raw) from error
    return self
"""
_FIRST_STEP = _READ[: _READ.index("{steps}")].count("\n") + 1  # its line


def layout(shape: Shape) -> tuple[Struct, dict[str, tuple[int, ...]]]:
    """Return how the shim packs a record, and the positions of each field's raw values."""
    codes = [_CODES.get(kind, "") for kind in shape.types]
    positions: dict[str, tuple[int, ...]] = {}
    start = 0
    for name, code in zip(shape.names, codes, strict=True):
        width = len(code.lstrip("0123456789"))
        positions[name] = tuple(range(start, start + width))
        start += width
    return Struct("=" + "".join(codes)), positions


def reader(model: type[R], shape: Shape) -> Callable[[Any, int], R]:
    """Return the function that builds a `model` from a buffer and the offset of a record there.

    It is generated as source code, like the methods of a dataclass: it runs for every record, and
    this avoids all look-ups by name. Setting the whole `__dict__` avoids a guarded assignment for
    each field of the frozen class. Each field has a line, so that the line of an error names it.
    """
    struct, positions = layout(shape)
    scope: dict[str, Any] = {"unpack": struct.unpack_from, "new": object.__new__, "model": model}
    scope |= {"fill": vars(Report)["__dict__"].__set__, "time": nanoseconds}
    steps = [  # libchrony's name of a field, and a line of code
        (name, _PREPARED[kind].format(*(f"r{position}" for position in positions[name])))
        for name, kind in zip(shape.names, shape.types, strict=True)
        if kind in _PREPARED
    ]
    steps.append(("", "fill(self, {"))
    for field, convert, names in _sources(model, positions):
        value = ", ".join(f"r{positions[name][0]}" for name in names) or repr(field.default)
        if convert and names:
            scope[f"c_{field.name}"] = convert
            value = f"c_{field.name}({value})"
        steps.append(("".join(names[:1]), f"{field.name!r}: {value},"))

    def refusal(error: Exception, line: int, raw: tuple[Any, ...]) -> ChronyDataError:
        name, _ = steps[line - _FIRST_STEP]
        words = f"{name!r} cannot be {raw[positions[name][0]]!r} ({error})"
        return ChronyDataError._compose(f"reading {model._report}", "", words)

    raw = ", ".join(f"r{position}" for name in shape.names for position in positions[name])
    source = _READ.format(raw=raw, steps="\n        ".join(line for _, line in steps))
    exec(source, scope | {"refusal": refusal}, scope)
    read: Callable[[Any, int], R] = scope["read"]
    return read


def _sources(
    model: type[Report], positions: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[dataclasses.Field[Any], Callable[..., Any] | None, tuple[str, ...]]]:
    """Yield each field, its converter, and libchrony's names of the values to convert.

    If the record lacks one of these, there are no names, and the field gets its default.
    """
    for field in dataclasses.fields(model):
        origin: Origin = field.metadata["origin"]
        name = next(filter(positions.get, origin.names), origin.names[0])
        names = (name, *origin.given)
        missing = [name for name in names if not positions.get(name)]
        if missing and field.default is dataclasses.MISSING:
            raise ChronyDataError._compose(
                f"reading {model._report}",
                "",
                f"the answer has no field {missing[0]!r}",
                "this libchrony or chronyd is not one that pychrony knows",
            )
        convert = origin.convert
        if convert and origin.content in _RECURRING:
            convert = lru_cache(1024)(convert)  # even an enum's own call takes longer
        yield field, convert, () if missing else names
