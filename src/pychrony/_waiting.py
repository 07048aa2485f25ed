"""Decides when a clock is good enough, and how long to wait until then."""

from __future__ import annotations

import math
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
        self._max_error, self._local_ok = max_error, local_ok
        self._timeout = math.inf if timeout is None else timeout
        self._start = time.monotonic()
        self._next_pause = FIRST_PAUSE
        self.pause = 0.0
        """How long to pause before the next question, in seconds."""
        self.good: TrackingStatus | None = None
        """The report that says that the clock is good, once there is one."""
        self.state = "no answer yet"
        """What is missing, in words."""
        self.obstacle = ""
        """The same without numbers, which change each time."""

    @property
    def passed(self) -> float:
        """Seconds since the wait began."""
        return time.monotonic() - self._start

    def left(self, most: float) -> float:
        """Return the seconds left, but at most `most`."""
        return min(most, max(0.0, self._timeout - self.passed))

    def for_question(self, usual: int) -> int:
        """Return the timeout of the next question, in nanoseconds; a negative `usual` is none."""
        longest = int(max(self.left(MAX_TIMEOUT), SHORTEST_QUESTION) * 1e9)
        return longest if usual < 0 else min(usual, longest)

    def take(self, answer: TrackingStatus | ChronyError) -> None:
        """Judge an answer: set `good` or `pause`.

        Raises `ChronyNotSynchronizedError` when there is no time left.
        """
        self.obstacle, self.state = self._judge(answer)
        if not self.obstacle and isinstance(answer, TrackingStatus):
            self.good = answer
            return
        if self.passed >= self._timeout:
            cause = answer if isinstance(answer, ChronyError) else None
            words = f"not good within {interval(self._timeout)}: {self.state}"
            raise ChronyNotSynchronizedError._compose("waiting for the clock", "", words) from cause
        self.pause = self.left(self._next_pause)
        self._next_pause = min(2 * self._next_pause, LAST_PAUSE)

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
