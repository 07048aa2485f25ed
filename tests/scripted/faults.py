"""Defines faults: what can happen to an answer, or to chronyd, instead of a proper reply."""

from __future__ import annotations

import itertools
import random
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .scripts import Fault, Request, Script
from .wire import HEADER_FIELDS, Command, response

if TYPE_CHECKING:
    from .chronyd import ScriptedChronyd


def honest(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
    return [(0, reply)]


def at(numbers: Container[int], fault: Fault) -> Fault:
    """Apply the fault only to the answers with these numbers: `at({0}, drop)`."""
    return lambda request, reply, number: (fault if number in numbers else honest)(
        request, reply, number
    )


def on(command: Command, fault: Fault) -> Fault:
    """Apply the fault to one command only, and count its answers from 0."""
    numbers = itertools.count()

    def only(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
        if request.command is command:
            return fault(request, reply, next(numbers))
        return honest(request, reply, number)

    return only


def drop(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
    return []


def delay(seconds: float) -> Fault:
    return lambda request, reply, number: [(seconds, reply)]


def duplicate(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
    return [(0, reply), (0, reply)]


def stale() -> Fault:
    """Send each answer after a repetition of the previous one."""
    last: dict[Any, bytes] = {}

    def repeat(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
        old = last.get(request.client)
        last[request.client] = reply
        return [(0, reply)] if old is None else [(0, old), (0, reply)]

    return repeat


def header(**fields: int) -> Fault:
    """Set other values in the header: `header(version=7, status=18)`."""

    def change(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
        for name, value in fields.items():
            offset, size = HEADER_FIELDS[name]
            reply = reply[:offset] + value.to_bytes(size, "big") + reply[offset + size :]
        return [(0, reply)]

    return change


def wrong(field: str) -> Fault:
    """Flip every bit of a header field."""
    offset, size = HEADER_FIELDS[field]

    def flip(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
        flipped = bytes(byte ^ 0xFF for byte in reply[offset : offset + size])
        return [(0, reply[:offset] + flipped + reply[offset + size :])]

    return flip


def refuse(status: int) -> Fault:
    """Send an error instead of the answer."""
    return lambda request, reply, number: [
        (0, response(int.from_bytes(reply[4:6], "big"), request.sequence, status=status))
    ]


def resize(length: int) -> Fault:
    """Cut each answer, or fill it up with zeros, to this length."""
    return lambda request, reply, number: [(0, reply[:length].ljust(length, b"\0"))]


def instead(*datagrams: bytes) -> Fault:
    """Send other datagrams, whatever the request is."""
    return lambda request, reply, number: [(0, datagram) for datagram in datagrams]


def garbage(seed: int = 0) -> Fault:
    """Send random bytes, up to twice as many as in the answer."""
    chance = random.Random(seed)
    return lambda request, reply, number: [
        (0, chance.randbytes(chance.randrange(2 * len(reply)))),
    ]


def drip(every: float = 0.01, *, junk: Fault | None = None, count: int | None = None) -> Fault:
    """Send junk again and again, and the answer after `count` times; without a count, never.

    The junk is what another fault makes of the answer, by default one with a wrong sequence.
    """
    bad = wrong("sequence") if junk is None else junk

    def pour(request: Request, reply: bytes, number: int) -> Iterator[tuple[float, bytes]]:
        for _ in itertools.count() if count is None else range(count):
            for _, datagram in bad(request, reply, number):
                yield every, datagram
        yield 0, reply

    return pour


def dies(chronyd: ScriptedChronyd, *, crash: bool = False) -> Fault:
    """Let chronyd stop instead of answering."""

    def die(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
        chronyd.stop(crash=crash)
        return []

    return die


def restarts(chronyd: ScriptedChronyd, answers: Script | None = None) -> Fault:
    """Let chronyd restart instead of answering, optionally with another script."""

    def restart(request: Request, reply: bytes, number: int) -> Iterable[tuple[float, bytes]]:
        chronyd.replace(answers)
        return []

    return restart
