"""Makes HTTP responses: metrics, and plain text."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from platform import python_version

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..._version import __version__
from ...prometheus import Family

COMPRESSION = 1  # of gzip: a page is small, and Prometheus often near


class Page(Collector):
    """The metrics of a chronyd, and those about the exporter if there are any."""

    def __init__(self, families: Sequence[Family], about: CollectorRegistry | None = None) -> None:
        self._families = families
        self._about = about

    def collect(self) -> Iterator[Metric]:
        """Yield them all."""
        yield from self._families
        if self._about is not None:
            yield from self._about.collect()

    def answer(self, request: web.BaseRequest) -> web.Response:
        """Return the page in the format that the request asks for."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body, headers = encode(self), {"Content-Type": content_type}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body, COMPRESSION), "gzip"
        return web.Response(body=body, headers=headers)


def own_metrics(probes_in_flight: Callable[[], int]) -> tuple[CollectorRegistry, Counter]:
    """Return the metrics about the exporter, and the one that counts refused probes."""
    registry = CollectorRegistry()
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ProcessCollector(registry=registry)
    about = Gauge(
        "chrony_exporter_build_info",
        "Version of this exporter, and of its Python. The value is always 1.",
        ["version", "python_version"],
        registry=registry,
    )
    about.labels(__version__, python_version()).set(1)
    probes = Gauge(
        "chrony_exporter_probes_in_flight",
        "Targets that are being asked at present.",
        registry=registry,
    )
    probes.set_function(probes_in_flight)
    refused = Counter(
        "chrony_exporter_probes_refused",
        "Probes that were refused, with HTTP status 403 (not allowed) or 503 (no place).",
        ["reason"],
        registry=registry,
    )
    for reason in ("not allowed", "no place"):
        refused.labels(reason)
    return registry, refused


def text(status: HTTPStatus, words: str) -> web.Response:
    """Answer with plain text."""
    return web.Response(
        status=status,
        body=words.encode(errors="backslashreplace"),
        headers={
            "Content-Type": "text/plain; charset=utf-8",
            "X-Content-Type-Options": "nosniff",
        },
    )
