"""Drives conversations with many daemons at once, over one loop of the engine."""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from heapq import heappop, heappush
from typing import NamedTuple

from ..exceptions import ChronyConnectionError, ChronyError
from . import names
from ._shim import ffi, lib
from .address import Address, parse_address
from .client import Client, new_loop
from .conversation import FILES, NEVER, Conversation, Daemon, Wait, Waits, find
from .failures import unresolved
from .questions import Answers, Together

MOST = 2000
"""Maximum number of daemons to ask at the same time; each takes some kilobytes of memory."""
YOUNG = 64
"""Maximum number of unanswered daemons that were asked within the last `YOUTH` nanoseconds. A
larger burst would overflow queues on the way; chronyd's own queue holds fewer than 300 requests."""
YOUTH = 10_000_000  # nanoseconds
NAMES = 64
"""Maximum number of names to look up at the same time."""
WAITING = 1000
"""Maximum number of names that wait for their look-up."""
SLICE = 200_000_000
"""The longest wait in nanoseconds, so that signal handlers can run."""
NAME_SLICE = 5_000_000
"""The longest wait while threads look up names, since they cannot end the wait."""
PAUSE = 10_000_000
"""The shortest pause of the caller, in nanoseconds, that does not count towards timeouts."""


NAME, ROOM = "a look-up", "room for a further daemon"


class Outcome(NamedTuple):
    """The result for one address: the answers of the daemon there, or an error."""

    given: str
    answers: Answers | None = None
    error: ChronyError | None = None


class Member:
    """One of the addresses, and the conversation with its daemon."""

    def __init__(self, given: str, address: Address) -> None:
        self.given, self.address = given, address
        self.waits: Waits[Answers] | None = None
        """The conversation, until it has ended."""
        self.wait: Wait | None = None
        """What the conversation waits for; `None` once it has ended."""


class Many:
    """Takes addresses as fast as they can be asked, and collects the outcomes.

    `run()` drives it where a thread may block, `step()` in an event loop.
    """

    def __init__(
        self,
        addresses: Iterable[object],
        question: Together,
        timeout: int,
        wake: Callable[[], object] = lambda: None,
    ) -> None:
        """`timeout` is that of each daemon, in nanoseconds; negative: no limit.

        `wake` is called from any thread when a name has been looked up.
        """
        self.loop = new_loop()
        self.outcomes: deque[Outcome] = deque()
        self._left = iter(addresses)
        self._more = True
        self._question, self._timeout, self._wake = question, timeout, wake
        self._room = room()
        self._members: dict[Member, None] = {}
        self._ready: deque[Member] = deque()  # to be asked when there is room
        self._unnamed: deque[Member] = deque()  # whose names wait for their look-up
        self._named: deque[Member] = deque()  # whose look-ups are done; threads add to it
        self._looking = 0  # the number of look-ups
        self._progress = 0  # when the last of them was done
        self._dues: list[tuple[int, int, Member]] = []  # a heap
        self._pushed = 0
        self._asked: dict[int, tuple[Member, Client]] = {}
        self._young: dict[int, int] = {}  # when each was asked, the oldest first
        self._looked = 0  # when everything that had arrived was last taken in
        self._pauses = self._unnoted = 0  # time that the caller took, and its part to be noted
        self._process = os.getpid()

    @property
    def ended(self) -> bool:
        """Whether all addresses were taken, and all have an outcome."""
        return not (self._more or self._members)

    def now(self) -> int:
        """Return the time in nanoseconds, without the pauses of the caller."""
        return time.monotonic_ns() - self._pauses

    def run(self) -> None:
        """Ask further daemons, wait for a while if there are no outcomes, and collect answers."""
        due = 0 if self._advance() or self.outcomes else self._due()
        lib.shim_run(self.loop, min(due, NAME_SLICE if self._looking else SLICE))
        self._collect()
        if self._looking:
            time.sleep(0)  # if threads are green, they need this to run

    def step(self) -> int:
        """Do the same without waiting; return the nanoseconds until the next step is due.

        The result is negative if only the loop's descriptor can make a step necessary.
        """
        again = self._advance()
        lib.shim_step(self.loop)
        self._collect()
        dues = 0 if again else self._due(), lib.shim_step_blindly(self.loop)
        return min((due for due in dues if 0 <= due < NEVER), default=-1)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the time that the caller spends on outcomes from all timeouts."""
        start = time.monotonic_ns()
        yield
        self._note_pause(start)

    def close(self) -> None:
        """Stop asking, and close all sockets."""
        self._more = False
        while self._members:
            member, _ = self._members.popitem()
            self._give_up(member)
        ffi.release(self.loop)

    def _note_pause(self, start: int) -> bool:
        """Note a pause since `start`; return whether it was a long one."""
        self._unnoted += time.monotonic_ns() - start
        if self._unnoted < PAUSE:
            return False
        lib.shim_postpone(self.loop, self._unnoted)
        self._pauses += self._unnoted
        self._unnoted = 0
        return True

    def _advance(self) -> bool:
        """Resume what can go on, and take further addresses; return whether to go on at once."""
        if self._process != os.getpid():
            self._begin_again()
        if self._looking:
            names.tend()
        while self._named:
            member, self._progress = self._named.popleft(), self.now()
            if member.wait is not None and member.wait.look_up is not None:
                self._resume(member)
        now = self.now()
        while self._dues and self._dues[0][0] <= now:
            until, _, member = heappop(self._dues)
            if member.wait is not None and member.wait.until == until:
                self._resume(member)
        while True:
            while self._unnamed and self._looking < NAMES:
                self._give_turn(self._unnamed.popleft(), NAME)
            if not self._has_room() or len(self.outcomes) >= YOUNG:
                return False
            if self._ready:
                self._give_turn(self._ready.popleft(), ROOM)
            elif not self._more or len(self._unnamed) >= WAITING:
                return False
            elif self._take():
                return True  # what has arrived during a pause comes first

    def _due(self) -> int:
        """Return the nanoseconds until something can go on even if nothing arrives."""
        dues = [NEVER]
        if self._dues:
            dues.append(self._dues[0][0] - self.now())
        if len(self._young) >= YOUNG:
            dues.append(next(iter(self._young.values())) + YOUTH - time.monotonic_ns())
        return max(0, min(dues))

    def _collect(self) -> None:
        """Resume the conversations whose clients are done, after a step of the loop."""
        tags = 0
        while (tag := lib.shim_finished(self.loop)) >= 0:
            tags += 1
            self._young.pop(tag, None)
            member, client = self._asked.pop(tag)
            client.done = True
            self._resume(member)
        if tags < YOUNG:
            self._looked = time.monotonic_ns()

    def _has_room(self) -> bool:
        while self._young and self._looked - next(iter(self._young.values())) >= YOUTH:
            del self._young[next(iter(self._young))]
        return len(self._young) < YOUNG and len(self._asked) < self._room

    def _take(self) -> bool:
        """Take the next address; return whether the caller made a long pause for it."""
        start = time.monotonic_ns()
        try:
            given = next(self._left)
        except StopIteration:
            self._more = False
            return False
        paused = self._note_pause(start)
        try:
            if given is None:
                raise TypeError("address must be a str or a path, not None")
            member = Member(str(given), parse_address(given))  # type: ignore[arg-type]
        except (TypeError, ValueError) as mistake:
            error = ChronyConnectionError(str(mistake))
            error.__cause__ = mistake
            self.outcomes.append(Outcome(str(given), error=error))
        else:
            self._begin(member)
        return paused

    def _begin(self, member: Member) -> None:
        self._members[member] = None
        member.waits = self._talk(member)
        self._resume(member)

    def _begin_again(self) -> None:
        """In a forked child, ask all daemons again: the parent's answers do not arrive here."""
        self._process = os.getpid()
        members = [*self._members]
        for member in members:
            self._give_up(member)
        for waiting in (self._ready, self._unnamed, self._named, self._dues):
            waiting.clear()
        self._asked.clear()
        self._young.clear()
        for member in members:
            self._begin(member)

    def _give_up(self, member: Member) -> None:
        waits, member.waits, member.wait = member.waits, None, None
        if waits is not None:
            waits.close()

    def _talk(self, member: Member) -> Waits[Answers]:
        """Return the answers of a daemon; its time begins now, or with the look-up of its name."""
        name, places, start = "", [], self.now()
        if member.address.is_name:
            name = member.given
            while not (yield Wait(self._until(max(start, self._progress)), turn=NAME)):
                if self.now() >= self._until(max(start, self._progress)):
                    raise unresolved(member.address.host, self._timeout)
            start = self.now()
            self._looking += 1
            try:
                places = yield from find(member.address, self._timeout, self.now)
            finally:
                self._looking -= 1
        if not self._has_room():
            yield Wait(NEVER, turn=ROOM)
        daemon = Daemon(places or member.address.places(), self._timeout, name, self.loop)
        talk = Conversation(daemon, self._question, self._timeout, start, now=self.now)
        try:
            return (yield from talk.run())
        finally:
            daemon.close("")

    def _until(self, start: int) -> int:
        return NEVER if self._timeout < 0 else start + self._timeout

    def _give_turn(self, member: Member, turn: str) -> None:
        if member.wait is not None and member.wait.turn in (turn, FILES):
            self._resume(member, turn=True)

    def _resume(self, member: Member, *, turn: bool = False) -> None:
        """Resume a conversation; note what it waits for now, or its outcome."""
        if member.waits is None:
            return
        try:
            wait = member.waits.send(turn if member.wait is not None else None)
        except StopIteration as end:
            self._end(member, Outcome(member.given, end.value))
        except ChronyError as error:
            self._end(member, Outcome(member.given, error=error.with_traceback(None)))
        else:
            self._await(member, wait)

    def _await(self, member: Member, wait: Wait) -> None:
        before, member.wait = member.wait, wait
        for client in wait.clients:
            if client.tag not in self._asked:
                self._asked[client.tag] = member, client
                self._young[client.tag] = time.monotonic_ns()
        if wait.look_up is not None and (before is None or before.look_up is not wait.look_up):
            names.notify(wait.look_up, partial(self._note_name, member))
        if wait.until < NEVER and (before is None or before.until != wait.until):
            self._pushed += 1
            heappush(self._dues, (wait.until, self._pushed, member))
        if wait.turn == NAME:
            self._unnamed.append(member)
        elif wait.turn == ROOM:
            self._ready.append(member)
        elif wait.turn == FILES and self._asked:
            self._room = len(self._asked)  # so that it waits until one of them has ended
            self._ready.appendleft(member)
        elif wait.turn:
            self._resume(member)

    def _end(self, member: Member, outcome: Outcome) -> None:
        del self._members[member]
        for client in member.wait.clients if member.wait else ():
            self._asked.pop(client.tag, None)
            self._young.pop(client.tag, None)
        member.waits = member.wait = None
        self.outcomes.append(outcome)

    def _note_name(self, member: Member) -> None:
        self._named.append(member)
        self._wake()


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
