"""How long a step of a release waits for others, so that it can still say why it failed."""

from __future__ import annotations

import os
import time

VARIABLE = "PYCHRONY_PATIENCE"
"""Seconds for every step instead of its own: a rehearsal has no time to wait."""


class Patience:
    """The time that one step may spend on waiting; all that it waits for shares it."""

    def __init__(self, seconds: float) -> None:
        """Start the clock."""
        self.seconds = float(os.environ.get(VARIABLE, seconds))
        self._end = time.monotonic() + self.seconds

    def left(self, at_most: float = float("inf")) -> float:
        """Return what is left of it in seconds, as a timeout: always a little more than nothing."""
        return max(0.01, min(at_most, self._end - time.monotonic()))

    def lasts(self, pause: float = 0) -> bool:
        """Tell whether something is left of it after a pause."""
        return time.monotonic() + pause < self._end

    def __str__(self) -> str:
        return f"{self.seconds:g} s"
