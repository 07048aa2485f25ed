"""Drives conversations with many daemons at once, over one loop of the engine."""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from heapq import heappop, heappush
from itertools import count, islice

from ..exceptions import ChronyConnectionError, ChronyError
from ._shim import ffi, lib
from .address import Address, parse_address
from .client import new_loop
from .conversation import NEVER, Conversation, Daemon, Wait, Waits, find
from .failures import NO_FILES, unresolved
from .names import LONGEST, hosts
from .questions import Answers, Together

MOST = 2000
"""Maximum number of daemons to ask at the same time; each takes some kilobytes of memory."""
YOUNG = 64
"""Maximum number of unanswered daemons that were asked within the last `YOUTH` nanoseconds. A
larger burst would overflow queues on the way; chronyd's own queue holds fewer than 300 requests."""
YOUTH = 10_000_000  # nanoseconds
WAITING = 1000
"""Maximum number of names that wait for their look-up."""

ROOM = Wait(NEVER)
"""A wait that ends when there is room for a further daemon."""


class Query:
    """One of the addresses, and what is being done to get its answers."""

    def __init__(self, given: str, address: Address) -> None:
        self.given, self.address = given, address
        self.name = given if address.is_name else ""
        self.start = 0
        """When its time began."""
        self.waits: Waits[Answers]
        self.wait = ROOM
        """What it waits for."""


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
        self._full = False  # no further socket can be opened until a daemon has an outcome
        self._queries: dict[Query, None] = {}  # without an outcome
        self._unnamed: deque[Query] = deque()  # to be looked up
        self._ready: deque[Query] = deque()  # to be asked when there is room
        self._asked: dict[int, tuple[Query, int]] = {}  # by the client's tag, and since when
        self._dues: list[tuple[int, int, Query]] = []  # a heap
        self._numbers = count()
        self._pauses = 0  # time that the caller took
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
        self._collect(min(longest, self.due()) if longest else 0)
        if hosts.running:
            time.sleep(0)  # if threads are green, they need this to run

    def due(self) -> int:
        """Return the nanoseconds until the next step is due even if nothing arrives."""
        if self.outcomes or self.ended or self._may_go_on():
            return 0
        dues = [lib.shim_run(self.loop, 0)]
        if self._dues:
            dues.append(self._dues[0][0] - self.now())
        if self._unnamed:
            dues.append(LONGEST)
        if (rest := self._rest()) > 0:
            dues.append(rest)
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

    def _note_pause(self, start: int) -> None:
        pause = time.monotonic_ns() - start
        lib.shim_postpone(self.loop, pause)
        self._pauses += pause

    def _advance(self) -> None:
        """Resume what can go on, and take further addresses."""
        if self._process != os.getpid():
            self._begin_again()
        while self._dues and self._dues[0][0] <= self.now():
            due, _, query = heappop(self._dues)
            if due == query.wait.until:  # and not of an earlier wait
                self._resume(query)
        self._look_up()
        while self._may_go_on():
            if self._ready:
                self._resume(self._ready.popleft())
            else:
                self._take()
                self._look_up()
            self._collect(0)  # the caller may have taken a long time for an address

    def _collect(self, longest: int) -> None:
        """Wait for up to `longest` nanoseconds for answers, and take them in."""
        lib.shim_run(self.loop, longest)
        while (tag := lib.shim_finished(self.loop)) >= 0:
            if tag in self._asked:
                query, _ = self._asked.pop(tag)
                self._resume(query)

    def _may_go_on(self) -> bool:
        """Whether there is room for a further daemon, and an address to ask or to take."""
        if self.outcomes or self._full or len(self._asked) >= self._room or self._rest() > 0:
            return False
        return bool(self._ready) or (self._more and len(self._unnamed) < WAITING)

    def _rest(self) -> int:
        """Return the nanoseconds until fewer than `YOUNG` daemons are young."""
        for _, start in islice(reversed(self._asked.values()), YOUNG - 1, YOUNG):
            return start + YOUTH - time.monotonic_ns()
        return 0

    def _take(self) -> None:
        """Take the next address."""
        start = time.monotonic_ns()
        try:
            given = next(self._left)
        except StopIteration:
            self._more = False
            return
        self._note_pause(start)
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

    def _begin(self, query: Query) -> None:
        query.start = self.now()
        query.waits = self._talk(query)
        self._queries[query] = None  # from here on, close() stops it
        (self._unnamed if query.name else self._ready).append(query)

    def _begin_again(self) -> None:
        """In a forked child, ask all daemons again: the parent's answers do not arrive here."""
        self._process = os.getpid()
        self._full = False
        for queries in (self._unnamed, self._ready, self._dues):
            queries.clear()
        for query in self._queries:
            self._stop(query)
            self._begin(query)

    def _look_up(self) -> None:
        """Look up further names; give up those that have waited for too long without progress."""
        while self._unnamed:
            query, now = self._unnamed[0], self.now()
            if not hosts.full:
                query.start = now
                self._resume(query)
            elif 0 <= self._timeout <= now - max(query.start, hosts.progress - self._pauses):
                self._end(query, unresolved(query.address.host, self._timeout))
            else:
                return
            self._unnamed.popleft()

    def _talk(self, query: Query) -> Waits[Answers]:
        """Find a daemon and, as soon as there is room, ask it; return its answers."""
        places = yield from find(query.address, self._timeout, self.now)
        if query.name:
            self._ready.append(query)
            yield ROOM
        while True:
            daemon = Daemon(places, self._timeout, query.name, self.loop)
            talk = Conversation(daemon, self._question, self._timeout, query.start, now=self.now)
            try:
                return (yield from talk.run())
            except ChronyError as error:
                self._forget_clients(query)
                if error.errno not in NO_FILES or not self._asked:
                    raise
            finally:
                daemon.close("")
            self._full = True
            self._ready.appendleft(query)
            yield ROOM

    def _resume(self, query: Query) -> None:
        """Resume a conversation; note what it waits for now, or its outcome."""
        try:
            query.wait = wait = next(query.waits)
        except StopIteration as end:
            self._end(query, end.value)
            return
        except ChronyError as error:
            self._end(query, error.with_traceback(None))
            return
        for client in wait.clients:
            self._asked.setdefault(client.tag, (query, time.monotonic_ns()))
        if wait.until < NEVER:
            heappush(self._dues, (wait.until, next(self._numbers), query))

    def _end(self, query: Query, outcome: Answers | ChronyError) -> None:
        self._stop(query)
        del self._queries[query]
        self.outcomes.append((query.given, outcome))
        self._full = False

    def _stop(self, query: Query) -> None:
        """Stop a conversation and its clients."""
        self._forget_clients(query)
        query.wait = ROOM
        query.waits.close()

    def _forget_clients(self, query: Query) -> None:
        for client in query.wait.clients:
            self._asked.pop(client.tag, None)


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
