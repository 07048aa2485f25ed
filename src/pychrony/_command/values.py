"""Shows single values of reports as text: scaled to a suitable unit, and enums in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from enum import Enum, Flag
from typing import Any

from .._model.durations import interval, seconds
from .._model.fields import FieldContent as C
from .._model.fields import origins
from .._model.placeholders import unknown
from .._model.plain import flag_names
from ..models import AuthMode, KeyType, NTPFlag, SelectState, SourceMode, SourceState

NOTHING = "-"

# chronyc's own.
SYMBOLS: dict[Enum, str] = {
    SourceState.SELECTED: "*",
    SourceState.NONSELECTABLE: "?",
    SourceState.FALSETICKER: "x",
    SourceState.JITTERY: "~",
    SourceState.UNSELECTED: "+",
    SourceState.SELECTABLE: "-",
    SourceMode.CLIENT: "^",
    SourceMode.PEER: "=",
    SourceMode.REFCLOCK: "#",
    **{state: state.value for state in SelectState},
}

# libchrony's word says the opposite of what the state means.
WORDS: dict[Enum, str] = {SourceState.UNSELECTED: "combined"}

OPPOSITES = {"ahead": "behind", "behind": "ahead", "fast": "slow"}

# Minimum widths in a table, so that it keeps its shape with --watch.
WIDTHS = {C.OFFSET_SECONDS: 7, C.MEASURE_SECONDS: 7, C.INTERVAL_SECONDS: 6}

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def line(record: Any, name: str) -> str:
    """Return a field for a line of its own: precise, with the sign and its whole meaning."""
    text, meaning = _text(record, name, precise=True), _sense(record, name)
    return f"{text} ({meaning})" if meaning and text != NOTHING else text


def cell(record: Any, name: str) -> str:
    """Return a field for a table: short, with a word in place of the sign."""
    text, meaning = _text(record, name, precise=False), _sense(record, name)
    if text == NOTHING:
        return text
    width = WIDTHS.get(origins(type(record))[name].content, 0)
    if not meaning:
        return text.rjust(width)
    word = meaning.split()[-1].rjust(len("behind") if width else 0)
    return f"{text.removeprefix('-').rjust(width)} {word}"


def _text(record: Any, name: str, *, precise: bool) -> str:
    value, content = getattr(record, name), origins(type(record))[name].content
    if value is None or name in unknown(record):
        return NOTHING
    if name == "address":
        return str(record.name)  # a reference clock's ID
    if isinstance(value, Enum):
        return symbol_and_words(value) or NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if content is C.TIME:
        return time(record.ref_time_ns)
    if content is C.REFERENCE_ID:
        name = record.reference_id_name
        return f"{value:08X} ({name})" if name else f"{value:08X}"
    if content in (C.OFFSET_SECONDS, C.MEASURE_SECONDS):
        sign = "+" if precise and content is C.OFFSET_SECONDS else ""
        return seconds(value, sign=sign, decimals=3 if precise else None)
    if content in (C.OFFSET_PPM, C.MEASURE_PPM):
        sign = "+" if precise and content is C.OFFSET_PPM else ""
        digits = 6 if precise and 0 < abs(value) < 0.01 else 3
        return f"{value:{sign}.{digits}f} ppm"
    if content is C.INTERVAL_LOG2_SECONDS and -32 < value < 32:
        return f"{value} ({two_to(value)})" if precise else two_to(value)
    return _FORMATS.get(content, str)(value) or NOTHING


def _sense(record: Any, name: str) -> str:
    """Return what the sign of a value means, if it has one."""
    value, positive = getattr(record, name), origins(type(record))[name].positive
    if not positive or not value:
        return ""
    start, _, word = positive.rpartition(" ")
    return positive if value > 0 else f"{start} {OPPOSITES[word]}"


def symbol_and_words(member: Enum) -> str:
    """Return chronyc's symbol for a member, if there is one, and its meaning in words."""
    if isinstance(member, NTPFlag):
        return _tests(member)
    if isinstance(member, Flag):
        return ", ".join(name.lower() for name in flag_names(member))
    return f"{SYMBOLS[member]} {words(member)}" if member in SYMBOLS else words(member)


def words(member: Enum) -> str:
    """Return an enum's member in words."""
    if member.name.startswith("UNKNOWN_"):
        return f"unknown {member.value}"
    if isinstance(member, KeyType) or member is AuthMode.NTS:
        return member.name.replace("_", "-")
    return WORDS.get(member) or member.name.replace("_", " ").lower()


def two_to(power: int) -> str:
    """Return an interval of which the exponent is given."""
    return f"{1 << power} s" if power >= 0 else seconds(math.ldexp(1, power))


def time(nanoseconds: int) -> str:
    """Return a time as text; 0 is chronyd's "not yet"."""
    if not nanoseconds:
        return NOTHING
    try:
        moment = EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return f"{nanoseconds // 10**9} s since 1970"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03} UTC"


def _tests(flags: NTPFlag) -> str:
    """As chronyc shows them: 1 for a test that was passed."""
    row = f"{flags.value & 0x3FF:010b}"
    others = (name.lower() for name in flag_names(flags) if not name.startswith("TEST"))
    return ", ".join([f"{row[:3]} {row[3:6]} {row[6:]} (tests 123 567 ABCD)", *others])


_FORMATS: dict[C, Callable[..., str]] = {
    C.INTERVAL_SECONDS: interval,
    C.OFFSET_PPM_PER_SECOND: "{:+.6f} ppm/s".format,
    C.RATIO: "{:.2f}".format,
    C.BITS: "{:03o}".format,
    C.LENGTH_BITS: "{} bits".format,
    C.LENGTH_BYTES: "{} bytes".format,
}
