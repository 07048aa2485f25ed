"""Turns reports into the plain values that `json.dumps()` takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum, Flag
from typing import Any

from ..exceptions import ChronyError


def fields_of(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, with plain values."""
    return {f.name: plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def plain(value: Any) -> Any:
    """Return a value with enums as names, flags as lists of names, and objects as dictionaries."""
    if isinstance(value, Flag):
        return flag_names(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, ChronyError):
        return {"error": type(value).__name__, "message": value.message}
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return fields_of(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def flag_names(flags: Flag) -> list[str]:
    """Return the names of the flags that are set, including those newer than this package."""
    known = [flag for flag in type(flags) if flag in flags]
    rest = flags.value & ~sum(flag.value for flag in known)
    new = [f"UNKNOWN_{1 << bit}" for bit in range(rest.bit_length()) if rest >> bit & 1]
    return [*(flag.name or "" for flag in known), *new]
