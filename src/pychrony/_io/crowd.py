"""Asks any number of daemons over one loop; the caller decides how to wait."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ..exceptions import ChronyConnectionError, ChronyError, ChronyTimeoutError
from ._shim import ffi, lib
from .address import parse_address
from .client import Answers, Client, Terms, Together, new_loop, remaining
from .failures import nowhere
from .names import Member, Names, Resolver

MOST = 2000
"""The most daemons to ask at the same time; each takes some kilobytes of memory."""
YOUNG = 64
"""The most daemons asked within `YOUTH` that have not answered yet. A larger burst would overflow
queues on the way; chronyd's own queue holds fewer than 300 requests."""
YOUTH = 10_000_000  # nanoseconds
SPARES = 64
"""The most sessions of daemons that have answered, to be used for others."""
SLICE = 200_000_000
"""The longest wait in nanoseconds, so that signal handlers can run."""
NAME_SLICE = 5_000_000
"""The longest wait while threads resolve names, since they cannot end the wait."""
PAUSE = 10_000_000
"""The shortest pause of the caller, in nanoseconds, that does not count towards timeouts."""


class Outcome(NamedTuple):
    """The result for one address: the answers of the daemon there, or an error."""

    given: str
    answers: Answers | None = None
    error: ChronyError | None = None
    address: str = ""
    """Where the daemon was found."""


class Crowd:
    """Takes addresses as fast as they can be asked, and collects the answers.

    `run()` drives it where a thread may block, `step()` in an event loop.
    """

    def __init__(
        self, addresses: Iterable[object], question: Together, timeout: int, resolver: Resolver
    ) -> None:
        """`timeout` is that of each daemon, in nanoseconds; negative for none."""
        self.loop = new_loop()
        lib.shim_spare_sessions(self.loop, SPARES)
        self.names = Names(resolver, timeout)
        self.outcomes: deque[Outcome] = deque()
        self._left = iter(addresses)
        self._more = True
        self._question = question
        self._timeout = timeout
        self._terms = Terms(timeout)
        self._room = room()
        self._ready: deque[Member] = deque()  # to be asked when there is room
        self._asked: dict[int, tuple[Member, Client]] = {}
        self._young: dict[int, int] = {}  # when each was asked, the oldest first
        self._looked = 0  # when all that had arrived was taken in

    @property
    def ended(self) -> bool:
        """Whether all addresses were taken, and all have an outcome."""
        return not (self._more or self._asked or self._ready or self.names)

    def run(self) -> None:
        """Ask further daemons, wait for a while if there are no outcomes, and collect answers."""
        due = self._fill()
        if self.outcomes:
            lib.shim_step(self.loop)
        else:
            longest = NAME_SLICE if self.names else SLICE
            lib.shim_run(self.loop, longest if due < 0 else min(due, longest))
        self._collect()

    def step(self) -> int:
        """Do the same without waiting; return the nanoseconds until the next step is due.

        The result is negative if only the loop's descriptor can make a step necessary.
        """
        due = self._fill(), lib.shim_step(self.loop)
        self._collect()
        return min((time for time in due if time >= 0), default=-1)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the time that the caller spends on outcomes from all timeouts."""
        start = time.monotonic_ns()
        yield
        pause = time.monotonic_ns() - start
        if pause > PAUSE:
            lib.shim_postpone(self.loop, pause)
            self.names.postpone(pause)

    def close(self) -> None:
        """Stop asking, and close all sockets."""
        self._more = False
        self.names.close()
        self._ready.clear()
        while self._asked:
            _, (_, client) = self._asked.popitem()
            client.close()
        ffi.release(self.loop)

    def _fill(self) -> int:
        """Ask further daemons; return the nanoseconds until more can be asked (negative: never)."""
        now = time.monotonic_ns()
        self._settle_names(now)
        while self._has_room() and len(self.outcomes) < YOUNG:
            if self._ready:
                self._ask(self._ready.popleft())
            elif self._more and not self.names.full:
                self._take(now)
            else:
                break
        return self._patience(now)

    def _collect(self) -> None:
        """Take all complete answers, after a step of the loop."""
        tags = 0
        while (tag := lib.shim_finished(self.loop)) >= 0:
            tags += 1
            self._young.pop(tag, None)
            self._take_answers(tag)
        if tags < YOUNG:
            self._looked = time.monotonic_ns()

    def _has_room(self) -> bool:
        while self._young and self._looked - next(iter(self._young.values())) >= YOUTH:
            del self._young[next(iter(self._young))]
        return len(self._young) < YOUNG and len(self._asked) < self._room

    def _patience(self, now: int) -> int:
        due = self.names.due(now)
        if len(self._young) >= YOUNG:
            older = next(iter(self._young.values())) + YOUTH - now
            due = older if due is None else min(due, older)
        return -1 if due is None else max(0, due)

    def _settle_names(self, now: int) -> None:
        if self.names:
            for member, candidates, error in self.names.settle(now):
                member.candidates = candidates
                if error is None:
                    self._ready.append(member)
                else:
                    self.outcomes.append(Outcome(member.given, error=error))

    def _take(self, now: int) -> None:
        """Take the next address."""
        try:
            given = next(self._left)
        except StopIteration:
            self._more = False
            return
        try:
            if given is None:
                raise TypeError("address must be a str or a path, not None")
            address = parse_address(given)  # type: ignore[arg-type]
        except (TypeError, ValueError) as mistake:
            error = ChronyConnectionError(str(mistake))
            error.__cause__ = mistake
            self.outcomes.append(Outcome(str(given), error=error))
            return
        member = Member(str(given), address, now)
        if address.is_name:
            self.names.add(member)
            self._settle_names(now)
        else:
            member.candidates = address.candidates()
            self._ask(member)

    def _ask(self, member: Member) -> None:
        """Start asking a daemon at the next of its possible addresses."""
        try:
            client = Client(member.candidates[0], self._terms, name=member.name, loop=self.loop)
            client.start(self._question, remaining(self._timeout, member.start))
        except ChronyError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self._asked:
                self._ready.appendleft(member)
                self._room = len(self._asked)  # so that it waits until one of them has ended
            else:
                self._try_next(member, error)
            return
        self._asked[client.tag] = member, client
        self._young[client.tag] = time.monotonic_ns()

    def _take_answers(self, tag: int) -> None:
        member, client = self._asked.pop(tag)
        try:
            answers = self._question.answer(client)
        except ChronyError as error:
            self._try_next(member, error)
        else:
            self.outcomes.append(Outcome(member.given, answers, address=client.address))
        finally:
            client.close()

    def _try_next(self, member: Member, error: ChronyError) -> None:
        """Ask a daemon at its next address if it was not there; otherwise note the error."""
        place = member.candidates.pop(0)
        member.tried[place] = error
        if _is_away(error) and member.candidates:
            self._ask(member)
            return
        if _is_away(error) and len(member.tried) > 1:
            error = nowhere(error._action, member.given, member.tried)
        self.outcomes.append(Outcome(member.given, error=error))


def _is_away(error: ChronyError) -> bool:
    """Whether there was no chronyd at this address, so that the next one is worth a try."""
    return isinstance(error, ChronyConnectionError) and not isinstance(error, ChronyTimeoutError)


def room() -> int:
    """Return how many daemons can be asked at the same time within the limit of descriptors.

    Each takes two, since libchrony opens /dev/urandom for each socket. Half of the free ones are
    left to the rest of the program.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MOST
    with suppress(OSError):  # without /proc, assume that most are free
        limit -= len(os.listdir("/proc/self/fd"))
    return max(1, min(MOST, limit // 4))
