"""Ranges of good values, as the guidelines of the Monitoring Plugins project write them."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from .durations import parse as parse_duration
from .durations import seconds


class Range(NamedTuple):
    """Durations that are good: those from `start` to `end`, or all others."""

    end: float
    start: float = 0.0
    others: bool = False

    def complaint(self, value: float) -> str:
        """Return what is wrong with a duration; an empty text if it is good."""
        if self.others == (value < self.start or value > self.end):
            return ""
        if self.others:
            return f"is between {seconds(self.start)} and {seconds(self.end)}"
        if value > self.end:
            return f"is above {seconds(self.end)}"
        return f"is below {seconds(self.start)}"

    def is_limit(self) -> bool:
        """Whether only too long durations are bad."""
        return self.start <= 0 and not self.others

    def __str__(self) -> str:
        """Return the range in seconds, as performance data have it."""
        start = "~" if self.start == -inf else plain(self.start)
        end = "" if self.end == inf else plain(self.end)
        return f"{'@' if self.others else ''}{end if start == '0' and end else f'{start}:{end}'}"


def parse(text: str) -> Range:
    """Parse a range such as `10ms`, `1us:10ms`, `1us:`, `~:10ms` or `@1s:2s`.

    Raises `ValueError` for anything else.
    """
    first, colon, last = text.strip().removeprefix("@").partition(":")
    if not colon:
        first, last = "", first
        if not last:
            raise ValueError(f"{text!r} is neither a duration nor a range such as 1ms:10ms")
    start = -inf if first == "~" else parse_duration(first or "0")
    end = parse_duration(last) if last else inf
    if start > end:
        raise ValueError(f"the range {text!r} ends before it starts")
    return Range(end, start, text.strip().startswith("@"))


def plain(value: float) -> str:
    """Return a number without an exponent, which not all graphing tools understand."""
    return f"{value:.9f}".rstrip("0").rstrip(".")
