"""Limits how many targets the exporter asks at once, so that dead ones do not block others."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MOST = 1000
"""The most targets to ask at the same time; each takes a thread."""
FILES = 16
"""Descriptors needed for each: half of them for its sockets, half for HTTP connections."""
REMEMBERED = 100_000
"""The most targets to remember as having answered."""


class NoPlaceError(Exception):
    """There is no free place for a target at present."""


class Places:
    """Places for targets to ask; half of them are reserved for targets that answered last time.

    A target that does not answer occupies its place until its timeout has passed.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._taken = 0
        self._strangers = 0
        self._answered: dict[str, None] = {}  # the longest first
        self._lock = threading.Lock()

    @contextmanager
    def place(self, target: str) -> Iterator[None]:
        """Take a place while the target is asked; raise `NoPlaceError` if there is none."""
        with self._lock:
            stranger = target not in self._answered
            if stranger and self._strangers >= self._number // 2:
                raise NoPlaceError(
                    f"all {self._strangers} places for new and silent targets are taken"
                )
            if self._taken >= self._number:
                raise NoPlaceError(f"all {self._taken} places are taken")
            self._taken += 1
            self._strangers += stranger
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1
                self._strangers -= stranger

    def note(self, target: str, *, answered: bool) -> None:
        """Remember whether the target answered."""
        with self._lock:
            self._answered.pop(target, None)
            if answered:
                self._answered[target] = None
            if len(self._answered) > REMEMBERED:
                del self._answered[next(iter(self._answered))]


def places() -> Places:
    """Raise the limit on open files, and return as many places as it allows."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST * FILES
    if limit != resource.RLIM_INFINITY and limit < wanted:
        wanted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
            limit = wanted
    number = MOST if limit == resource.RLIM_INFINITY else min(MOST, limit // FILES)
    return Places(max(2, number))
