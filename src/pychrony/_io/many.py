"""Drives conversations with many daemons at once, over one loop of the engine."""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from heapq import heappop, heappush

from ..exceptions import ChronyConnectionError, ChronyError
from . import names
from ._shim import ffi, lib
from .address import Address, parse_address
from .client import new_loop
from .conversation import NEVER, Conversation, Daemon, Wait, Waits, find
from .failures import NO_FILES, unresolved
from .questions import Answers, Together

MOST = 2000
"""Maximum number of daemons to ask at the same time; each takes some kilobytes of memory."""
YOUNG = 64
"""Maximum number of unanswered daemons that were asked within the last `YOUTH` nanoseconds. A
larger burst would overflow queues on the way; chronyd's own queue holds fewer than 300 requests."""
YOUTH = 10_000_000  # nanoseconds
WAITING = 1000
"""Maximum number of names that wait for their look-up."""
NAME_SLICE = 5_000_000
"""The longest wait while threads look up names, since they cannot end the wait."""
PAUSE = 10_000_000
"""The shortest pause of the caller, in nanoseconds, that does not count towards timeouts."""


class Query:
    """One of the addresses, and what is being done to get its answers."""

    def __init__(self, given: str, address: Address) -> None:
        self.given, self.address = given, address
        self.places: list[str] = [] if address.is_name else address.places()
        """The addresses to ask, once they are known."""
        self.start = 0
        """When its time began."""
        self.waits: Waits[list[str]] | Waits[Answers] | None = None
        """The look-up or the conversation, while it is in progress."""
        self.wait: Wait | None = None
        """What that waits for."""


class Many:
    """Takes addresses as fast as they can be asked, and collects the outcomes.

    Call `step()` until all have ended. An event loop waits between two steps until they are due.
    """

    def __init__(self, addresses: Iterable[object], question: Together, timeout: int) -> None:
        """`timeout` is that of each daemon, in nanoseconds; negative: no limit."""
        self.loop = new_loop()
        self.outcomes: deque[tuple[str, Answers | ChronyError]] = deque()
        """For each address as it was given, the answers of the daemon there, or an error."""
        self._left = iter(addresses)
        self._more = True
        self._question, self._timeout = question, timeout
        self._room = room()
        self._queries: dict[Query, None] = {}  # without an outcome
        self._unnamed: deque[Query] = deque()  # to be looked up
        self._looking: dict[Query, None] = {}
        self._progress = 0  # when a look-up was last done
        self._ready: deque[Query] = deque()  # to be asked when there is room
        self._asked: dict[int, Query] = {}  # by the client's tag
        self._young: dict[int, int] = {}  # when each was asked, the oldest first
        self._dues: list[tuple[int, int, Query]] = []  # a heap
        self._pushed = 0
        self._pauses = self._unnoted = 0  # time that the caller took, and its part to be noted
        self._process = os.getpid()

    @property
    def ended(self) -> bool:
        """Whether all addresses were taken, and all have an outcome."""
        return not (self._more or self._queries)

    def now(self) -> int:
        """Return the time in nanoseconds, without the pauses of the caller."""
        return time.monotonic_ns() - self._pauses

    def step(self, longest: int) -> None:
        """Ask further daemons, wait for up to `longest` nanoseconds, and collect answers."""
        self._advance()
        lib.shim_run(self.loop, min(longest, self.due()) if longest else 0)
        while (tag := lib.shim_finished(self.loop)) >= 0:
            self._young.pop(tag, None)
            query = self._asked.pop(tag, None)
            if query is not None:
                self._resume(query)
        if self._looking:
            time.sleep(0)  # if threads are green, they need this to run

    def due(self) -> int:
        """Return the nanoseconds until the next step is due even if nothing arrives."""
        if self.outcomes or self._may_go_on():
            return 0
        dues = [lib.shim_run(self.loop, 0)]
        if self._dues:
            dues.append(self._dues[0][0] - self.now())
        if self._looking:
            dues.append(NAME_SLICE)
        if len(self._young) >= YOUNG:
            dues.append(next(iter(self._young.values())) + YOUTH - time.monotonic_ns())
        return max(0, min(dues))

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the time that the caller spends on outcomes from all timeouts."""
        start = time.monotonic_ns()
        yield
        self._note_pause(start)

    def close(self) -> None:
        """Stop asking, and close all sockets."""
        self._more = False
        for query in self._queries:
            self._stop(query)
        self._queries.clear()
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

    def _advance(self) -> None:
        """Resume what can go on, and take further addresses."""
        if self._process != os.getpid():
            self._begin_again()
        if self._looking:
            self._notice_names()
        now = self.now()
        while self._dues and self._dues[0][0] <= now:
            self._resume(heappop(self._dues)[2])
        self._look_up()
        paused = False
        while self._may_go_on() and not paused:  # what has arrived during a pause comes first
            if self._ready:
                query = self._ready.popleft()
                self._start(query, self._talk(query))
            else:
                paused = self._take()
                self._look_up()

    def _may_go_on(self) -> bool:
        """Whether there is room for a further daemon, and an address to ask or to take."""
        now = time.monotonic_ns()
        while self._young and now - next(iter(self._young.values())) >= YOUTH:
            del self._young[next(iter(self._young))]
        if max(len(self._young), len(self.outcomes)) >= YOUNG or len(self._asked) >= self._room:
            return False
        return bool(self._ready) or (self._more and len(self._unnamed) < WAITING)

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
            query = Query(str(given), parse_address(given))  # type: ignore[arg-type]
        except (TypeError, ValueError) as mistake:
            error = ChronyConnectionError(str(mistake))
            error.__cause__ = mistake
            self.outcomes.append((str(given), error))
        else:
            self._begin(query)
        return paused

    def _begin(self, query: Query) -> None:
        self._queries[query] = None
        query.start = self.now()
        (self._ready if query.places else self._unnamed).append(query)

    def _begin_again(self) -> None:
        """In a forked child, ask all daemons again: the parent's answers do not arrive here."""
        self._process = os.getpid()
        for queries in (self._unnamed, self._ready, self._dues):
            queries.clear()
        for query in self._queries:
            self._stop(query)
            self._begin(query)

    def _look_up(self) -> None:
        """Look up further names; give up those that have waited for too long without progress."""
        while self._unnamed:
            query, now = self._unnamed[0], self.now()
            if len(self._looking) < names.MOST:
                query.start = now
                self._looking[query] = None
                self._start(query, find(query.address, self._timeout, self.now))
            elif 0 <= self._timeout <= now - max(query.start, self._progress):
                self._end(query, unresolved(query.address.host, self._timeout))
            else:
                return
            self._unnamed.popleft()

    def _notice_names(self) -> None:
        names.tend()
        for query in [*self._looking]:
            if query.wait and query.wait.look_up and query.wait.look_up.done:
                self._progress = self.now()
                self._resume(query)

    def _talk(self, query: Query) -> Waits[Answers]:
        """Return the answers of a daemon."""
        name = query.given if query.address.is_name else ""
        daemon = Daemon(query.places, self._timeout, name, self.loop)
        talk = Conversation(daemon, self._question, self._timeout, query.start, now=self.now)
        try:
            return (yield from talk.run())
        finally:
            daemon.close("")

    def _start(self, query: Query, waits: Waits[list[str]] | Waits[Answers]) -> None:
        query.waits = waits
        self._resume(query)

    def _resume(self, query: Query) -> None:
        """Resume a look-up or a conversation; note what it waits for now, or its end."""
        if query.waits is None:
            return
        try:
            query.wait = wait = next(query.waits)
        except StopIteration as end:
            self._end(query, end.value)
            return
        except ChronyError as error:
            self._end(query, error.with_traceback(None))
            return
        for client in wait.clients:
            if client.tag not in self._asked:
                self._asked[client.tag] = query
                self._young[client.tag] = time.monotonic_ns()
        if wait.until < NEVER:
            self._pushed += 1
            heappush(self._dues, (wait.until, self._pushed, query))

    def _stop(self, query: Query) -> None:
        """Stop the look-up or the conversation, if there is one, and its clients."""
        self._looking.pop(query, None)
        for client in query.wait.clients if query.wait else ():
            self._asked.pop(client.tag, None)
            self._young.pop(client.tag, None)
        waits, query.waits, query.wait = query.waits, None, None
        if waits is not None:
            waits.close()

    def _end(self, query: Query, found: list[str] | Answers | ChronyError) -> None:
        """Go on with the addresses of a name, or note the outcome."""
        self._stop(query)
        if isinstance(found, list):
            query.places = found
            self._ready.append(query)
        elif isinstance(found, ChronyError) and found.errno in NO_FILES and self._asked:
            self._room = len(self._asked)  # so that it waits until one of them has ended
            self._ready.appendleft(query)
        else:
            del self._queries[query]
            self.outcomes.append((query.given, found))


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
