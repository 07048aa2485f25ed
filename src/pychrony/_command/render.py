"""Renders reports as text for people and as JSON for programs, driven by the models' tables.

A single report has each field under libchrony's name for it; `lists` makes tables.
"""

from __future__ import annotations

import json
from typing import Any

from .._io.failures import is_off
from .._model.fields import FieldContent as C
from .._model.fields import Report, origins
from .._model.meanings import computed, meanings, summary
from .._model.placeholders import is_resolved
from .._model.plain import plain
from ..exceptions import ChronyError
from ..models import MODELS, AllReports
from .grid import wrapped
from .lists import table
from .values import line


def text(model: type[Report], answer: Any, width: int, *, everything: bool = False) -> str:
    """Return a report as text, in lines of at most `width` characters if possible.

    A list is shown as a table, or as a block for each source if no table fits. Without
    `everything`, sources whose name is not resolved are only counted.
    """
    if isinstance(answer, ChronyError):
        why = "off" if is_off(model._report, answer) else "not available"
        return wrapped(f"{why}: {answer._reason}", width)
    if isinstance(answer, Report):
        return block(answer, width)
    known = [record for record in answer if everything or is_resolved(record)]
    hidden = len(answer) - len(known)
    note = f"{hidden} more whose name is not resolved: -a shows them" if hidden else ""
    if not known:
        return wrapped(f"none; {note}" if note else "none", width)
    lines = table(known, width)
    blocks = (block(record, width) for record in known)
    shown = "\n".join(lines) if lines else "\n\n".join(blocks)
    return f"{shown}\n\n{note}" if note else shown


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


def block(record: Report, width: int) -> str:
    """Return a record as lines of label and value."""
    lines = {label: line(record, name) for label, name in labels(record).items()}
    edge = max(map(len, lines)) + 2
    return "\n".join(
        wrapped(text, max(width, edge + 20), label.ljust(edge), edge)
        for label, text in lines.items()
    )


def labels(record: Report) -> dict[str, str]:
    """Return the attribute to show for each field of libchrony, or for each flag of a field.

    A source's reference ID is left out: its address says the same.
    """
    found: dict[str, str] = {}
    for name, origin in origins(type(record)).items():
        is_flag = origin.content is C.FLAGS and isinstance(getattr(record, name), bool)
        if origin.content is not C.NONE:
            found.setdefault(name.replace("_", " ") if is_flag else origin.names[0], name)
    if "address" in found and hasattr(record, "name"):
        found.pop("reference ID", None)
    return found


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
