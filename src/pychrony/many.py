"""Reads reports from any number of daemons at the same time: `get_many()`."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import closing

from ._io.address import parse_timeout
from ._io.blocking import SLICE
from ._io.many import Many
from ._io.questions import Answers, Together
from .connection import gather, named_models
from .exceptions import ChronyError
from .models import Answer

__all__ = ["get_many"]


def get_many(
    addresses: Iterable[str | os.PathLike[str]], *names: str, timeout: float | None = 5.0
) -> Generator[Answer, None, None]:
    """Read reports from any number of daemons at once; yield each `Answer` as it arrives.

    The reports are those of `get_all(*names)`. An address may be anything that `ChronyConnection`
    takes, except `None`. For a daemon that does not answer, or even an invalid address, you get an
    answer with an `error`; the others are not affected.

    `addresses` may be an infinite iterator: it is consumed as capacity frees up. Up to 2000 daemons
    are asked at the same time, or fewer if the limit on open files is low: each daemon takes two
    files, and half of the free ones are left to the program. `timeout` limits the time for each
    daemon, in seconds, including the resolution of its name; `None` waits for ever. Time that the
    caller spends between two answers does not count.

    Closing or dropping the iterator stops all requests.

    Other invalid arguments raise `TypeError` or `ValueError` at once.
    """
    question, nanoseconds = Together(named_models(names)), parse_timeout(timeout)
    return _answers(check(addresses), question, nanoseconds)


def check(addresses: Iterable[object]) -> Iterable[object]:
    """Return an iterator; raise `TypeError` for a single address."""
    if isinstance(addresses, (str, bytes, os.PathLike)):
        raise TypeError(
            f"addresses must be an iterable of addresses, such as a list, not {addresses!r}"
        )
    return iter(addresses)


def answer_of(given: str, found: Answers | ChronyError) -> Answer:
    """Return the public form of the result for an address."""
    if isinstance(found, ChronyError):
        return Answer(given, error=found)
    return Answer(given, gather(found, None))


def _answers(
    addresses: Iterable[object], question: Together, timeout: int
) -> Generator[Answer, None, None]:
    with closing(Many(addresses, question, timeout)) as many:
        while not many.ended:
            many.step(SLICE)
            with many.pause():
                while many.outcomes:
                    yield answer_of(*many.outcomes.popleft())
