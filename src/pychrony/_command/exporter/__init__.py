"""Serves chronyd's reports to Prometheus: `pychrony exporter`."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..._io.library import library_path
from ...models import MODELS
from ..arguments import Parser, add_address, connection, duration
from ..exits import UNREACHABLE, USAGE, complain
from .targets import Allowed, parse_allowed

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

ABOUT = "Serve chronyd's reports as metrics to Prometheus"
PORT = 9123  # what other exporters for chrony listen on

EPILOG = """\
examples:
  pychrony exporter                                  http://127.0.0.1:9123/metrics
  pychrony exporter --listen 0.0.0.0:9123 --certfile exporter.crt --keyfile exporter.key
  pychrony exporter --allow 10.0.0.0/8 --allow '*.example.net'
                                                     also /probe?target=ntp1.example.net

'contrib' in pychrony's repository has scrape configurations, rules, alerts and a dashboard.

exit codes:
    0  SIGTERM or Ctrl-C ended it
    1  it cannot listen at that address
    2  the command line is wrong, a certificate cannot be used, or prometheus-client is missing
    5  libchrony cannot be found or used
"""

PATIENCE = 30.0  # seconds for a client to send its request


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    parser = _parser()
    options = parser.parse(argv)
    if (options.certfile is None) != (options.keyfile is None):
        parser.error("--certfile and --keyfile belong together")
    if options.client_cafile is not None and options.certfile is None:
        parser.error("--client-cafile needs --certfile and --keyfile")
    connection(parser, options)  # checks the address and the timeout
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        complain("exporter needs prometheus-client: pip install 'pychrony[prometheus]'")
        return USAGE
    library_path()  # report a missing libchrony now, and not as chrony_up 0
    return _serve(options)


def _serve(options: argparse.Namespace) -> int:
    from prometheus_client import CollectorRegistry, start_http_server

    from .scrapes import Scrapes

    scrapes = Scrapes(
        options.address,
        timeout=options.timeout,
        reports=options.reports,
        allowed=options.allow,
    )
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)  # before there are other threads
    host, port = options.listen
    try:
        server, thread = start_http_server(
            port,
            host,
            CollectorRegistry(),  # until `scrapes` takes over
            certfile=options.certfile,
            keyfile=options.keyfile,
            client_cafile=options.client_cafile,
            client_auth_required=options.client_cafile is not None,
        )
    except OSError as error:
        if error.errno is None:  # prometheus_client's message about a certificate
            complain(str(error))
            return USAGE
        complain(f"listening on {_join(host, port)}: {error.strerror}")
        return UNREACHABLE
    _harden(server)
    server.set_app(scrapes)
    scheme = "http" if options.certfile is None else "https"
    where = f"{scheme}://{_join(host, server.server_port)}"
    print(f"pychrony: serving {where}/metrics", file=sys.stderr, flush=True)
    signal.sigwait(ending)
    server.shutdown()
    server.server_close()
    thread.join()
    return 0


def _harden(server: WSGIServer) -> None:
    """Keep a client that sends nothing from delaying others, or occupying a thread for ever."""
    from ssl import SSLSocket
    from wsgiref.simple_server import WSGIRequestHandler

    class Handler(WSGIRequestHandler):
        timeout = PATIENCE

        def log_message(self, format: str, *args: object) -> None:
            """Log no requests."""

    server.RequestHandlerClass = Handler
    if isinstance(server.socket, SSLSocket):
        # The handshake then becomes part of the first read, in the connection's own thread.
        server.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]


def _parser() -> Parser:
    parser = Parser(
        prog="pychrony exporter",
        description=f"{ABOUT}.",
        epilog=EPILOG,
    )
    add_address(parser)
    parser.add_argument(
        "--timeout",
        type=duration,
        default=5.0,
        metavar="DURATION",
        help="how long to wait for a chronyd, over all requests (default: 5s); shorter if "
        "Prometheus waits for less",
    )
    parser.add_argument(
        "--listen",
        type=_listen,
        default=("127.0.0.1", PORT),
        metavar="HOST:PORT",
        help=f"where to listen (default: 127.0.0.1:{PORT}); 0.0.0.0 or [::] means all addresses",
    )
    parser.add_argument(
        "--allow",
        type=_allow,
        action="append",
        default=[],
        metavar="NETWORK|NAME",
        help="targets that /probe may ask, such as 10.0.0.0/8, ntp1.example.net, '*.example.net' "
        "or [2001:db8::/32]:1323, at port 323 unless another is given (default: none)",
    )
    parser.add_argument(
        "--reports",
        type=_reports,
        default=tuple(MODELS),
        metavar="NAME,…",
        help="read only these reports, such as tracking,sources (default: all)",
    )
    parser.add_argument("--certfile", metavar="FILE", help="certificate, to serve HTTPS")
    parser.add_argument("--keyfile", metavar="FILE", help="private key of the certificate")
    parser.add_argument(
        "--client-cafile",
        metavar="FILE",
        help="serve only clients with a certificate from one of these authorities",
    )
    return parser


def _listen(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([\da-fA-F:.]+)\]|([\w.-]+))(?::([0-9]{1,5}))?", text)
    if match is None or int(match[3] or PORT) > 65535:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither host, host:port nor [IPv6]:port; 0.0.0.0 or [::] is everywhere"
        )
    return match[1] or match[2], int(match[3] or PORT)


def _allow(text: str) -> Allowed:
    try:
        return parse_allowed(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _reports(text: str) -> tuple[str, ...]:
    names = text.split(",")
    for name in names:
        if name not in MODELS:
            raise argparse.ArgumentTypeError(
                f"unknown report {name!r}; choose from {', '.join(MODELS)}"
            )
    return tuple(names)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
