"""Drives conversations where a thread may block."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import TypeVar

from ..exceptions import ChronyError
from ._shim import lib
from .client import Client
from .conversation import Conversation, Daemon, Waits
from .questions import Question

A = TypeVar("A")

SLICE = 200_000_000
"""Nanoseconds after which a wait lets signal handlers run, and notices what other threads did."""


def ask(daemon: Daemon, question: Question[A], timeout: int) -> A:
    """Ask a question, block, and return the answer."""
    start = time.monotonic_ns()
    client = daemon.take()
    asked = client is not None and daemon.is_found
    if client is not None and asked:
        # This is usually all: a single crossing from Python to C, because each one costs time.
        try:
            client.start(question, timeout, SLICE)
            if not client.batch.running:
                try:
                    answer = question.answer(client)
                    if daemon.is_first(client) or not question.lacks_permission(answer):
                        daemon.give(client)
                        return answer
                except ChronyError:
                    pass  # the conversation knows what to do about it
        except BaseException:
            client.stop()
            daemon.give(client)
            raise
    return drive(Conversation(daemon, question, timeout, start, client, asked=asked).run())


def drive(waits: Waits[A]) -> A:
    """Wait for what a conversation waits for, until it ends; return its result."""
    with closing(waits):
        while True:
            try:
                wait = next(waits)
            except StopIteration as end:
                answer: A = end.value
                return answer
            pause = max(0, min(wait.until - time.monotonic_ns(), SLICE))
            if wait.clients:
                _wait_for_clients(wait.clients, pause)
            else:
                time.sleep(pause / 1e9)


def _wait_for_clients(clients: Sequence[Client], pause: int) -> None:
    loop = clients[0].loop  # all clients of a conversation share it
    assert loop is not None
    lib.shim_run(loop, pause)
    while lib.shim_finished(loop) >= 0:  # otherwise, the next run would not wait
        pass
