"""Serves chronyd's reports to Prometheus: `pychrony exporter`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..._io.library import library_path
from ...connection import named_models
from ..arguments import Parser, add_address, checked, interval
from ..exits import USAGE, complain
from .targets import parse_allowed

PORT = 9123  # what other exporters for chrony listen on

EPILOG = """\
examples:
  pychrony exporter                                  http://127.0.0.1:9123/metrics
  pychrony exporter --listen :9123 --web.config.file web.yml
  pychrony exporter --allow 10.0.0.0/8 --allow '*.example.net'
                                                     also /probe?target=ntp1.example.net
  pychrony exporter --once --output /var/lib/node_exporter/chrony.prom

'contrib' in pychrony's repository has scrape configurations, rules, alerts, a dashboard and units
for systemd.

exit codes:
    0  SIGTERM or Ctrl-C ended it; with --once, the metrics were written
    1  it cannot listen at that address, or cannot write the metrics
    2  the command line or the web configuration is wrong, or a package is missing
    5  libchrony cannot be found or used
"""

MISSING = "exporter needs prometheus-client and aiohttp: pip install 'pychrony[prometheus]'"


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or Ctrl-C, or write the metrics once."""
    parser = _parser()
    options = parser.parse(argv)
    if options.output is not None and not options.once:
        parser.error("--output needs --once")
    try:
        from .service import start
    except ImportError:
        complain(MISSING)
        return USAGE
    library_path()  # report a missing libchrony now, and not as chrony_up 0
    return start(options)


def _parser() -> Parser:
    parser = Parser(
        prog="pychrony exporter",
        description="Serve chronyd's reports as metrics to Prometheus.",
        epilog=EPILOG,
    )
    add_address(parser)
    parser.add_argument(
        "--timeout",
        type=interval,
        default=5.0,
        metavar="DURATION",
        help="how long to wait for a chronyd, over all requests (default: 5s); shorter if "
        "Prometheus waits for less",
    )
    parser.add_argument(
        "--listen",
        type=checked(_listen),
        default=("127.0.0.1", PORT),
        metavar="HOST:PORT",
        help=f"where to listen (default: 127.0.0.1:{PORT}); :{PORT} means all addresses",
    )
    parser.add_argument(
        "--allow",
        type=checked(parse_allowed),
        action="append",
        default=[],
        metavar="NETWORK|NAME",
        help="targets that /probe may ask, such as 10.0.0.0/8, ntp1.example.net, '*.example.net' "
        "or [2001:db8::/32]:1323, at port 323 unless another is given (default: none); if you give "
        "networks, the address of a host name must be in one of them",
    )
    parser.add_argument(
        "--reports",
        type=checked(_reports),
        metavar="NAME,…",
        help="read only these reports, such as tracking,sources (default: those with metrics that "
        "dashboards for chrony use)",
    )
    parser.add_argument(
        "--all-metrics",
        action="store_true",
        help="also export metrics that no other exporter for chrony has, such as NTP test bits",
    )
    parser.add_argument(
        "--resolve",
        action="store_true",
        help="name the sources by reverse DNS, if there is an answer in time (default: by "
        "address); names are kept for an hour",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web_config",
        type=Path,
        metavar="FILE",
        help="TLS and passwords, in the format of Prometheus' own web configuration file; it is "
        "read again on SIGHUP",
    )
    parser.add_argument(
        "--once", action="store_true", help="write the metrics to stdout, instead of serving them"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="with --once: replace this file, for the textfile collector of node_exporter",
    )
    return parser


def _listen(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([\da-fA-F:.]+)\]|([\w.-]+))?(?::([0-9]{1,5}))?", text)
    if not text or match is None or int(match[3] or PORT) > 65535:
        raise ValueError(f"{text!r} is neither host, host:port, [IPv6]:port nor :port")
    host = match[1] or match[2] or ""
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{host!r} is not a host name that can be looked up") from None
    return host, int(match[3] or PORT)


def _reports(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    named_models(names)
    return names
