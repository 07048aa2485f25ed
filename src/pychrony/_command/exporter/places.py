"""Limits how many targets the exporter asks at once, so that dead ones do not block others."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FILES = 15_000
"""Descriptors needed to ask 2000 targets at the same time: two fifths of them for three files of
each target (a socket, libchrony's /dev/urandom, and an epoll descriptor), a third for HTTP
connections, and the rest, a quarter, for more sockets of targets with long lists."""
REMEMBERED = 100_000
"""Maximum number of targets to remember."""


class NoPlaceError(Exception):
    """There is no free place for a target at present."""


class Places:
    """Places for targets to ask; half of them are reserved for targets that answered last time.

    A target that does not answer occupies its place until its timeout has passed.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.taken = 0
        self._strangers = 0
        self._answered: dict[str, bool] = {}  # the least recent first

    @contextmanager
    def place(self, target: str) -> Iterator[None]:
        """Take a place while the target is asked; raise `NoPlaceError` if there is none."""
        stranger = not self._answered.get(target, False)
        if stranger and self._strangers >= self._number // 2:
            raise NoPlaceError(f"all {self._strangers} places for new and silent targets are taken")
        if self.taken >= self._number:
            raise NoPlaceError(f"all {self.taken} places are taken")
        self.taken += 1
        self._strangers += stranger
        try:
            yield
        finally:
            self.taken -= 1
            self._strangers -= stranger

    def note(self, target: str, *, answered: bool) -> bool:
        """Remember whether the target answered; return whether this is news.

        A target's first answer is not news.
        """
        before = self._answered.pop(target, True)
        self._answered[target] = answered
        if len(self._answered) > REMEMBERED:
            del self._answered[next(iter(self._answered))]
        return answered != before


def open_files() -> int:
    """Raise the limit on open files as far as needed, and return it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a sandbox may forbid it
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))
    return min(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
