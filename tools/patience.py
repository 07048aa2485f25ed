"""Limits how long a step of a release waits for others, so that it can say why it failed."""

from __future__ import annotations

import os
import time

VARIABLE = "PYCHRONY_PATIENCE"
"""Seconds that replace the patience of every step: a rehearsal cannot wait long."""


class Patience:
    """The time that one step may spend on waiting, shared by everything that it waits for."""

    def __init__(self, seconds: float) -> None:
        """Start the clock."""
        self.seconds = float(os.environ.get(VARIABLE, seconds))
        self._end = time.monotonic() + self.seconds

    def left(self, at_most: float = float("inf")) -> float:
        """Return the seconds left, as a timeout: always a little more than 0."""
        return max(0.01, min(at_most, self._end - time.monotonic()))

    def lasts(self, pause: float = 0) -> bool:
        """Pause; return whether there is time left."""
        return time.monotonic() + pause < self._end

    def __str__(self) -> str:
        return f"{self.seconds:g} s"
