"""The clients of one connection: one for each call that is under way at the same time."""

from __future__ import annotations

import weakref

from ..exceptions import (
    ChronyConnectionError,
    ChronyError,
    ChronyPermissionError,
    ChronyTimeoutError,
)
from .client import Client, Terms

SESSIONS = 16
"""How many sockets the first client opens at most: from eight on, chronyd itself is what waits."""
FIRST_CHOICE = "/var/run/chrony/chronyd.sock"  # of libchrony, which says nothing of why it failed


class Pool:
    """Lends clients to calls; needs no lock, since a list's own operations are atomic.

    The first client opens up to 16 sockets, as long lists need them; the others, for calls that
    come while it is lent, open one each.
    """

    def __init__(self, candidates: list[str], timeout: int) -> None:
        """Open a client to the first of the addresses where that is possible."""
        self.candidates = list(candidates) if len(candidates) > 1 else []
        """Where chronyd may be, until it has answered."""
        self._left = list(candidates)
        self._gone: list[str] = []
        self._terms = Terms(timeout)
        self._idle: list[Client] = []
        self._open_first()

    def take(self) -> Client:
        """Return a client for one call."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def give(self, client: Client) -> None:
        """Take a client back after its call, unless it is of another address, or unusable."""
        if client.address != self.address:
            client.close()
        elif client is self._first():
            self._idle.append(client)  # to be the next to go
        else:
            self._idle.insert(0, client)
        if self._terms.closed:
            self.close()

    def move_on(self, client: Client, error: ChronyConnectionError) -> bool:
        """Open the next address, if chronyd was not there for `client`; tell whether it opened.

        Raises the error that names every address, after the last of them.
        """
        if isinstance(error, ChronyTimeoutError) or self._terms.closed:
            return False
        if client.address != self.address:
            return True  # another thread has moved on
        if not self.candidates:
            return False
        self._gone.append(client.address)
        try:
            if self._open_first():
                return True
        except ChronyConnectionError:
            pass
        gone, self._gone = list(dict.fromkeys(self._gone)), []
        self._left = list(self.candidates)  # for the next call
        raise self._nowhere(error, gone)

    def stay(self) -> None:
        """Take it that chronyd is where it has answered."""
        self.candidates.clear()
        self._left.clear()

    def close(self) -> None:
        """Close all clients; one that is in a call is closed when it comes back."""
        self._terms.closed = True
        for _ in range(len(self._idle)):
            try:
                self._idle.pop().close()
            except IndexError:  # another thread closes them too
                return

    def _open_first(self) -> bool:
        """Open a client to the next address where that is possible; false if there is none."""
        while True:
            try:
                place = self._left.pop(0)
            except IndexError:
                return False
            try:
                client = Client(place, self._terms, SESSIONS)
                break
            except ChronyConnectionError:
                if not self._left:
                    raise
        if not place and not client.address.startswith("/"):
            self._gone.append(FIRST_CHOICE)
        self.address = client.address
        self._first = weakref.ref(client)
        self._idle = [client]
        return True

    def _nowhere(self, error: ChronyConnectionError, places: list[str]) -> ChronyError:
        """Return the error of the last address, or of the first if the user may not use that."""
        final: ChronyError = error
        if FIRST_CHOICE in places:
            try:
                Client(FIRST_CHOICE, self._terms, 1).close()
            except ChronyPermissionError as denied:
                final = denied
            except ChronyConnectionError:
                pass
        places = [place for place in places if f" {place}: " not in final.message]
        final.message += f"; nor is it at {' or '.join(places)}" if places else ""
        final.args = (final.message,)
        return final

    def _open(self) -> Client:
        """Open a further client; a first again, if an exception lost it between two lines."""
        if self._first() is not None:
            return Client(self.address, self._terms, 1)
        client = Client(self.address, self._terms, SESSIONS)
        self._first = weakref.ref(client)
        return client
