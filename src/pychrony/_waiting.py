"""Decides how long to wait for a synchronised clock, and says how far it is."""

from __future__ import annotations

import time

from ._durations import interval, seconds
from .exceptions import ChronyConnectionError, ChronyError, ChronyNotSynchronizedError
from .models import TrackingStatus

FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0
"""Seconds between two questions: a clock may be good at once, or take minutes."""

SHORTEST_QUESTION = 0.25
"""Seconds that a question may take, also when there is no time left."""


class Waiting:
    """A wait for a clock that is synchronised to a source, with an error bound if one is given.

    Like chronyc's `waitsync`, it does not take a chronyd that is its own reference for one.
    """

    def __init__(
        self, max_error: float | None, timeout: float | None, *, local_ok: bool = False
    ) -> None:
        """Begin to wait; raise `ValueError` for numbers that cannot be meant."""
        for name, value in (("max_error", max_error), ("timeout", timeout)):
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be negative, but it is {value!r}")
        self._max_error, self._timeout, self._local_ok = max_error, timeout, local_ok
        self._start = time.monotonic()
        self._pause = FIRST_PAUSE
        self.state = "no answer yet"
        """How far it is, in words."""

    @property
    def passed(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self._start

    def left(self, most: float | None = None) -> float | None:
        """Return the seconds left, at most `most`; `None` for ever."""
        if self._timeout is None:
            return most
        left = max(0.0, self._timeout - self.passed)
        return left if most is None else min(left, most)

    def for_question(self, usual: int) -> int:
        """Return the timeout of the next question, in nanoseconds; negative for none."""
        left = self.left()
        if left is None:
            return usual
        shortened = int(max(left, SHORTEST_QUESTION) * 1e9)
        return shortened if usual < 0 else min(usual, shortened)

    def pause_after(self, answer: TrackingStatus | ChronyError) -> float | None:
        """Return how long to pause before the next question; `None` if the clock is good.

        Raises `ChronyNotSynchronizedError` when there is no time left.
        """
        self.state = self._judge(answer)
        if not self.state:
            return None
        if self.left() == 0:
            cause = answer if isinstance(answer, ChronyError) else None
            raise ChronyNotSynchronizedError(
                f"waiting for the clock: not good within {interval(self._timeout or 0)}: "
                f"{self.state}"
            ) from cause
        pause, self._pause = self._pause, min(2 * self._pause, LAST_PAUSE)
        return self.left(pause)

    def _judge(self, answer: TrackingStatus | ChronyError) -> str:
        """Say what is missing; nothing if the clock is good."""
        if isinstance(answer, ChronyConnectionError):
            return answer.message
        if isinstance(answer, ChronyError):
            raise answer
        if not answer.is_synchronized():
            return "chronyd is not synchronised"
        if answer.is_local_reference():
            return "" if self._local_ok else "chronyd is its own reference, and follows no source"
        if self._max_error is not None and answer.error_bound > self._max_error:
            return f"error bound {seconds(answer.error_bound)}, above {seconds(self._max_error)}"
        return ""
