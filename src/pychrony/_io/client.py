"""Drives a batch of the C engine at one address: opens sockets there, and holds what was read."""

from __future__ import annotations

import errno
import os
from struct import Struct
from typing import TYPE_CHECKING, Any

from ..exceptions import ChronyError
from ._shim import ffi, lib
from .failures import NO_MEMORY, absurd, failure
from .library import reports

if TYPE_CHECKING:
    from ._shim import Ask, Batch, Loop
    from .questions import Question

KEPT = 16
"""Maximum number of sockets that a client keeps; from eight on, chronyd is the bottleneck."""

_PLACE = Struct("=iII")


class Client:
    """The sockets for one address, and the memory for one batch at a time.

    It closes itself when it is dropped, since an exception from a signal handler may lose it.
    """

    def __init__(
        self, address: str, loop: Loop, *, name: str = "", timeout: int = -1, kept: int = KEPT
    ) -> None:
        """Open a first socket to `address`, in a loop that other clients may share.

        `name` is the host name that was resolved to it, and `timeout` that of a whole call, both
        for messages.
        """
        reports()
        self.address = address
        self.label = labelled(name, address)
        """What messages call this chronyd."""
        self.loop: Loop | None = loop
        self.timeout = timeout
        self._client = ffi.gc(lib.shim_client_new(), lib.shim_client_free)
        system = ffi.new("int[]", 1)  # a signal handler could change CFFI's errno
        error = lib.shim_open(self._client, loop, os.fsencode(address), kept, system)
        if error:
            raise failure("connecting to", self.label, address, error, system[0])
        self.batch: Batch = lib.shim_batch_of(self._client)
        self.tag = self.batch.tag
        """A number that no other client of the loop has."""
        self.due = 0
        """In how many nanoseconds from `start()` the loop is to be stepped."""
        self.bytes = self._place = memoryview(b"")  # the batch's, once there are any
        self._moved = 0

    @property
    def closed(self) -> bool:
        """Whether it cannot be used any more."""
        return self.loop is None

    def close(self) -> None:
        """Close all sockets; the loop ends with its last client, unless someone else holds it."""
        self.loop = None
        ffi.release(self._client)

    def start(self, question: Question[Any], timeout: int, longest: int = 0) -> None:
        """Start asking, in place of a running batch; `timeout` is the rest of the call's.

        Then block for up to `longest` nanoseconds, if no other client shares the loop.
        """
        due = lib.shim_start(self._client, question.asks, question.asked, timeout, longest)
        if due < 0:
            raise failure("asking", self.label, self.address, -due, 0)
        self.due = due

    def stop(self) -> None:
        """Give up the running batch."""
        lib.shim_stop(self._client)

    def places(self, ask: Ask) -> list[tuple[int, int, int]]:
        """Return shape, offset in `bytes`, and room of each record of one report."""
        if not ask.records:
            return []
        if self._moved != self.batch.moved:
            self._follow()
        # As a list: the garbage collector crashes on an iterator that an exception left behind.
        places = [*_PLACE.iter_unpack(ffi.buffer(ask.places, ask.records * _PLACE.size))]
        return places[1:] + places[:1]

    def first_place(self) -> tuple[int, int, int]:
        """Return the same for a single record; its shape is negative on an error."""
        if self._moved != self.batch.moved:
            self._follow()
        return _PLACE.unpack_from(self._place)

    def _follow(self) -> None:
        """Look up where the batch's memory is now."""
        batch = self.batch
        self._place = memoryview(ffi.buffer(batch.asks[0].places, _PLACE.size))
        self.bytes = memoryview(ffi.buffer(batch.bytes, batch.size))
        self._moved = batch.moved

    def failure(self, report: str, ask: Ask) -> ChronyError:
        """Return the exception for a report that could not be read."""
        action = f"reading {report} from"
        if ask.error == lib.SHIM_ABSURD:
            return absurd(action, self.label, ask.records)
        waited = self.timeout / 1e9
        return failure(
            action, self.label, self.address, ask.error, ask.system, report=report, waited=waited
        )


def labelled(name: str, address: str) -> str:
    """Return `name (address)`, or just the address."""
    return f"{name} ({address})" if name else address


def new_loop() -> Loop:
    """Return a loop that closes itself once it and its clients are dropped."""
    loop = lib.shim_loop_new()
    if not loop:
        raise failure("opening a socket", "", "", NO_MEMORY, errno.ENOMEM)
    return ffi.gc(loop, lib.shim_loop_free)
