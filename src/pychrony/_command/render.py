"""Renders reports as text for people and as JSON for programs, driven by the models' tables.

Each field is shown under libchrony's name for it, formatted according to its content class. So a
new field of a model needs no code here; code for single fields only makes them easier to read.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from enum import Flag
from typing import Any, NamedTuple

from .._io.failures import is_off
from .._model.fields import FieldContent as C
from .._model.fields import Report, origins
from .._model.meanings import UNITS, computed, meanings, summary
from .._model.placeholders import is_resolved, unknown
from .._model.plain import flag_names, plain
from ..exceptions import ChronyError
from ..models import MODELS, AllReports
from .grid import aligned
from .values import NOTHING, SYMBOLS, as_text, listed, words

HEADED = {
    C.BITS: "octal",
    **{content: unit for content, unit in UNITS.items() if unit not in ("s", "log2 s")},
}
"""Units that do not depend on the value; tables show them in the heading."""

OPPOSITES = {"ahead": "behind", "behind": "ahead", "fast": "slow"}

LEFT = {C.ADDRESS, C.ENUM, C.FLAGS, C.BOOLEAN, C.REFERENCE_ID, C.TIME}
"""What a table aligns to the left."""

# Minimum widths, so that a table keeps its shape with --watch.
WIDTHS = {C.OFFSET_SECONDS: 8, C.MEASURE_SECONDS: 7, C.INTERVAL_SECONDS: 6}

# These words would make a column wider than its values.
ABBREVIATIONS = {
    "adjusted": "adj",
    "attempts": "tries",
    "authentication": "auth",
    "configured": "conf",
    "deviation": "dev",
    "effective": "eff",
    "frequency": "freq",
    "key establishment": "KE",
    "options": "opts",
    "original": "orig",
    "reachability": "reach",
    "residual": "resid",
    "standard": "std",
}


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


def show(column: Column, record: Report, *, brief: bool = False, precise: bool = False) -> str:
    """Return the text for a column of a table."""
    if not unknown(record).isdisjoint(column.attributes):
        return NOTHING
    values = [getattr(record, attribute) for attribute in column.attributes]
    if column.content is C.FLAGS and isinstance(values[0], bool):
        pairs = zip(column.attributes, values, strict=True)
        return listed(attribute.replace("_", " ") for attribute, on in pairs if on)
    return as_text(column.content, values, brief=brief, precise=precise)


def show_line(column: Column, record: Report) -> str:
    """Return the text after a label: precise, with the unit and the meaning of the sign."""
    text, value = show(column, record, precise=True), getattr(record, column.attributes[0])
    if text == NOTHING:
        return text
    if column.content in HEADED:
        text += f" {HEADED[column.content]}"
    if column.positive and value:
        text += f" ({sense(column.positive, value)})"
    return text


def sense(positive: str, value: float) -> str:
    """Return what the sign of a value means."""
    start, _, word = positive.rpartition(" ")
    return positive if value > 0 else f"{start} {OPPOSITES[word]}"


def text(model: type[Report], answer: Any, width: int, *, everything: bool = False) -> str:
    """Return a report as text, in lines of at most `width` characters if possible.

    A list is shown as a table, as a narrower table with symbols instead of words, or as a block for
    each source, whichever fits first. Without `everything`, sources whose name is not resolved are
    only counted.
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
    shown = columns(model)
    for brief in (False, True):
        lines = table(shown, records, brief=brief)
        if max(map(len, lines)) <= width:
            below = [wrapped(note, width) for note in notes(shown, records, brief=brief)]
            return "\n".join([*lines, *([""] if below else []), *below])
    return "\n\n".join(block(shown, record, width) for record in records)


def all_text(answers: AllReports, width: int, *, everything: bool = False) -> str:
    """Return all reports, each with its name and its summary as a heading."""
    return "\n\n\n".join(
        f"{heading(model)}\n\n{text(model, answer_of(answers, name), width, everything=everything)}"
        for name, model in MODELS.items()
    )


def answer_of(answers: AllReports, name: str) -> Any:
    """Return one of the reports, or the error in its place."""
    return answers.missing.get(name) or getattr(answers, name)


def wrapped(words: str, width: int, start: str = "", indent: int = 0) -> str:
    """Break text into lines, but never inside a word, which may be a path or an address."""
    return textwrap.fill(
        words,
        width,
        initial_indent=start,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def heading(model: type[Report]) -> str:
    """Return a report's name and its summary."""
    return f"{model._report.upper()}  {summary(model)}"


def block(shown: Sequence[Column], record: Report, width: int) -> str:
    """Return a record as lines of label and value."""
    edge = max(len(column.label) for column in shown) + 2
    return "\n".join(
        wrapped(show_line(column, record), max(width, edge + 20), column.label.ljust(edge), edge)
        for column in shown
    )


def table(shown: Sequence[Column], records: Sequence[Report], *, brief: bool) -> list[str]:
    """Return the lines of a table under headings of several lines."""
    cells = [[show(column, record, brief=brief) for record in records] for column in shown]
    titles = [_title(column, brief=brief) for column in shown]
    widths = [
        max(WIDTHS.get(column.content, 0), *map(len, (*title.split(), *values)))
        for column, title, values in zip(shown, titles, cells, strict=True)
    ]
    heads = [textwrap.wrap(title, width) for title, width in zip(titles, widths, strict=True)]
    depth = max(map(len, heads))
    stacks = [
        [*[""] * (depth - len(head)), *head, "-" * width, *values]
        for head, width, values in zip(heads, widths, cells, strict=True)
    ]
    left = [number for number, column in enumerate(shown) if column.content in LEFT]
    return aligned([*zip(*stacks, strict=True)], left, gap=" " if brief else "  ")


def notes(shown: Sequence[Column], records: Sequence[Report], *, brief: bool) -> list[str]:
    """Return what a table's signs mean, and its symbols."""
    found = []
    for phrase in dict.fromkeys(column.positive for column in shown if column.positive):
        names = [_title(c, unit=False) for c in shown if c.positive == phrase]
        found.append(f"positive {', '.join(names)}: {phrase}")
    for column in shown if brief else ():
        values = [getattr(record, column.attributes[0]) for record in records]
        legend = dict.fromkeys(entry for value in values for entry in _legend(value))
        if legend:
            found.append(f"{_title(column)}: {', '.join(legend)}")
    return found


def _legend(value: Any) -> list[str]:
    if isinstance(value, Flag):
        return [f"{name[0]} {name.lower()}" for name in flag_names(value)]
    return [f"{SYMBOLS[value]} {words(value)}"] if value in SYMBOLS else []


def _title(column: Column, *, brief: bool = False, unit: bool = True) -> str:
    title = column.label
    for long, short in ABBREVIATIONS.items():
        title = title.replace(long, short)
    if unit and column.content in HEADED:
        return f"{title} {HEADED[column.content]}"
    if unit and brief and column.content is C.INTERVAL_LOG2_SECONDS:
        return f"{title} log2"
    return title


# JSON.


def keys(model: type[Report], width: int) -> str:
    """Return the keys of a report's JSON, each with its unit, libchrony's name and its meaning."""
    lines = ["keys with --json, which are also the names in Python:"]
    for key, meaning in meanings(model).items():
        unit = f" ({meaning.unit})" if meaning.unit else ""
        names = " or ".join(f'"{name}"' for name in meaning.names)
        lines += ["", f"  {key}{unit}, libchrony's {names}"]
        if meaning.text:
            lines.append(wrapped(meaning.text, min(width, 92), " " * 6, 6))
    for key, meant in computed(model).items():
        lines += ["", f"  {key}", wrapped(meant, min(width, 92), " " * 6, 6)]
    return "\n".join(lines)


def as_json(answer: Any, *, indent: int | None = 2) -> str:
    """Return any answer as JSON: fields by name, enums as names, flags as lists of names."""
    return json.dumps(plain(answer), indent=indent)
