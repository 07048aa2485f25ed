"""Resolves the host names among many addresses without delaying the other addresses."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from ..exceptions import ChronyConnectionError, ChronyError, ChronyTimeoutError
from .address import Address

AT_ONCE = 16
"""The most names to resolve at the same time."""
WAITING = 1000
"""The most names that wait for their turn."""


class Member:
    """One daemon to ask."""

    def __init__(self, given: str, address: Address, start: int) -> None:
        self.given = given
        """Its address as given."""
        self.address = address
        self.name = given if address.is_name else ""
        """The host name as it was given; empty for an IP address or a path."""
        self.start = start
        """When its timeout began to run, on the monotonic clock in nanoseconds."""
        self.candidates: list[str] = []
        """The addresses that are still to be tried, in order."""
        self.tried: dict[str, ChronyError] = {}
        """The addresses that were tried, and their errors."""


class Found(NamedTuple):
    """The result for a name: addresses to try in order, or an error."""

    member: Member
    candidates: list[str]
    error: ChronyError | None = None


class Resolver(Protocol):
    """A way to resolve names."""

    def start(self, member: Member) -> None:
        """Start to resolve the name of a daemon."""

    def found(self) -> Iterable[Found]:
        """Return the results since the last call."""
        ...

    def close(self) -> None:
        """Stop resolving names."""


class Names:
    """Names that wait for their turn, and names that are being resolved, each within its timeout.

    The timeout of a name starts when its resolution starts. Until then it waits for as long as
    other names are found: many names on a slow resolver are not a failure.
    """

    def __init__(self, resolver: Resolver, timeout: int) -> None:
        self._resolver = resolver
        self._timeout = timeout
        self._waiting: deque[Member] = deque()
        self._looked_up: dict[Member, None] = {}  # the oldest first
        self._progress = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._looked_up)

    @property
    def full(self) -> bool:
        """Whether no further name should be added at present."""
        return len(self._waiting) >= WAITING

    def add(self, member: Member) -> None:
        """Let a name wait for its turn."""
        self._waiting.append(member)

    def settle(self, now: int) -> Iterator[Found]:
        """Yield the results since the last call, and start to resolve the next names."""
        for found in self._resolver.found():
            self._progress = now
            if found.member in self._looked_up:
                del self._looked_up[found.member]
                yield found
        while self._waiting and len(self._looked_up) < AT_ONCE:
            member = self._waiting.popleft()
            member.start = now
            self._looked_up[member] = None
            self._resolver.start(member)
        while (due := self.due(now)) is not None and due <= 0:
            yield self._give_up()

    def due(self, now: int) -> int | None:
        """Return the nanoseconds until the next name times out; `None` if none will."""
        if self._timeout < 0 or not self:
            return None
        return min(start for _, start in self._oldest()) + self._timeout - now

    def postpone(self, pause: int) -> None:
        """Exclude a pause from all timeouts."""
        self._progress += pause
        for member in (*self._waiting, *self._looked_up):
            member.start += pause

    def close(self) -> None:
        """Forget all names."""
        self._waiting.clear()
        self._looked_up.clear()
        self._resolver.close()

    def _oldest(self) -> Iterator[tuple[Member, int]]:
        """Yield the oldest name of each kind, and since when it has waited."""
        for member in self._looked_up:
            yield member, member.start
            break
        for member in self._waiting:
            yield member, max(member.start, self._progress)
            break

    def _give_up(self) -> Found:
        member, _ = min(self._oldest(), key=lambda oldest: oldest[1])
        if member in self._looked_up:
            del self._looked_up[member]
        else:
            self._waiting.popleft()
        return Found(
            member,
            [],
            ChronyTimeoutError._compose(
                "resolving",
                member.address.host,
                f"no answer within {self._timeout / 1e9:g} s",
                "check the name servers, or give an IP address",
            ),
        )


class ThreadedResolver:
    """Resolves names in threads, which end after `close()`, once the system's resolver returns."""

    def __init__(self) -> None:
        self._wanted: deque[Member] = deque()
        self._found: deque[Found] = deque()
        self._changed = threading.Condition()
        self._threads = self._idle = 0
        self._closed = False

    def start(self, member: Member) -> None:
        """Start to resolve a name, in a new thread if all are busy and there are not too many."""
        with self._changed:
            self._wanted.append(member)
            if len(self._wanted) > self._idle and self._threads < AT_ONCE:
                self._threads += 1
                # A daemon thread: the end of the program does not wait for the resolver.
                threading.Thread(target=self._work, name="pychrony names", daemon=True).start()
            self._changed.notify()

    def found(self) -> Iterator[Found]:
        """Yield the results since the last call."""
        while self._found:
            yield self._found.popleft()

    def close(self) -> None:
        """Let the threads end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (member := self._next()) is not None:
            try:
                found = Found(member, member.address.candidates())
            except ChronyConnectionError as error:
                found = Found(member, [], error)
            self._found.append(found)

    def _next(self) -> Member | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._wanted or self._closed)
            self._idle -= 1
            return None if self._closed else self._wanted.popleft()
