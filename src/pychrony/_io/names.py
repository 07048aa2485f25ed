"""Looks up host names in daemon threads, so that no call waits for longer than its timeout.

The system's resolver cannot be interrupted: a look-up may outlive the calls that wait for it. Calls
that want the same name share a look-up. Stuck look-ups delay others only if they occupy all
threads; a thread that becomes free takes the latest name.
"""

from __future__ import annotations

import _thread
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress

MOST = 64
"""Maximum number of threads."""


class LookUp:
    """The look-up of one host name."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.done = False
        self.found: list[str] = []
        """The IP addresses, in the system's order of preference."""
        self.error: Exception | None = None
        self.waiting: list[Callable[[], object]] = []
        self.process = os.getpid()
        """The process whose thread looks it up."""

    def run(self) -> None:
        """Ask the system's resolver; this may take seconds."""
        import socket  # slow to import, and only a host name needs it

        try:
            answer = socket.getaddrinfo(self.host, None, type=socket.SOCK_DGRAM)
            self.found = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answer))
        except Exception as error:
            self.error = error


class _Worker:
    """A thread that looks up names."""

    def __init__(self) -> None:
        self.starter: int | None = _thread.get_ident()
        """The thread that is starting it."""


class _Threads:
    """The threads of this process that look up names.

    They share what they need without a lock, in steps that are atomic: a signal handler may look up
    a name while the call that it interrupts holds one, and no thread could go on.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin without threads, as a forked child does, which has none of its parent's."""
        self._queue: deque[LookUp] = deque()
        self._unfinished: dict[str, LookUp] = {}
        self._workers: set[_Worker] = set()

    def look_up(self, host: str) -> LookUp:
        """Start to look up a name, unless that is already in progress."""
        look_up = self._unfinished.get(host)
        if look_up is None or look_up.done or look_up.process != os.getpid():
            look_up = LookUp(host)
            self._queue.append(look_up)
            self._unfinished[host] = look_up
            if look_up.done:  # already, by another thread
                self._unfinished.pop(host, None)
        self.tend()
        return look_up

    def tend(self) -> None:
        """Start threads if they are missing."""
        while self._started() < min(MOST, self._wanted()):
            worker = _Worker()
            try:
                self._workers.add(worker)
                # Like daemon threads, these do not delay the end of the program.
                _thread.start_new_thread(self._work, (worker,))
                worker.starter = None
            except BaseException as error:
                self._workers.discard(worker)
                if not isinstance(error, RuntimeError):
                    raise
                if not self._workers:  # the system allows no thread
                    self._give_up(error)
                return

    def notify(self, look_up: LookUp, callback: Callable[[], object]) -> None:
        """Call a function once the look-up is done, in any thread."""
        look_up.waiting.append(callback)
        if look_up.done:
            self._call_back(look_up)

    def _started(self) -> int:
        """Count the threads, without one whose start was interrupted by this signal handler."""
        own = _thread.get_ident()
        return sum(worker.starter != own for worker in list(self._workers))

    def _wanted(self) -> int:
        return max(len(self._unfinished), 1) if self._queue else 0

    def _work(self, worker: _Worker) -> None:
        try:
            while (look_up := self._next()) is not None:
                look_up.run()
                self._end(look_up)
                if not self._queue:
                    self._workers.discard(worker)  # what is queued from now on starts another one
        finally:
            self._workers.discard(worker)

    def _next(self) -> LookUp | None:
        """Take the latest name: nobody may wait for earlier ones any more."""
        try:
            return self._queue.pop()
        except IndexError:
            return None

    def _end(self, look_up: LookUp) -> None:
        look_up.done = True
        if self._unfinished.get(look_up.host) is look_up:
            self._unfinished.pop(look_up.host, None)
        self._call_back(look_up)

    def _call_back(self, look_up: LookUp) -> None:
        """Call each callback once, in whichever thread comes first."""
        while look_up.waiting:
            try:
                callback = look_up.waiting.pop()
            except IndexError:
                return
            with suppress(RuntimeError):  # the event loop that waited for it is closed
                callback()

    def _give_up(self, error: RuntimeError) -> None:
        while (look_up := self._next()) is not None:
            look_up.error = error
            self._end(look_up)


_threads = _Threads()
look_up, notify, tend = _threads.look_up, _threads.notify, _threads.tend
os.register_at_fork(after_in_child=_threads.forget)
