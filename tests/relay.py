"""Simulates a network to a distant chronyd: delays, loses and counts datagrams."""

from __future__ import annotations

import heapq
import itertools
import random
import select
import socket
import threading
import time
from types import TracebackType
from typing import TypeAlias

Place: TypeAlias = tuple[str, int]


class Relay:
    """Forwards datagrams to a chronyd's UDP port and back, in a thread.

    Each direction takes half of `round_trip` seconds and loses the share `loss` of all datagrams.
    `rounds` counts round trips: requests that arrive within half a trip of each other share one.
    """

    def __init__(self, server: str, round_trip: float, loss: float = 0.0, seed: int = 0) -> None:
        host, _, port = server.rpartition(":")
        self._server = host, int(port)
        self._way = round_trip / 2
        self._loss = loss
        self._chance = random.Random(seed)
        self._ends: dict[Place, socket.socket] = {}  # of each client, towards the server
        self._due: list[tuple[float, int, socket.socket, bytes, Place]] = []
        self._order = itertools.count()
        self._round_began = 0.0
        self._over = False
        self.rounds = 0

    def __enter__(self) -> Relay:
        self._near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._near.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._near.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True
        self._thread.join()
        for end in (self._near, *self._ends.values()):
            end.close()

    def _run(self) -> None:
        known: dict[int, tuple[socket.socket, Place]] = {}
        polled = select.poll()  # unlike select(), it takes any number of sockets
        polled.register(self._near, select.POLLIN)
        while not self._over:
            pause = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 0.02
            for client, end in list(self._ends.items()):
                if end.fileno() not in known:
                    known[end.fileno()] = end, client
                    polled.register(end, select.POLLIN)
            for ready, _ in polled.poll(1000 * min(pause, 0.02)):
                if ready == self._near.fileno():
                    self._take_request()
                else:
                    end, client = known[ready]
                    self._send_later(self._near, end.recv(4096), client)
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, end, datagram, to = heapq.heappop(self._due)
                end.sendto(datagram, to)

    def _take_request(self) -> None:
        datagram, client = self._near.recvfrom(4096)
        now = time.monotonic()
        if now > self._round_began + self._way:
            self.rounds += 1
            self._round_began = now
        if client not in self._ends:
            self._ends[client] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._send_later(self._ends[client], datagram, self._server)

    def _send_later(self, end: socket.socket, datagram: bytes, to: Place) -> None:
        if self._chance.random() >= self._loss:
            due = time.monotonic() + self._way
            heapq.heappush(self._due, (due, next(self._order), end, datagram, to))
