"""Simulates a network to a distant chronyd: a process that delays, loses and counts datagrams."""

from __future__ import annotations

import math
import random
import select
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

BUSY = 0.001  # seconds between two checks whether the client waits


class Relay:
    """Forwards datagrams to a chronyd's UDP port and back.

    Each direction takes half of `round_trip` seconds and loses the share `loss` of all datagrams.
    With the ID of the `client`'s thread, answers are late if that does not wait for them yet. The
    work is done in another process, so that it does not wait for the client in this one.
    """

    def __init__(self, server: str, round_trip: float, loss: float = 0, client: int = 0) -> None:
        self._options = server, str(round_trip), str(loss), str(client)

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

        A request belongs to the round trip that follows the last answer before it.
        """
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        return int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class _Way:
    """One direction: what is under way to its end, with the round that it belongs to."""

    def __init__(self, end: socket.socket, seconds: float, loss: float) -> None:
        self.end = end
        self.under_way: deque[tuple[float, bytes, Any, int]] = deque()
        self._seconds = seconds
        self._loss = loss
        self._chance = random.Random(0)

    def send(self, datagram: bytes, to: Any, number: int) -> None:
        if self._chance.random() >= self._loss:
            due = time.monotonic() + self._seconds
            self.under_way.append((due, datagram, to, number))

    def pause(self) -> float:
        """Seconds until the first datagram is due."""
        return self.under_way[0][0] - time.monotonic() if self.under_way else math.inf

    def deliver(self) -> int:
        """Send what is due; return the latest round among it."""
        latest = 0
        while self.pause() <= 0:
            _, datagram, to, number = self.under_way.popleft()
            self.end.sendto(datagram, to)
            latest = max(latest, number)
        return latest


def _relay(server: tuple[str, int], way: float, loss: float, thread: int) -> None:
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for end in (near, far):
        end.bind(("127.0.0.1", 0))
        end.setblocking(False)
    print("127.0.0.1:{1}".format(*near.getsockname()), flush=True)
    there, back = _Way(far, way, loss), _Way(near, way, loss)
    clients: dict[bytes, tuple[Any, int]] = {}  # by the sequence number of the request
    answered = latest = 0  # rounds
    while True:
        pause = max(min(there.pause(), back.pause()), BUSY if back.pause() <= 0 else 0)
        waited_for = [near, far, sys.stdin]
        ready, _, _ = select.select(waited_for, [], [], None if pause == math.inf else pause)
        for datagram, client in _received(near) if near in ready else ():
            latest = answered + 1
            clients[datagram[8:12]] = client, latest
            there.send(datagram, server, latest)
        for datagram, _ in _received(far) if far in ready else ():
            back.send(datagram, *clients[datagram[16:20]])
        there.deliver()
        if back.pause() <= 0 and _waits(thread) and not _has_more(near):
            answered = max(answered, back.deliver())
        if sys.stdin in ready:
            if not sys.stdin.readline():
                return
            print(latest, flush=True)
            answered = latest = 0


def _received(end: socket.socket) -> Any:
    try:
        while True:
            yield end.recvfrom(4096)
    except BlockingIOError:
        return


def _has_more(end: socket.socket) -> bool:
    return bool(select.select([end], [], [], 0)[0])


def _waits(thread: int) -> bool:
    """Whether a thread sleeps, rather than is about to send more; 0 stands for any."""
    if not thread:
        return True
    stat = Path(f"/proc/{thread}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    _relay((host, int(port)), float(sys.argv[2]) / 2, float(sys.argv[3]), int(sys.argv[4]))
