"""Describes each field of a report, from the docstring below it and the report's table.

Editors show that docstring, but Python itself discards it. So it is read from the source file, and
only when needed, which keeps the import of the models fast. Without a source file, a field is
described by its name and unit alone.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from .fields import FieldContent as C
from .fields import Report, origins

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
    """Its description, in whole sentences; empty if the source is not there."""
    unit: str
    """Its unit, such as `s`; empty for a count and for what is no number."""
    positive: str
    """What a value above zero means, such as "system clock is behind"; empty if it has no sign."""
    none: str
    """The sentence or clause that says when the field is `None`; empty if it never is."""
    since: str
    """The first version of chronyd that sends it; empty if all that have the report do."""
    names: tuple[str, ...]
    """libchrony's names of the field, the first of which a record usually has."""


def meanings(model: type[Report]) -> dict[str, Meaning]:
    """Return what each field of `model` means."""
    below = _docstrings(model)
    found = {}
    for name, origin in origins(model).items():
        text = below.get(name, "")
        none = re.search(r"`None` [^.;]+(?:\.\d[^.;]*)?", text)
        since = re.search(r"`None` before chronyd (\d+\.\d+)", text)
        found[name] = Meaning(
            text,
            _unit(name, origin.content),
            origin.positive,
            none[0] if none else "",
            since[1] if since else "",
            origin.names,
        )
    return found


def summary(model: type[Report]) -> str:
    """Return what a report is about, as a phrase without its full stop."""
    return texts[model].partition("\n")[0].rstrip(".").replace("`", "")


texts: dict[type[Report], str] = {}
"""The docstring of each model without the fields."""


def describe_fields(model: type[Report]) -> None:
    """Add the meaning of the fields to the docstring of a model, as `help()` shows it."""
    texts[model] = model.__doc__ or ""
    model.__doc__ = _Docstring()  # type: ignore[assignment]


class _Docstring:
    """The docstring of a model, put together when it is read."""

    def __get__(self, record: Report | None, model: type[Report]) -> str:
        import inspect
        import textwrap

        lines = [inspect.cleandoc(texts[model]), "", "Fields:"]
        for name, meaning in meanings(model).items():
            lines.append(f"    {name}" + (f" ({meaning.unit})" if meaning.unit else ""))
            if meaning.text:
                lines.append(textwrap.indent(textwrap.fill(meaning.text, 84), " " * 8))
        return "\n".join(lines)


def _unit(name: str, content: C) -> str:
    if content is C.TIME:
        return "ns since 1970" if name.endswith("_ns") else "s since 1970"
    return UNITS.get(content, "")


def _docstrings(model: type[Report]) -> dict[str, str]:
    """Return the docstrings below the fields, each as one line."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if hasattr(cls, "__dataclass_fields__"):
            found |= _own_docstrings(cls)
    return found


@lru_cache
def _own_docstrings(model: type[Any]) -> dict[str, str]:
    import ast
    import inspect
    import textwrap

    try:
        source = textwrap.dedent(inspect.getsource(model))
    except (OSError, TypeError):  # an interactive session, or a program without source files
        return {}
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    found = {}
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[field.target.id] = " ".join(text.split())
    return found
