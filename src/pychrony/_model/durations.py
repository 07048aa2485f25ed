"""Formats durations in a suitable unit, and parses them."""

from __future__ import annotations

DAY = 86400

UNITS = {
    **{"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3},
    **{"s": 1.0, "m": 60.0, "h": 3600.0, "d": float(DAY)},
}
"""Seconds in each unit; keyboards have both of Unicode's signs for micro."""


def parse(text: str) -> float:
    """Parse a duration such as `2.5us`, `10ms`, `5s` or `5m`; return seconds.

    A number without a unit is in seconds. Raises `ValueError` for anything else, and for a duration
    that is negative or not finite.
    """
    number = text.strip()
    unit = next((u for u in UNITS if number.endswith(u)), "")  # "ms" comes before "s"
    try:
        value = float(number.removesuffix(unit)) * UNITS[unit or "s"]
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text!r} is not a duration such as 10ms, 2.5us, 5s or 5m")
    return value


def seconds(value: float, *, sign: str = "", decimals: int | None = None) -> str:
    """Format seconds in a suitable unit, by default with three digits."""
    size = abs(value)
    if size == 0:
        return "0 s"
    scales = ((1e9, "ns"), (1e6, "µs"), (1e3, "ms"), (1.0, "s"))
    factor, unit = next((f, u) for f, u in scales if size * f < 999.5 or u == "s")
    if decimals is None:
        decimals = 2 if size * factor < 9.995 else 1 if size * factor < 99.95 else 0
    return f"{value * factor:{sign}.{decimals}f} {unit}"


def interval(value: float) -> str:
    """Format a duration, in two units if it is long, or like `seconds()` below a second."""
    if abs(value) < 1:
        return seconds(value)
    if abs(value) < 599.95:
        return f"{value} s" if isinstance(value, int) else f"{value:.1f} s"
    pairs = ((365 * DAY, "y", DAY, "d"), (DAY, "d", 3600, "h"), (3600, "h", 60, "m"))
    whole = round(abs(value))
    size, unit, part, smaller = next((p for p in pairs if whole >= p[0]), (60, "m", 1, "s"))
    whole, rest = divmod(round(abs(value) / part), size // part)
    return f"{'-' if value < 0 else ''}{whole}{unit}{rest:02}{smaller}"
