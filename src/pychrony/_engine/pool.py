"""Keeps the clients of one connection, one for each call under way, and finds its chronyd."""

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
from .client import KEPT, Client, Question, Terms, remaining
from .exits import watch_process
from .failures import nowhere

if TYPE_CHECKING:
    from ._shim import Loop

A = TypeVar("A")

FIRST_CHOICE = "/var/run/chrony/chronyd.sock"  # of libchrony, which says nothing of why it failed


class Pool:
    """Lends clients to calls; needs no lock, since a list's own operations are atomic.

    The first client keeps up to 16 sockets, as long lists need them; the others, for calls that
    come while it is lent, keep one each.
    """

    def __init__(
        self,
        candidates: list[str],
        timeout: int,
        name: str | None = None,
        *,
        loop: Loop | None = None,
    ) -> None:
        """Open a client to the first of the addresses where that is possible.

        `name` is what the caller gave as address, for messages. Without a loop that they are to
        share with others, each client has its own.
        """
        watch_process()
        self._name = name or "the local chronyd"
        self._candidates = candidates
        self._loop = loop
        self._terms = Terms(timeout)
        self._idle: list[Client] = []
        self._first: Any = lambda: None  # the client that keeps many sockets, if it is alive
        self.found = len(candidates) == 1
        """Whether it is known where chronyd is: where it has answered, or at the only address."""
        self.address = ""
        """Where chronyd is, in libchrony's notation; until it is found, where it may be."""
        client = self._open_one()
        self.address = client.address
        self._idle.append(client)

    def ask(self, question: Question[A], timeout: int) -> A:
        """Ask a question, and block until it is answered."""
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
        """Ask a question, at one address after the other until chronyd answers at one.

        Yields a client each time one must be waited for, and returns the answer. Closing the
        generator gives the question up. Each call searches for itself until one has found chronyd,
        so that neither threads nor exceptions can take an address from another call.
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
                asked = error.message.partition(f" {client.address}: ")[0]
            finally:
                client.stop()
                self.give(client)
        raise nowhere(f"{asked} {self._name}", tried)

    def take(self, place: str) -> Client:
        """Return a client for one call to an address: an idle one, or a new one."""
        while True:
            try:
                client = self._idle.pop()
            except IndexError:
                return self._open(place)
            if place in (client.wanted, client.address):
                return client
            client.close()  # it was of use in the search alone

    def give(self, client: Client) -> None:
        """Take a client back after its call, unless it is of another address."""
        if self.found and client.address != self.address:
            client.close()
        elif client is self._first():
            self._idle.append(client)  # to be the next to go
        else:
            self._idle.insert(0, client)
        if self._terms.closed:
            self.close()

    def close(self) -> None:
        """Close all clients; one that is in a call is closed when it comes back."""
        self._terms.closed = True
        for _ in range(len(self._idle)):
            try:
                self._idle.pop().close()
            except IndexError:  # another thread closes them too
                return

    def _open_one(self) -> Client:
        """Open a client to the first of the addresses where that is possible."""
        for place in self._candidates[:-1]:
            try:
                return self._open(place)
            except ChronyConnectionError:
                continue
        return self._open(self._candidates[-1])

    def _open(self, place: str) -> Client:
        """Open a client; the first one again, if an exception lost it or it was elsewhere."""
        if self._first() is not None:
            return Client(place, self._terms, kept=1, loop=self._loop)
        client = Client(place, self._terms, kept=KEPT, loop=self._loop)
        self._first = weakref.ref(client)
        return client

    def _stay(self, client: Client) -> None:
        """Take it that chronyd is where it has answered."""
        if not self.found:
            self.address = client.address
            self.found = True

    def _why_not_first(self) -> ChronyError:
        """Return what is wrong with the Unix socket, which libchrony keeps to itself."""
        try:
            Client(FIRST_CHOICE, self._terms, kept=1).close()
        except ChronyError as error:
            return error
        return ChronyConnectionError("it has just been opened")
