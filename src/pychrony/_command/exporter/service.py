"""Runs the exporter: a server until a signal ends it, or one page."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from ..exits import UNREACHABLE, USAGE, complain
from .places import open_files
from .scrapes import Scrapes
from .server import BACKLOG, Server, log
from .web_config import ConfigError


def start(options: argparse.Namespace) -> int:
    """Serve, or write the metrics once; return the exit code."""
    _log_in_lines()
    try:
        return asyncio.run(_once(options) if options.once else _serve(options))
    except ConfigError as error:
        complain(str(error))
        return USAGE


async def _once(options: argparse.Namespace) -> int:
    page = await Scrapes(options, open_files()).page()
    if options.output is None:
        sys.stdout.buffer.write(page)
        return 0
    # Readers see the old file or the new one, and never a part.
    path = Path(options.output)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(page)
        beside.replace(path)
    except OSError as error:
        complain(f"writing {path}: {error.strerror}")
        return UNREACHABLE
    finally:
        with suppress(OSError):  # after replace(), it is not there any more
            beside.unlink()
    return 0


async def _serve(options: argparse.Namespace) -> int:
    files = open_files()
    scrapes = Scrapes(options, files)
    host, port = options.listen
    try:
        listener = _listener(host, port)
    except OSError as error:
        number = error.errno or 0  # negative if the host was not found
        why = os.strerror(number) if number > 0 else error.strerror
        complain(f"listening on {_join(host, port)}: {why}")
        return UNREACHABLE
    loop, signals = asyncio.get_running_loop(), asyncio.Queue[int]()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    server = Server(scrapes, max(4, files // 3 - 8), lambda: scrapes.web.tls)
    accepting = loop.create_task(server.accept(listener))
    scheme = "http" if scrapes.web.tls is None else "https"
    where = f"{scheme}://{_join(host, listener.getsockname()[1])}"
    print(f"pychrony: serving {where}/metrics", file=sys.stderr, flush=True)
    while await signals.get() == signal.SIGHUP:
        scrapes.reload()
    accepting.cancel()
    await server.shutdown(1.0)
    listener.close()
    await scrapes.close()
    return 0


def _log_in_lines() -> None:
    """Log to stderr, each record as one line; an exception without its traceback."""

    class Line(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            problem = record.exc_info and record.exc_info[1]
            words = " ".join(record.getMessage().split())
            return f"pychrony: {words}{f': {problem!r}' if problem else ''}"

    handler = logging.StreamHandler()
    handler.setFormatter(Line())
    logging.basicConfig(handlers=[handler])
    log.setLevel(logging.INFO)


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens at this host; without one, at all addresses."""
    both = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    if host:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        host = str(address[0])
    listener = socket.create_server(
        (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both
    )
    listener.setblocking(False)
    return listener


def _join(host: str, port: int) -> str:
    host = host or "::"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
