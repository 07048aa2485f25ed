"""Decides whom to ask, in which order, and until when; the drivers only wait.

A chronyd may be at several addresses: the local one at its Unix socket, 127.0.0.1 or ::1, and a
host name at each of its addresses. As in RFC 8305, a call asks the first address. If that is silent
for a while, the call asks the next one, too, and the first answer wins. All that a call returns
comes from one address, which is asked first from then on.

`find()` and `Conversation.run()` are generators: they never block, but yield what they wait for.
"""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ..exceptions import (
    ChronyConnectionError,
    ChronyError,
    ChronyPermissionError,
    ChronyTimeoutError,
)
from . import workers  # noqa: F401  # arranges that workers close their sockets
from ._shim import ffi
from .address import Address
from .client import KEPT, Client, labelled, new_loop
from .failures import is_away, lookup_failure, nowhere, refused, unresolved
from .names import LookUp, hosts
from .questions import Question

if TYPE_CHECKING:
    from ._shim import Loop

A = TypeVar("A")

NEVER = 1 << 62
"""A time on the monotonic clock, in nanoseconds, that is never reached."""
PATIENCE = 300_000_000
"""The longest wait in nanoseconds for an address whose round trip is not known."""


class Wait(NamedTuple):
    """What a conversation waits for: the first of these."""

    until: int
    """A time on the clock of the conversation, in nanoseconds."""
    clients: Sequence[Client] = ()
    """Clients, one of whose batches has ended."""


Waits = Generator[Wait, None, A]
"""A conversation, or a part of it; it ends with a result or a `ChronyError`."""


def remaining(timeout: int, start: int, now: int) -> int:
    """Return what is left of a timeout that began to run at `start`, all in nanoseconds."""
    return timeout if timeout < 0 else max(0, start + timeout - now)


def find(
    address: Address, timeout: int, now: Callable[[], int] = time.monotonic_ns
) -> Waits[list[str]]:
    """Return the addresses to try in turn; look up a host name within the timeout."""
    if not address.is_name:
        return address.places()
    until = now() + timeout if timeout >= 0 else NEVER
    look_up = hosts.poll(LookUp(address.host))
    while not look_up.done:
        if now() >= until:
            raise unresolved(address.host, timeout)
        yield Wait(min(until, now() + look_up.pause()))
        look_up = hosts.poll(look_up)
    if look_up.error is not None:
        raise lookup_failure(address.host, look_up.error) from look_up.error
    return address.usable(look_up.found)


class Daemon:
    """A chronyd: where it may be, where it has answered, and its idle clients.

    It needs no lock: each operation on its list is atomic, and each call has its own client. The
    first client keeps up to 16 sockets, which long lists need. The others keep one each, and serve
    the calls that are made at the same time.
    """

    def __init__(
        self, places: Sequence[str], timeout: int, name: str = "", loop: Loop | None = None
    ) -> None:
        """`places` are its addresses, the likeliest first; `name` is the host name, if any.

        `timeout` is that of a whole call, for messages. The clients share `loop` if there is one;
        otherwise, each creates its own.
        """
        self.places = list(places)
        self.name = name
        self.timeout = timeout
        self.address = ""
        """Where chronyd has answered last; before that, the first address that could be opened."""
        self.answered = False
        self.stays = False
        """Whether to keep to the first address that has answered."""
        self.closed = ""
        """Who has closed the connection, in words."""
        self.loop = loop
        self.finalizer: weakref.finalize[Any, Any] | None = None
        """Closes it once its connection is dropped."""
        self._idle: list[Client] = []
        self._first: Callable[[], Client | None] = lambda: None

    @property
    def label(self) -> str:
        """What messages call this chronyd."""
        return labelled(self.name, self.address)

    @property
    def order(self) -> list[str]:
        """The addresses to ask, the first one first."""
        if not self.answered:
            return self.places
        address = self.address
        if self.stays:
            return [address]
        return [address, *(place for place in self.places if place != address)]

    def open_first(self) -> None:
        """Open a client for the first address that can be opened."""
        failed: dict[str, ChronyError] = {}
        loop = self.loop or new_loop()
        for place in self.places:
            try:
                self._idle.append(self.open(place, loop))
            except (ChronyConnectionError, ChronyPermissionError) as error:
                failed[place] = error.with_traceback(None)
            else:
                self.address = place
                return
        try:
            raise self.unreachable(failed)
        finally:
            failed = {}  # the error's traceback refers to this frame

    def open(self, place: str, loop: Loop) -> Client:
        """Open a client; it keeps one socket if there is another one for that address."""
        first = self._first()
        further = first is not None and not first.closed and first.address == place
        kept = 1 if further else KEPT
        client = Client(place, loop, name=self.name, timeout=self.timeout, kept=kept)
        if not further:
            self._first = weakref.ref(client)
        return client

    def take(self) -> Client | None:
        """Return an idle client for the address in use, for one call."""
        while True:
            try:
                client = self._idle.pop()
            except IndexError:
                return None
            if client.address == self.address:
                return client
            self._discard(client)

    def give(self, client: Client) -> None:
        """Take a client back after its call."""
        if client.address != self.address:
            self._discard(client)
        elif client is self._first():
            self._idle.append(client)  # to be lent next
        else:
            self._idle.insert(0, client)
        if self.closed:
            self.close(self.closed)

    def settle(self, client: Client) -> None:
        """Note that chronyd has answered at the address of this client."""
        if client.address != self.address:
            self.address = client.address
        self.answered = True

    @property
    def is_found(self) -> bool:
        """Whether it is known which address to ask first."""
        return self.answered or len(self.places) == 1

    def is_first(self, client: Client) -> bool:
        """Whether no other address comes before that of this client."""
        return client.address == self.places[0]

    def close(self, who: str) -> None:
        """Close all clients; one that is in a call is closed at the end of the call."""
        self.closed = who
        if self.finalizer is not None:
            self.finalizer.detach()
        while True:
            try:
                self._discard(self._idle.pop())
            except IndexError:
                return

    def close_dropped(self, process: int, who: str, advice: str) -> None:
        """Close a connection that was dropped, or is still open at the end of the process."""
        self.close(who)
        if os.getpid() == process:  # a child has nothing to close
            words = f"unclosed ChronyConnection to {self.label}: {advice}"
            warnings.warn(words, ResourceWarning, stacklevel=2)

    def _discard(self, client: Client) -> None:
        loop = client.loop
        client.close()
        self.release(loop)

    def release(self, loop: Loop | None) -> None:
        """Close a loop at once, unless it is shared: an error's traceback may still refer to it."""
        if self.loop is None and loop is not None:
            ffi.release(loop)

    def closed_error(self) -> ChronyError:
        """Return the error of a call whose connection was closed meanwhile."""
        outcome = f"closed by another {self.closed}"
        return ChronyConnectionError._compose("asking", self.label, outcome)

    def unreachable(self, failed: dict[str, ChronyError]) -> ChronyError:
        """Return the error of a chronyd that did not answer at any address."""
        if len(failed) == 1:
            return next(iter(failed.values()))
        failed = {place: failed[place] for place in self.places if place in failed}
        actions = [error._action for error in failed.values()]
        action = next((one for one in actions if one != "connecting to"), actions[0])
        local = len(self.places) > 1 and self.places[0].startswith("/")
        return nowhere(
            action, self.name or ("the local chronyd" if local else self.address), failed
        )


class Conversation(Generic[A]):
    """One call: asks a question at one address after the other, until one answers."""

    def __init__(
        self,
        daemon: Daemon,
        question: Question[A],
        timeout: int,
        start: int,
        client: Client | None = None,
        *,
        asked: bool = False,
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin with an idle client of the daemon, if there is one, which may be `asked` already.

        `timeout` began to run at `start` on the clock `now`, all in nanoseconds.
        """
        self._daemon, self._question, self._timeout, self._now = daemon, question, timeout, now
        self._start = start
        self._loop = client.loop if client and client.loop else daemon.loop or new_loop()
        self._clients = {client.address: client} if client else {}  # all of this call
        self._asking: list[Client] = []
        self._left = deque(daemon.order)
        self._due = 0  # when to ask the next address
        self._failed: dict[str, ChronyError] = {}
        self._refusal: tuple[Client, A | ChronyError] | None = None
        self._keep: Client | None = None  # for the next call
        self._answer: A
        if client and asked:
            with suppress(ValueError):  # another thread has just found chronyd elsewhere
                self._left.remove(client.address)
            self._asking.append(client)
            self._due = self._start + self._patience()

    def run(self) -> Waits[A]:
        """Return the answer, or raise the error of the call."""
        try:
            while not self._look():
                self._ask_further()
                if not self._asking:
                    return self._last_resort()
                yield Wait(self._due, tuple(self._asking))
                if self._daemon.closed:
                    raise self._daemon.closed_error()
            return self._answer
        finally:
            self._end()

    def _look(self) -> bool:
        """Whether there is an answer now; raise the error if it is one."""
        for client in [client for client in self._asking if not client.batch.running]:
            self._asking.remove(client)
            try:
                answer = self._question.answer(client)
            except ChronyError as error:
                if _is_away(client, error):
                    self._note(client.address, error)
                elif not refused(error) or self._is_final(client):
                    self._settle(client)
                    raise
                else:
                    self._turn_back(client, error.with_traceback(None))
                continue
            if self._is_final(client) or not self._question.lacks_permission(answer):
                self._settle(client)
                self._answer = answer
                return True
            self._turn_back(client, answer)
        return False

    def _is_final(self, client: Client) -> bool:
        """Whether a refusal by this client is the last word."""
        return bool(self._refusal) or self._daemon.stays or self._daemon.is_first(client)

    def _settle(self, client: Client) -> None:
        self._daemon.settle(client)
        self._keep = client

    def _note(self, place: str, error: ChronyError) -> None:
        """Note that chronyd is not at an address; drop the traceback, which refers to this call."""
        self._failed[place] = error.with_traceback(None)
        if self._refusal is None:
            self._due = 0

    def _turn_back(self, refusing: Client, refusal: A | ChronyError) -> None:
        """Ask the earlier addresses again, since one of them may serve what is refused here."""
        self._refusal = refusing, refusal
        places = self._daemon.places
        tried = {*self._failed, *(client.address for client in self._asking)}
        earlier = places[: places.index(refusing.address)]
        self._left = deque(place for place in earlier if place not in tried)
        self._due = self._now() + self._patience()

    def _ask_further(self) -> None:
        """Ask the next address if those before have failed or are silent for too long."""
        while self._left and (not self._asking or self._is_silent()):
            if self._ask(self._left.popleft()) and (self._left or self._refusal):
                self._due = self._now() + self._patience()
        if not self._left:
            if self._refusal is None:
                self._due = NEVER
            elif self._now() >= self._due:
                self._asking.clear()

    def _is_silent(self) -> bool:
        if self._now() < self._due:
            return False
        if any(client.batch.answered for client in self._asking):
            self._left.clear()  # a long answer
            return False
        return True

    def _ask(self, place: str) -> bool:
        """Start asking at an address; return whether that was possible."""
        try:
            client = self._clients.get(place)
            if client is None:
                client = self._clients[place] = self._daemon.open(place, self._loop)
            client.start(self._question, self._rest())
        except (ChronyConnectionError, ChronyPermissionError) as error:
            self._note(place, error)
            return False
        self._asking.append(client)
        return True

    def _rest(self) -> int:
        return remaining(self._timeout, self._start, self._now())

    def _patience(self) -> int:
        """Return how long to wait for an answer until the next address is asked, too."""
        known = max((client.batch.round_trip for client in self._asking), default=0)
        if self._timeout < 0:
            return max(PATIENCE, 3 * known)
        usual = max(min(PATIENCE, self._timeout // 4), min(3 * known, self._timeout // 2))
        if len(self._asking) < 2:
            return usual
        return min(usual, self._rest() // (len(self._left) + 1))  # so that each gets its turn

    def _last_resort(self) -> A:
        """Take the refusal as the answer, since no other address serves the report."""
        if self._refusal is None:
            raise self._daemon.unreachable(self._failed)
        self._settle(self._refusal[0])
        if isinstance(self._refusal[1], ChronyError):
            raise self._refusal[1]
        return self._refusal[1]

    def _end(self) -> None:
        """Give up what is still being asked, and keep one client for the next call."""
        self._failed, self._refusal = {}, None  # their tracebacks may refer to this conversation
        keep = self._keep or self._clients.get(self._daemon.address)
        for client in self._clients.values():
            if client is not keep:
                client.close()
        if keep is None:
            self._daemon.release(self._loop)
        else:
            keep.stop()
            self._daemon.give(keep)


def _is_away(client: Client, error: ChronyError) -> bool:
    """Whether no chronyd is there; one whose answer takes too long does not count."""
    late = isinstance(error, ChronyTimeoutError) and client.batch.answered
    return is_away(error) and not late
