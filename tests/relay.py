"""Simulates a network to a distant chronyd: a process that delays, loses and counts datagrams."""

from __future__ import annotations

import random
import select
import socket
import subprocess
import sys
import time
from collections import deque
from types import TracebackType
from typing import Any


class Relay:
    """Forwards datagrams to a chronyd's UDP port and back.

    Each direction takes half of `round_trip` seconds and loses the share `loss` of all datagrams.
    The work is done in another process, so that it does not wait for the client in this one.
    """

    def __init__(self, server: str, round_trip: float, loss: float = 0.0) -> None:
        self._options = server, str(round_trip), str(loss)

    def __enter__(self) -> Relay:
        command = [sys.executable, __file__, *self._options]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self.address = self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def take_rounds(self) -> int:
        """Return the number of round trips since the last time.

        Requests that arrive within half a trip of each other share one.
        """
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        return int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class _Way:
    """One direction: what is under way to its end."""

    def __init__(self, end: socket.socket, seconds: float, loss: float) -> None:
        self.end = end
        self.under_way: deque[tuple[float, bytes, Any]] = deque()
        self._seconds = seconds
        self._loss = loss
        self._chance = random.Random(0)

    def send(self, now: float, datagram: bytes, to: Any) -> None:
        if self._chance.random() >= self._loss:
            self.under_way.append((now + self._seconds, datagram, to))

    def deliver(self, now: float) -> None:
        while self.under_way and self.under_way[0][0] <= now:
            _, datagram, to = self.under_way.popleft()
            self.end.sendto(datagram, to)


def _relay(server: tuple[str, int], way: float, loss: float) -> None:
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for end in (near, far):
        end.bind(("127.0.0.1", 0))
        end.setblocking(False)
    print("127.0.0.1:{1}".format(*near.getsockname()), flush=True)
    there, back = _Way(far, way, loss), _Way(near, way, loss)
    clients: dict[bytes, Any] = {}  # by the sequence number of the request
    rounds, began = 0, 0.0
    while True:
        due = [first.under_way[0][0] for first in (there, back) if first.under_way]
        pause = max(0.0, min(due) - time.monotonic()) if due else None
        ready, _, _ = select.select([near, far, sys.stdin], [], [], pause)
        now = time.monotonic()
        for datagram, client in _received(near) if near in ready else ():
            if now > began + way:
                rounds, began = rounds + 1, now
            clients[datagram[8:12]] = client
            there.send(now, datagram, server)
        for datagram, _ in _received(far) if far in ready else ():
            back.send(now, datagram, clients[datagram[16:20]])
        there.deliver(now)
        back.deliver(now)
        if sys.stdin in ready:
            if not sys.stdin.readline():
                return
            print(rounds, flush=True)
            rounds, began = 0, 0.0


def _received(end: socket.socket) -> Any:
    try:
        while True:
            yield end.recvfrom(4096)
    except BlockingIOError:
        return


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    _relay((host, int(port)), float(sys.argv[2]) / 2, float(sys.argv[3]))
