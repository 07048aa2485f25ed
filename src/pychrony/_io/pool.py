"""Keeps the clients of one connection, one for each concurrent call, and finds its chronyd."""

from __future__ import annotations

import time
import weakref
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import (
    ChronyConnectionError,
    ChronyError,
    ChronyTimeoutError,
)
from .client import KEPT, Client, Question, Terms, labelled, remaining
from .exits import watch_process
from .failures import nowhere

if TYPE_CHECKING:
    from ._shim import Loop

A = TypeVar("A")

FIRST_CHOICE = "/var/run/chrony/chronyd.sock"  # of libchrony, which does not report why it failed


class Pool:
    """Lends clients to calls; needs no lock, since the operations of a list are atomic.

    The first client keeps up to 16 sockets, which long lists need. The others keep one each, and
    serve calls that come while the first one is lent.
    """

    def __init__(
        self,
        candidates: list[str],
        timeout: int,
        name: str | None = None,
        *,
        loop: Loop | None = None,
    ) -> None:
        """Open a client for the first of the addresses where that is possible.

        `name` is the host name that the caller gave, for messages; `None` for another address.
        The clients share `loop` if there is one; otherwise, each creates its own.
        """
        watch_process()
        self._name = name or ""
        self._candidates = candidates
        self._loop = loop
        self._terms = Terms(timeout)
        self._idle: list[Client] = []
        self._first: Any = lambda: None  # the client that keeps many sockets, if it is alive
        self.found = len(candidates) == 1
        """Whether chronyd has answered at `address`, or there is no other candidate."""
        self.address = ""
        """Where chronyd was found, in libchrony's notation; until then, where it may be."""
        client = self._open_one()
        self.address = client.address
        self._idle.append(client)

    @property
    def label(self) -> str:
        """What messages call this chronyd."""
        return labelled(self._name, self.address)

    def ask(self, question: Question[A], timeout: int) -> A:
        """Ask a question, block, and return the answer."""
        if self.found:
            client = self.take(self.address)
            try:
                return client.ask(question, timeout)
            except BaseException:
                client.stop()
                raise
            finally:
                self.give(client)
        with closing(self.conversation(question, timeout)) as waits:
            while True:
                try:
                    client = next(waits)
                except StopIteration as end:
                    answer: A = end.value
                    return answer
                client.wait()

    def conversation(self, question: Question[A], timeout: int) -> Generator[Client, None, A]:
        """Ask a question at one address after the other until chronyd answers.

        Yields each client that must be waited for, and returns the answer. Closing the generator
        gives the question up. Until one call has found chronyd, every call does its own search, so
        that neither threads nor exceptions can affect the search of another call.
        """
        start = time.monotonic_ns()
        asked = "connecting to"
        tried: dict[str, ChronyError] = {}
        places = [self.address] if self.found else self._candidates
        for place in places:
            try:
                client = self.take(place)
            except ChronyConnectionError as error:
                tried[place or FIRST_CHOICE] = error
                continue
            try:
                client.start(question, remaining(timeout, start))
                yield client
                answer = question.answer(client)
                self._stay(client)
                return answer
            except ChronyConnectionError as error:
                if len(places) == 1 or isinstance(error, ChronyTimeoutError) or self._terms.closed:
                    raise
                if not place and not client.address.startswith("/"):
                    tried[FIRST_CHOICE] = self._why_not_first()
                tried[client.address] = error
                asked = error._action
            finally:
                client.stop()
                self.give(client)
        raise nowhere(asked, self._name or self._candidates[0] or "the local chronyd", tried)

    def take(self, place: str) -> Client:
        """Return a client for one call at an address: an idle one, or a new one."""
        while True:
            try:
                client = self._idle.pop()
            except IndexError:
                return self._open(place)
            if place in (client.wanted, client.address):
                return client
            client.close()  # it was only used in the search

    def give(self, client: Client) -> None:
        """Take a client back after its call, unless it is for another address."""
        if self.found and client.address != self.address:
            client.close()
        elif client is self._first():
            self._idle.append(client)  # to be lent next
        else:
            self._idle.insert(0, client)
        if self._terms.closed:
            self.close()

    def close(self) -> None:
        """Close all clients; a client that is in a call is closed when the call returns it."""
        self._terms.closed = True
        for _ in range(len(self._idle)):
            try:
                self._idle.pop().close()
            except IndexError:  # another thread closes them too
                return

    def _open_one(self) -> Client:
        """Open a client for the first of the addresses where that is possible."""
        for place in self._candidates[:-1]:
            try:
                return self._open(place)
            except ChronyConnectionError:
                continue
        return self._open(self._candidates[-1])

    def _open(self, place: str) -> Client:
        """Open a client; replace the first one if an exception lost it or its address was wrong."""
        if self._first() is not None:
            return Client(place, self._terms, name=self._name, kept=1, loop=self._loop)
        client = Client(place, self._terms, name=self._name, kept=KEPT, loop=self._loop)
        self._first = weakref.ref(client)
        return client

    def _stay(self, client: Client) -> None:
        """Note that chronyd is where it has answered."""
        if not self.found:
            self.address = client.address
            self.found = True

    def _why_not_first(self) -> ChronyError:
        """Return the error of the Unix socket, which libchrony does not report."""
        try:
            Client(FIRST_CHOICE, self._terms, kept=1).close()
        except ChronyError as error:
            return error
        return ChronyConnectionError("it has just been opened")
