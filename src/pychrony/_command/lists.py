"""Shows lists of sources as tables: the state first, and one line for each source.

A wide table has words, a narrower one symbols as chronyc's tables do; a narrow terminal gets the
most important columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Flag
from typing import Any, NamedTuple

from .._model.fields import FieldContent as C
from .._model.fields import Report, origins
from .._model.meanings import meanings
from .._model.placeholders import unknown
from .._model.plain import flag_names
from .grid import aligned, shortened, wrapped
from .values import NOTHING, SYMBOLS, as_text, sense, two_to, words


class Layout(NamedTuple):
    """The columns of a report, by attribute."""

    columns: tuple[str, ...]
    least: tuple[str, ...]
    """Those that a narrow table leaves out, in this order."""


LAYOUTS = {
    "sources": Layout(
        (
            *("state", "mode", "name", "stratum", "poll", "reachability", "last_sample_ago"),
            *("latest_meas", "latest_meas_err", "orig_latest_meas"),
        ),
        ("orig_latest_meas", "poll", "stratum", "mode", "latest_meas_err", "last_sample_ago"),
    ),
    "sourcestats": Layout(
        (
            *("name", "samples", "runs", "span", "resid_freq", "skew"),
            *("offset", "std_dev", "offset_err"),
        ),
        ("offset_err", "runs", "samples", "span", "skew", "std_dev"),
    ),
    "selectdata": Layout(
        (
            *("state", "name", "authentication", "configured_options", "effective_options"),
            *("last_sample_ago", "score", "low_limit", "high_limit", "leap_status"),
        ),
        ("leap_status", "authentication", "configured_options", "score", "last_sample_ago"),
    ),
    "authdata": Layout(
        (
            *("name", "mode", "key_id", "key_type", "key_length", "ke_attempts", "last_ke_ago"),
            *("nak", "cookies", "cookie_length"),
        ),
        ("cookie_length", "key_length", "key_type", "cookies", "key_id"),
    ),
}

HEADS = {
    "name": "source",
    "reachability": "reach",
    "last_sample_ago": "last",
    "latest_meas": "system clock",
    "latest_meas_err": "error",
    "orig_latest_meas": "when measured",
    "resid_freq": "frequency",
    "offset": "system clock",
    "offset_err": "error",
    "std_dev": "deviation",
    "authentication": "auth",
    "configured_options": "options",
    "effective_options": "effective",
    "low_limit": "from",
    "high_limit": "to",
    "leap_status": "leap",
    "key_id": "key",
    "key_type": "type",
    "key_length": "bits",
    "ke_attempts": "tries",
    "last_ke_ago": "last",
    "nak": "NAK",
    "cookie_length": "bytes",
}
BRIEF_HEADS = {"state": "S", "mode": "M", "configured_options": "opts", "effective_options": "eff"}
"""Heads of columns that have symbols or initials."""

# Minimum widths, so that a table keeps its shape with --watch.
WIDTHS = {C.OFFSET_SECONDS: 7, C.MEASURE_SECONDS: 7, C.INTERVAL_SECONDS: 6}
WORDS = {C.OFFSET_SECONDS: len("behind")}
TOGETHER = "\N{NO-BREAK SPACE}"
"""Between a symbol and its meaning, until the lines are broken."""
SHORTEST = 16
"""The fewest characters of a name: an IPv4 address fits."""


def table(model: type[Report], records: Sequence[Report], width: int) -> list[str] | None:
    """Return the lines of a table; `None` if the report has none that fits."""
    layout = LAYOUTS.get(model._report)
    if layout is None:
        return None
    names = [*layout.columns, *_new(model, layout)]
    if _fits(lines := _lines(names, records, brief=False), width):
        return lines
    for left_out in range(len(layout.least) + 1):
        kept = [name for name in names if name not in layout.least[:left_out]]
        for longest in (width, max(SHORTEST, width // 3)):
            if _fits(lines := _lines(kept, records, brief=True, longest=longest), width):
                return [*lines, *_legend(kept, records, width)]
    return None


def explained(model: type[Report], width: int) -> str:
    """Return what each column of the report's table means."""
    lines = []
    for name in LAYOUTS[model._report].columns:
        text = "Address, or a reference clock's ID"
        if name != "name":
            text = re.split(r"[.;:,](?: |$)| as a power", meanings(model)[name].text)[0]
        lines.append(wrapped(f"{HEADS.get(name, name.replace('_', ' '))}: {text}", width, indent=2))
    return "\n".join(lines)


def _new(model: type[Report], layout: Layout) -> list[str]:
    """Return the attributes that are shown although the layout does not have them yet."""
    shown = {*layout.columns, "address", "reference_id"}
    return [a for a, o in origins(model).items() if a not in shown and o.content is not C.NONE]


def _fits(lines: Sequence[str], width: int) -> bool:
    return max(map(len, lines)) <= width


def _lines(
    names: Sequence[str], records: Sequence[Report], *, brief: bool, longest: int = 1000
) -> list[str]:
    left = [number for number, name in enumerate(names) if _is_left(type(records[0]), name)]
    rows = [[_head(name, records, brief=brief) for name in names]]
    rows += [[cell(record, name, longest, brief=brief) for name in names] for record in records]
    return aligned(rows, left, gap=" " if brief else "  ")


def _is_left(model: type[Report], name: str) -> bool:
    return name == "name" or origins(model)[name].content in (C.ENUM, C.FLAGS, C.BOOLEAN)


def _head(name: str, records: Sequence[Any], *, brief: bool) -> str:
    values = [getattr(record, name) for record in records]
    if brief and any(isinstance(value, Flag) or value in SYMBOLS for value in values):
        return BRIEF_HEADS.get(name, name)
    return HEADS.get(name, name.replace("_", " "))


def cell(record: Any, name: str, longest: int, *, brief: bool) -> str:
    """Return a value: with its unit, the sign in words, and a name of at most `longest` letters."""
    value = getattr(record, name)
    if name == "name":
        return shortened(value, longest)
    if value is None or name in unknown(record):
        return NOTHING
    origin = origins(type(record))[name]
    content = origin.content
    if content is C.INTERVAL_LOG2_SECONDS and -32 < value < 32:
        return two_to(value)
    signed = bool(origin.positive) and value != 0
    text = as_text(content, [abs(value) if signed else value], brief=brief, precise=False)
    if content in (C.MEASURE_PPM, C.OFFSET_PPM):
        text += " ppm"
    text = (text.removeprefix("+") if signed else text).rjust(WIDTHS.get(content, 0))
    if not signed:
        return text
    word = sense(origin.positive, value).split()[-1]
    return f"{text} {word.rjust(WORDS.get(content, 0))}"


def _legend(names: Sequence[str], records: Sequence[Any], width: int) -> list[str]:
    """Return what the symbols and initials mean, below a blank line."""
    found: dict[str, list[str]] = {}
    for name in names:
        values = [getattr(record, name) for record in records]
        entries = dict.fromkeys(entry for value in values for entry in _meaning(value))
        if entries:
            heads = found.setdefault(", ".join(entries), [])
            heads.append(_head(name, records, brief=True))
    texts = [f"{', '.join(heads)}: {words}" for words, heads in found.items()]
    lines = [wrapped(text, width).replace(TOGETHER, " ") for text in texts]
    return ["", *lines] if lines else []


def _meaning(value: Any) -> list[str]:
    if isinstance(value, Flag):
        return [f"{name[0]}{TOGETHER}{name.lower()}" for name in flag_names(value)]
    return [f"{SYMBOLS[value]}{TOGETHER}{words(value)}"] if value in SYMBOLS else []
