"""Converts the raw values of a record to those of a model's fields.

A time arrives as the result of `nanoseconds()`; all other values are libchrony's. A converter
raises `ValueError` for a value that it cannot represent.
"""

from __future__ import annotations

import math
from functools import lru_cache


def signed16(raw: int) -> int:
    """libchrony returns 16-bit integers without their sign."""
    return raw - 0x1_0000 if raw >= 0x8000 else raw


def unless_never(raw: int) -> int | None:
    """All ones in 32 bits is chronyd's "never" and "not supported"."""
    return None if raw == 0xFFFF_FFFF else raw


def unless_zero(raw: int) -> int | None:
    """Key numbers count from one: zero is chronyd's "there is none"."""
    return raw or None


def yes_or_no(raw: int) -> bool:
    """A boolean has 8 or 16 bits on the wire, so it could have other values."""
    if raw > 1:
        raise ValueError("neither 0 nor 1")
    return raw == 1


def nanoseconds(seconds: int, fraction: int) -> int:
    """Return a time in nanoseconds.

    A chronyd with 32-bit times sends 0x7fffffff as the high half of the seconds. Neither chronyd
    nor libchrony checks the fraction.
    """
    if seconds >> 32 == 0x7FFF_FFFF:
        seconds &= 0xFFFF_FFFF
    return seconds * 1_000_000_000 + (fraction if fraction < 1_000_000_000 else 999_999_999)


def epoch(time: int) -> float:
    """A float holds seconds since 1970 to about a quarter of a microsecond.

    The division is of two integers, which rounds only once.
    """
    return time / 1_000_000_000


def to_nanoseconds(seconds: float) -> int:
    """Round seconds since 1970 once: a product of floats would be off by a hundred nanoseconds."""
    if not math.isfinite(seconds):
        return 0
    numerator, denominator = seconds.as_integer_ratio()
    return (2 * numerator * 1_000_000_000 + denominator) // (2 * denominator)


@lru_cache(1024)
def clock_name(raw: int) -> str:
    """A reference clock's ID is up to four ASCII characters; like chronyc, skip other bytes."""
    return "".join(chr(byte) for byte in raw.to_bytes(4, "big") if 0x20 <= byte < 0x7F)


def dotted(raw: int) -> str:
    """A reference ID that is not text is an IPv4 address, or is written like one."""
    return ".".join(map(str, raw.to_bytes(4, "big"))) if raw else ""


def source_name(raw: int | str) -> str:
    """`sources` has an address, or the ID of a reference clock in its place."""
    return clock_name(raw) if isinstance(raw, int) else raw


LOCAL_REFERENCE = 0x7F7F_0101  # NTP_REFID_LOCAL of chrony: its `local` directive


def tracked_name(raw: int, address: str) -> str:
    """Without an address, chronyd tracks a reference clock, unless it is its own reference."""
    return dotted(raw) if address or raw == LOCAL_REFERENCE else clock_name(raw)


def upstream_name(raw: int, stratum: int) -> str:
    """A stratum 1 server follows a reference clock; stratum 0 has a kiss code (RFC 5905, 7.4)."""
    return clock_name(raw) if stratum <= 1 else dotted(raw)


# What follows from several fields.


def is_synchronized(reference_id: int, stratum: int) -> bool:
    """chronyd has a reference, if only itself; stratum 16 is NTP's "unsynchronised"."""
    return reference_id != 0 and stratum < 16


def error_bound(offset: float, root_dispersion: float, root_delay: float) -> float:
    """The largest error of the system clock in seconds, as in chronyc's manual."""
    return abs(offset) + root_dispersion + root_delay / 2
