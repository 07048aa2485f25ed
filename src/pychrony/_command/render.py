"""Renders reports as text for people and as JSON for programs, driven by the models' tables.

A single report has each field under libchrony's name for it, formatted according to its content
class; `lists` makes tables. A new field of a model needs no code in either.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._io.failures import is_off
from .._model.fields import FieldContent as C
from .._model.fields import Report, origins
from .._model.meanings import UNITS, computed, meanings, summary
from .._model.placeholders import is_resolved, unknown
from .._model.plain import plain
from ..exceptions import ChronyError
from ..models import MODELS, AllReports
from .grid import wrapped
from .lists import table
from .values import NOTHING, as_text, listed, sense

HEADED = {
    C.BITS: "octal",
    **{content: unit for content, unit in UNITS.items() if unit not in ("s", "log2 s")},
}
"""Units that do not depend on the value."""


class Column(NamedTuple):
    """One field of libchrony to show, which may correspond to several attributes."""

    label: str
    content: C
    attributes: tuple[str, ...]
    positive: str
    """What a value above zero means, such as "system clock is ahead"."""


def columns(model: type[Report]) -> list[Column]:
    """Return the columns of a report in the model's order, without reserved fields.

    A source's reference ID repeats its address, except for a reference clock, which has no address.
    The two share a column.
    """
    found: dict[str, Column] = {}
    for attribute, origin in origins(model).items():
        label, content = origin.names[0], origin.content
        attributes = (*found[label].attributes, attribute) if label in found else (attribute,)
        if content is not C.NONE:
            found[label] = Column(label, content, attributes, origin.positive)
    reference, address = found.get("reference ID"), found.get("address")
    if reference and address and len(reference.attributes) == 1:
        found["address"] = address._replace(attributes=(*address.attributes, *reference.attributes))
        del found["reference ID"]
    return list(found.values())


def show(column: Column, record: Report) -> str:
    """Return the text for a field, precisely."""
    if not unknown(record).isdisjoint(column.attributes):
        return NOTHING
    values = [getattr(record, attribute) for attribute in column.attributes]
    if column.content is C.FLAGS and isinstance(values[0], bool):
        pairs = zip(column.attributes, values, strict=True)
        return listed(attribute.replace("_", " ") for attribute, on in pairs if on)
    return as_text(column.content, values, brief=False, precise=True)


def show_line(column: Column, record: Report) -> str:
    """Return the text after a label: precise, with the unit and the meaning of the sign."""
    text, value = show(column, record), getattr(record, column.attributes[0])
    if text == NOTHING:
        return text
    if column.content in HEADED:
        text += f" {HEADED[column.content]}"
    if column.positive and value:
        text += f" ({sense(column.positive, value)})"
    return text


def text(model: type[Report], answer: Any, width: int, *, everything: bool = False) -> str:
    """Return a report as text, in lines of at most `width` characters if possible.

    A list is shown as a table, or as a block for each source if no table fits. Without
    `everything`, sources whose name is not resolved are only counted.
    """
    if isinstance(answer, ChronyError):
        why = "off" if is_off(model._report, answer) else "not available"
        return wrapped(f"{why}: {answer._reason}", width)
    if isinstance(answer, Report):
        return block(columns(model), answer, width)
    known = [record for record in answer if everything or is_resolved(record)]
    hidden = len(answer) - len(known)
    note = f"{hidden} more whose name is not resolved: -a shows them" if hidden else ""
    if not known:
        return wrapped(f"none; {note}" if note else "none", width)
    return "\n\n".join([_listed(model, known, width), *([note] if note else [])])


def _listed(model: type[Report], records: Sequence[Report], width: int) -> str:
    lines = table(model, records, width)
    if lines is not None:
        return "\n".join(lines)
    shown = columns(model)
    return "\n\n".join(block(shown, record, width) for record in records)


def text_of(answers: AllReports, report: str, width: int, *, everything: bool = False) -> str:
    """Return a report as text; or "all", each with its name and its summary as a heading."""
    if report == "all":
        return "\n\n\n".join(
            f"{name.upper()}  {summary(model)}\n\n"
            + text_of(answers, name, width, everything=everything)
            for name, model in MODELS.items()
        )
    answer = answers.missing.get(report) or getattr(answers, report)
    return text(MODELS[report], answer, width, everything=everything)


def block(shown: Sequence[Column], record: Report, width: int) -> str:
    """Return a record as lines of label and value."""
    edge = max(len(column.label) for column in shown) + 2
    return "\n".join(
        wrapped(show_line(column, record), max(width, edge + 20), column.label.ljust(edge), edge)
        for column in shown
    )


# JSON.


def keys(model: type[Report], width: int) -> str:
    """Return the keys of a report's JSON, each with its unit, libchrony's name and its meaning."""
    lines = ["keys with --json, which are also the names in Python:"]
    for key, meaning in meanings(model).items():
        unit = f" ({meaning.unit})" if meaning.unit else ""
        names = " or ".join(f'"{name}"' for name in meaning.origin.names)
        lines += ["", f"  {key}{unit}, libchrony's {names}"]
        if meaning.text:
            lines.append(wrapped(meaning.text, min(width, 92), " " * 6, 6))
    for key, meant in computed(model).items():
        lines += ["", f"  {key}", wrapped(meant, min(width, 92), " " * 6, 6)]
    return "\n".join(lines)


def as_json(answer: Any, *, indent: int | None = 2) -> str:
    """Return any answer as JSON: fields by name, enums as names, flags as lists of names."""
    return json.dumps(plain(answer), indent=indent)
