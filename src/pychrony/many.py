"""Asks any number of daemons at the same time."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import closing

from ._engine.address import parse_timeout
from ._engine.client import Together
from ._engine.crowd import Crowd, Outcome
from ._engine.names import ThreadedResolver
from .connection import gather, named_models
from .models import Answer

__all__ = ["get_many"]


def get_many(
    addresses: Iterable[str | os.PathLike[str]], *names: str, timeout: float | None = 5.0
) -> Generator[Answer, None, None]:
    """Ask any number of daemons at the same time; yield an `Answer` for each as it comes.

    The reports are those of `get_all(*names)`. An address may be whatever `ChronyConnection` takes,
    but for `None`. A daemon that cannot be asked, and even an address that cannot be one, is an
    answer with an `error`, and leaves the others as they are.

    `addresses` may be endless: they are taken as they can be asked, up to a few thousand at a time,
    and fewer where the process may not open so many files: two for each. `timeout` is how long each
    daemon may take in all, in seconds, with the resolution of its name; `None` waits for ever. The
    time that the caller spends between two answers does not count.

    An iterator that is closed or dropped stops asking.

    Raises `TypeError` or `ValueError` for other arguments that cannot be right, at once.
    """
    question, nanoseconds = Together(named_models(names)), parse_timeout(timeout)
    return _answers(check(addresses), question, nanoseconds)


def check(addresses: Iterable[object]) -> Iterable[object]:
    """Refuse a single address in place of several."""
    if isinstance(addresses, (str, bytes, os.PathLike)):
        raise TypeError(f"addresses must be several, such as a list, not {addresses!r} alone")
    return iter(addresses)


def answer_of(outcome: Outcome) -> Answer:
    """Return what the caller gets to see of the result for an address."""
    if outcome.answers is None:
        return Answer(outcome.given, error=outcome.error)
    return Answer(outcome.given, gather(outcome.answers, outcome.address))


def _answers(
    addresses: Iterable[object], question: Together, timeout: int
) -> Generator[Answer, None, None]:
    with closing(Crowd(addresses, question, timeout, ThreadedResolver())) as crowd:
        while not crowd.ended:
            crowd.run()
            with crowd.pause():
                while crowd.outcomes:
                    yield answer_of(crowd.outcomes.popleft())
