"""Looks up names in daemon threads, so that no call waits for longer than its timeout.

The system's resolver cannot be interrupted: a look-up may outlive the calls that wait for it. Calls
that want the same name share a look-up. They poll it, so no thread has to wake a call that may have
been interrupted by a signal or copied by a fork.
"""

from __future__ import annotations

import _thread
import os
import time
from collections.abc import Callable

SHORTEST, LONGEST = 100_000, 50_000_000
"""The first and the longest pause between two polls, in nanoseconds."""


class LookUp:
    """The look-up of one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = False
        self.found: list[str] = []
        self.error: Exception | None = None
        self.starter = 0
        """The thread that is starting the look-up's own thread."""
        self._start = time.monotonic_ns()

    def pause(self) -> int:
        """Return the nanoseconds until the next poll, which grow with the time that has passed."""
        passed = time.monotonic_ns() - self._start
        return min(max(SHORTEST, passed // 8), LONGEST)


class LookUps:
    """Look-ups of one kind, each in a thread."""

    def __init__(self, resolve: Callable[[str], list[str]], most: int) -> None:
        """`resolve` looks up a name, which may take seconds; at most `most` threads call it."""
        self._resolve, self._most = resolve, most
        self.progress = 0
        """When a look-up has last ended, in nanoseconds on the monotonic clock."""
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Begin without threads, as a forked child does, which has none of its parent's."""
        self.running: dict[str, LookUp] = {}

    @property
    def full(self) -> bool:
        """Whether there are as many threads as there may be."""
        return len(self.running) >= self._most

    def poll(self, look_up: LookUp) -> LookUp:
        """Start a look-up unless it is done or in progress; return the one to poll next."""
        # Look here first: a look-up that is done is removed from here.
        running = self.running.get(look_up.name)
        if look_up.done:
            return look_up
        # A signal handler must not wait for a thread that starts only after the handler has ended.
        if running is not None and running.starter != _thread.get_ident():
            return running
        if not self.full:
            self._start(look_up)
        return look_up

    def _start(self, look_up: LookUp) -> None:
        look_up.starter = _thread.get_ident()
        try:
            self.running[look_up.name] = look_up
            # Like daemon threads, these do not delay the end of the program.
            _thread.start_new_thread(self._work, (look_up,))
            look_up.starter = 0
        except BaseException as error:
            self._remove(look_up)
            if not isinstance(error, RuntimeError):
                raise
            if not self.running:  # the system allows no thread
                look_up.error = error
                look_up.done = True

    def _work(self, look_up: LookUp) -> None:
        try:
            look_up.found = self._resolve(look_up.name)
        except Exception as error:
            look_up.error = error
        finally:
            look_up.done = True
            self.progress = time.monotonic_ns()
            self._remove(look_up)

    def _remove(self, look_up: LookUp) -> None:
        if self.running.get(look_up.name) is look_up:
            self.running.pop(look_up.name, None)


def _addresses(host: str) -> list[str]:
    """Return the IP addresses of a host, in the system's order of preference."""
    import socket  # slow to import, and only a host name needs it

    answer = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answer))


hosts = LookUps(_addresses, 64)
