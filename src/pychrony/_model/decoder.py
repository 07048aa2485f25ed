"""Decodes records: from the bytes that the shim returns to instances of a model.

The shim returns a record as bytes of a known `Shape`. For each model and shape, `reader()`
generates the function that builds the model from these bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
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
"""What makes one value of a field's raw values, for types that need it."""

_RECURRING = {FieldContent.ENUM, FieldContent.FLAGS, FieldContent.REFERENCE_ID}
"""Contents with few different values, so that it pays to remember what they convert to."""

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
    steps = [  # libchrony's name of a field, and a line of code
        (name, _PREPARED[kind].format(*(f"r{position}" for position in positions[name])))
        for name, kind in zip(shape.names, shape.types, strict=True)
        if kind in _PREPARED
    ]
    steps.append(("", "fill(self, {"))
    converters = {}
    for field in dataclasses.fields(model):
        origin: Origin = field.metadata["origin"]
        name, value = _expression(model, field, origin, positions)
        steps.append((name, f"{field.name!r}: {value},"))
        remember = lru_cache(1024) if origin.content in _RECURRING else lambda convert: convert
        converters[f"c_{field.name}"] = origin.convert and remember(origin.convert)

    def refusal(error: Exception, line: int, raw: tuple[Any, ...]) -> ChronyDataError:
        name, _ = steps[line - _FIRST_STEP]
        value = raw[positions[name][0]]
        words = f"{name!r} cannot be {value!r} ({error})"
        return ChronyDataError._compose(f"reading {model._report}", "", words)

    source = _READ.format(
        raw=", ".join(f"r{position}" for name in shape.names for position in positions[name]),
        steps="\n        ".join(line for _, line in steps),
    )
    scope: dict[str, Any] = {"unpack": struct.unpack_from, "new": object.__new__, "model": model}
    scope |= {"fill": vars(Report)["__dict__"].__set__, "time": nanoseconds, "refusal": refusal}
    made: dict[str, Any] = {}
    exec(source, scope | converters, made)
    read: Callable[[Any, int], R] = made["read"]
    return read


def _expression(
    model: type[Report],
    field: dataclasses.Field[Any],
    origin: Origin,
    positions: Mapping[str, tuple[int, ...]],
) -> tuple[str, str]:
    """Return libchrony's name of a field, and the code that gets its value."""
    name = next(filter(positions.get, origin.names), origin.names[0])
    missing = next((n for n in (name, *origin.given) if not positions.get(n)), None)
    if missing is None:
        arguments = ", ".join(f"r{positions[n][0]}" for n in (name, *origin.given))
        return name, f"c_{field.name}({arguments})" if origin.convert else arguments
    if field.default is not dataclasses.MISSING:
        return name, repr(field.default)
    raise ChronyDataError._compose(
        f"reading {model._report}",
        "",
        f"the answer has no field {missing!r}",
        "this libchrony or chronyd is not one that pychrony knows",
    )
