"""Decides when a clock is good enough, and how long to wait until then."""

from __future__ import annotations

import time
from typing import TypeGuard

from ._io.address import MAX_TIMEOUT
from ._model.durations import interval, seconds
from .exceptions import (
    ChronyConnectionError,
    ChronyError,
    ChronyNotSynchronizedError,
    ChronyPermissionError,
)
from .models import TrackingStatus

FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0
"""The first and the longest pause between two questions, in seconds; pauses double in between."""

SHORTEST_QUESTION = 0.25
"""Seconds that a question may take even if no time is left."""


def _may_pass(error: object) -> TypeGuard[ChronyPermissionError]:
    """Whether the system denies access: at boot, the socket's folder may be opened later."""
    return isinstance(error, ChronyPermissionError) and error.errno is not None


class Waiting:
    """A wait for a clock that is synchronised to a source and, if asked for, accurate enough.

    As with chronyc's `waitsync`, a chronyd that is its own reference does not count.
    """

    def __init__(
        self, max_error: float | None, timeout: float | None, *, local_ok: bool = False
    ) -> None:
        """Start the wait; raise `ValueError` for numbers that cannot be."""
        if max_error is not None and not max_error >= 0:
            raise ValueError(f"max_error must be at least 0, not {max_error!r}")
        if timeout is not None and not 0 <= timeout <= MAX_TIMEOUT:
            raise ValueError(f"timeout must be from 0 to {MAX_TIMEOUT:.0f}, not {timeout!r}")
        self._max_error, self._timeout, self._local_ok = max_error, timeout, local_ok
        self._start = time.monotonic()
        self._pause = FIRST_PAUSE
        self.state = "no answer yet"
        """What is missing, in words."""
        self.obstacle = ""
        """The same without numbers, which change each time."""

    @property
    def passed(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self._start

    def left(self, most: float | None = None) -> float | None:
        """Return the seconds left, but at most `most`; `None` if there is no limit."""
        if self._timeout is None:
            return most
        left = max(0.0, self._timeout - self.passed)
        return left if most is None else min(left, most)

    def for_question(self, usual: int) -> int:
        """Return the timeout of the next question, in nanoseconds; negative: no limit."""
        left = self.left()
        if left is None:
            return usual
        shortened = int(max(left, SHORTEST_QUESTION) * 1e9)
        return shortened if usual < 0 else min(usual, shortened)

    def pause_after(self, answer: TrackingStatus | ChronyError) -> float | None:
        """Return how long to pause before the next question; `None` if the clock is good.

        Raises `ChronyNotSynchronizedError` when there is no time left.
        """
        self.obstacle, self.state = self._judge(answer)
        if not self.obstacle:
            return None
        if self.left() == 0:
            cause = answer if isinstance(answer, ChronyError) else None
            words = f"not good within {interval(self._timeout or 0)}: {self.state}"
            raise ChronyNotSynchronizedError._compose("waiting for the clock", "", words) from cause
        pause, self._pause = self._pause, min(2 * self._pause, LAST_PAUSE)
        return self.left(pause)

    def _judge(self, answer: TrackingStatus | ChronyError) -> tuple[str, str]:
        """Return the obstacle, and the state; empty texts if the clock is good."""
        if isinstance(answer, ChronyConnectionError) or _may_pass(answer):
            return answer._outcome, answer.message
        if isinstance(answer, ChronyError):
            raise answer
        obstacle = bound = ""
        if not answer.is_synchronized():
            obstacle = "chronyd is not synchronised"
        elif answer.is_local_reference():
            obstacle = "" if self._local_ok else "chronyd is its own reference, without a source"
        elif self._max_error is not None and answer.error_bound > self._max_error:
            obstacle = "error bound"
            bound = f" {seconds(answer.error_bound)}, above {seconds(self._max_error)}"
        return obstacle, obstacle + bound
