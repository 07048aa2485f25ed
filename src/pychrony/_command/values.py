"""Renders single values as text: scaled to a suitable unit, and enums in words and symbols."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from enum import Enum, Flag
from typing import Any

from .._model.converters import clock_name
from .._model.durations import interval, seconds
from .._model.fields import FieldContent as C
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

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def as_text(content: C, values: Sequence[Any], *, brief: bool, precise: bool) -> str:
    """Return the values of one libchrony field as text.

    `brief` is for narrow tables, with symbols instead of words; `precise` is for single lines.
    """
    first = values[0]
    if first is None:
        return NOTHING
    if isinstance(first, Enum):
        return symbol(first) if brief else symbol_and_words(first)
    if content in _SECONDS:
        return seconds(first, sign=_SECONDS[content], decimals=3 if precise else None)
    if content in _PPM:
        return ppm(first, sign=_PPM[content], precise=precise)
    if content is C.INTERVAL_LOG2_SECONDS and not brief:
        return power(first)
    return _FORMATS.get(content, str)(*values)


def sense(positive: str, value: float) -> str:
    """Return what the sign of a value means."""
    start, _, word = positive.rpartition(" ")
    return positive if value > 0 else f"{start} {OPPOSITES[word]}"


def words(member: Enum) -> str:
    """Return an enum's member in words."""
    if member.name.startswith("UNKNOWN_"):
        return f"unknown {member.value}"
    if isinstance(member, KeyType) or member is AuthMode.NTS:
        return member.name.replace("_", "-")
    return WORDS.get(member) or member.name.replace("_", " ").lower()


def symbol(member: Enum) -> str:
    """Return chronyc's symbol for a member, initials for flags, or words if there is no symbol."""
    if isinstance(member, Flag):
        return "".join(name[0] for name in flag_names(member)) or NOTHING
    return SYMBOLS.get(member, words(member))


def symbol_and_words(member: Enum) -> str:
    """Return chronyc's symbol for a member, if there is one, and its meaning in words."""
    if isinstance(member, NTPFlag):
        return _tests(member)
    if isinstance(member, Flag):
        return listed(name.lower() for name in flag_names(member))
    return f"{SYMBOLS[member]} {words(member)}" if member in SYMBOLS else words(member)


def listed(names: Iterable[str]) -> str:
    """Return names as a list in one line."""
    return ", ".join(names) or NOTHING


def power(value: int) -> str:
    """Return the exponent, as in chrony.conf, and the interval that it stands for."""
    return f"{value} ({two_to(value)})" if value < 32 else str(value)


def two_to(power: int) -> str:
    """Return an interval of which the exponent is given."""
    return f"{1 << power} s" if power >= 0 else seconds(math.ldexp(1, power))


def ppm(value: float, *, sign: str = "", precise: bool = False) -> str:
    """Return a frequency as chronyc shows it; if `precise`, a small one with six decimals."""
    return f"{value:{sign}.{6 if precise and 0 < abs(value) < 0.01 else 3}f}"


def time(*values: float) -> str:
    """Return a time as text, from the last value, in nanoseconds; 0 is chronyd's "not yet"."""
    nanoseconds = int(values[-1])
    if not nanoseconds:
        return NOTHING
    try:
        moment = EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return f"{nanoseconds // 10**9} s since 1970"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03} UTC"


def address(*values: str | int) -> str:
    """Return an address, or the name of a reference clock in its place."""
    names = (clock_name(value) if isinstance(value, int) else value for value in values)
    return next(filter(None, names), NOTHING)


def reference_id(number: int, name: str = "") -> str:
    """Return a reference ID as chronyc shows it."""
    return f"{number:08X} ({name})" if name else f"{number:08X}"


def _tests(flags: NTPFlag) -> str:
    """As chronyc shows them: 1 for a test that was passed."""
    row = f"{flags.value & 0x3FF:010b}"
    others = (name.lower() for name in flag_names(flags) if not name.startswith("TEST"))
    return listed([f"{row[:3]} {row[3:6]} {row[6:]} (tests 123 567 ABCD)", *others])


_SECONDS = {C.OFFSET_SECONDS: "+", C.MEASURE_SECONDS: ""}
_PPM = {C.OFFSET_PPM: "+", C.MEASURE_PPM: ""}

_FORMATS: dict[C, Callable[..., str]] = {
    C.TIME: time,
    C.INTERVAL_SECONDS: interval,
    C.OFFSET_PPM_PER_SECOND: lambda value: f"{value:+.6f}",
    C.RATIO: lambda value: f"{value:.2f}",
    C.REFERENCE_ID: reference_id,
    C.BITS: lambda value: f"{value:03o}",
    C.ADDRESS: address,
    C.BOOLEAN: lambda value: "yes" if value else "no",
}
