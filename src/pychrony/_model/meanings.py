"""Describes each field of a report: its docstring, and the facts of the report's table.

Editors show the docstring below a field, but Python discards it. So the build copies the docstrings
of the reports into `_descriptions`, where they are also with `-OO` and without source files.
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

from ._descriptions import DESCRIPTIONS
from .fields import FieldContent as C
from .fields import Origin, Report, origins

UNITS = {
    C.INTERVAL_LOG2_SECONDS: "log2 s",
    C.INTERVAL_SECONDS: "s",
    C.OFFSET_SECONDS: "s",
    C.MEASURE_SECONDS: "s",
    C.OFFSET_PPM: "ppm",
    C.MEASURE_PPM: "ppm",
    C.OFFSET_PPM_PER_SECOND: "ppm/s",
    C.LENGTH_BITS: "bits",
    C.LENGTH_BYTES: "bytes",
}
"""The unit that a content class of libchrony gives a field of a model."""


class Meaning(NamedTuple):
    """What a user is told about one field of a report."""

    text: str
    """Its description, in whole sentences."""
    unit: str
    """Its unit, such as `s`; empty for a count and for anything but a number."""
    origin: Origin
    """What the report's table says about it: `of()` explains each fact."""


def meanings(model: type[Report]) -> dict[str, Meaning]:
    """Return what each field of `model` means."""
    texts = DESCRIPTIONS.get(model.__name__, {})
    return {
        name: Meaning(texts.get(name, ""), _unit(name, origin.content), origin)
        for name, origin in origins(model).items()
    }


def computed(model: type[Report]) -> dict[str, str]:
    """Return what the JSON of `model` has besides its fields, and what that means."""
    return {name: DESCRIPTIONS[model.__name__][name] for name in model._computed}


def overview(model: type[Report]) -> str:
    """Return a model's own docstring, without its fields."""
    return DESCRIPTIONS.get(model.__name__, {}).get("", model.__name__)


def summary(model: type[Report]) -> str:
    """Return what a report is about, as a phrase without its full stop."""
    return overview(model).partition("\n")[0].rstrip(".").replace("`", "")


def documented(model: type[Report]) -> str:
    """Return a model's docstring with that of its fields, as `help()` shows it."""
    lines = [overview(model), "", "Fields:"]
    for name, meaning in meanings(model).items():
        lines.append(f"    {name}" + (f" ({meaning.unit})" if meaning.unit else ""))
        lines.append(textwrap.indent(textwrap.fill(meaning.text, 84), " " * 8))
    return "\n".join(lines)


def _unit(name: str, content: C) -> str:
    if content is C.TIME:
        return "ns since 1970" if name.endswith("_ns") else "s since 1970"
    return UNITS.get(content, "")
