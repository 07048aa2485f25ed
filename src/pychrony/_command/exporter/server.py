"""An HTTP server that slow and hostile clients cannot block, based on aiohttp's.

aiohttp's timeout for idle connections runs from the connection's start, or from the last answer,
until the whole head of a request has arrived. What aiohttp lacks is a limit on connections, and a
log without tracebacks.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ssl import SSLContext

from aiohttp import web

NAME = "pychrony"
BACKLOG = 1024
HEAD = 10.0
"""Seconds that a client may take for a TLS handshake, for the head of a request, to accept more of
an answer, and between two requests."""

log = logging.getLogger("pychrony.exporter")

Answer = Callable[[web.BaseRequest], Awaitable[web.Response]]


class Connection(web.RequestHandler):
    """Answers a malformed request without an entry in the log."""

    client: socket.socket

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response for an error."""
        if status == 500:
            log.error("answering %s: %r", request.path, exc)
        response = web.Response(status=status, text=f"{message}\n", headers={"Server": NAME})
        response.force_close()
        return response


class Server(web.Server):
    """Keeps up to `most` connections; for a new one, it closes the one that is idle the longest."""

    def __init__(self, answer: Answer, most: int, tls: Callable[[], SSLContext | None]) -> None:
        super().__init__(self._respond)
        self._answer, self._most, self._tls = answer, most, tls
        self._open: dict[Connection, bool] = {}  # whether it is idle, the longest first
        self._starting: set[asyncio.Task[None]] = set()

    async def accept(self, listener: socket.socket) -> None:
        """Serve whoever connects to a socket, with what `tls` returns at that time.

        An `asyncio.Server` would keep the certificates that it was started with. When closed, it
        would lose connections that it has just accepted.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(HEAD * 1000))
            except OSError as error:  # such as too many open files
                log.error("accepting a connection: %s", error.strerror)
                await asyncio.sleep(1)
                continue
            starting = loop.create_task(self._start(client))
            self._starting.add(starting)
            starting.add_done_callback(self._starting.discard)
            await asyncio.sleep(0)  # let others run, however many clients wait

    async def _start(self, client: socket.socket) -> None:
        tls, loop = self._tls(), asyncio.get_running_loop()
        handler = Connection(
            self, loop=loop, keepalive_timeout=HEAD, lingering_time=1.0, logger=log
        )
        handler.client = client
        self._open[handler] = True
        self._limit()
        try:
            await loop.connect_accepted_socket(
                lambda: handler, client, ssl=tls, ssl_handshake_timeout=HEAD if tls else None
            )
        except OSError:  # a TLS handshake that fails is the client's affair
            self._open.pop(handler, None)

    def _limit(self) -> None:
        """Close a connection if there are too many, even one in its TLS handshake."""
        if len(self._open) > self._most:
            idle = next(handler for handler, is_idle in self._open.items() if is_idle)
            del self._open[idle]
            with suppress(OSError):  # the client was faster
                idle.client.shutdown(socket.SHUT_RDWR)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget the connection."""
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)  # type: ignore[call-overload]

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        handler = request.protocol
        assert isinstance(handler, Connection)
        self._open[handler] = False
        try:
            response = await self._answer(request)
        finally:
            if self._open.pop(handler, None) is not None:
                self._open[handler] = True
        response.headers["Server"] = NAME
        return response
