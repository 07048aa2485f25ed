"""Answers the exporter's HTTP requests: a WSGI application for `/metrics` and `/probe`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app

from ...exceptions import ChronyError
from ...models import AllReports
from ...prometheus import ChronyCollector
from .places import NoPlaceError, places
from .targets import Allowed, is_allowed

MARGIN = 0.5
"""Seconds of Prometheus' timeout reserved for the answer, as in its blackbox exporter."""

HOME = """\
pychrony exporter

/metrics            the metrics of the local chronyd
/probe?target=HOST  the metrics of another chronyd, if --allow covers it
/-/healthy          whether this exporter runs
"""

Environ = Mapping[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


class Scrapes:
    """Answers Prometheus' scrapes; each one asks its chronyd, in its own thread."""

    def __init__(
        self,
        address: str | None,
        *,
        timeout: float,
        reports: Collection[str],
        allowed: Collection[Allowed],
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._reports = reports
        self._allowed = allowed
        self._places = places()
        for _ in ChronyCollector(reports=reports).describe():
            pass  # prepare all metrics now, so that the first scrape is not slow

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        answers: dict[str, Callable[[], Iterable[bytes]]] = {
            "/": lambda: text(start_response, HTTPStatus.OK, HOME),
            "/-/healthy": lambda: text(start_response, HTTPStatus.OK, "healthy\n"),
            "/metrics": lambda: self._metrics(environ, start_response),
            "/probe": lambda: self._probe(environ, start_response),
        }
        answer = answers.get(environ["PATH_INFO"])
        return answer() if answer else text(start_response, HTTPStatus.NOT_FOUND, HOME)

    def _metrics(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        registry = CollectorRegistry()
        registry.register(self._collector(self._address, environ))
        ProcessCollector(registry=registry)
        return exposition(registry, environ, start_response)

    def _probe(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        targets = parse_qs(environ.get("QUERY_STRING", "")).get("target", [])
        if len(targets) != 1:
            words = "give one target, such as /probe?target=192.0.2.1\n"
            return text(start_response, HTTPStatus.BAD_REQUEST, words)
        (target,) = targets
        try:
            if not is_allowed(target, self._allowed):
                words = f"target {target!r} is not allowed: see --allow of pychrony exporter\n"
                return text(start_response, HTTPStatus.FORBIDDEN, words)
        except ValueError as error:
            return text(start_response, HTTPStatus.BAD_REQUEST, f"{error}\n")
        registry, collector = CollectorRegistry(), self._collector(target, environ)
        registry.register(collector)
        try:
            with self._places.place(target):
                answer = exposition(registry, environ, start_response)
        except NoPlaceError as error:
            words = f"target {target!r} is not asked: {error}; ask again later, or ask fewer\n"
            return text(start_response, HTTPStatus.SERVICE_UNAVAILABLE, words)
        self._places.note(target, answered=collector.answered)
        return answer

    def _collector(self, address: str | None, environ: Environ) -> Asked:
        timeout = min(self._timeout, time_for_a_scrape(environ))
        return Asked(address, timeout=timeout, reports=self._reports)


class Asked(ChronyCollector):
    """Asks a chronyd for one scrape, and knows whether it answered."""

    answered = False

    def _ask(self) -> tuple[AllReports, ChronyError | None]:
        reports, error = super()._ask()
        self.answered = error is None
        return reports, error


def exposition(
    registry: CollectorRegistry, environ: Environ, start_response: StartResponse
) -> Iterable[bytes]:
    """Answer with a registry's metrics, in the format that the request asks for."""
    answer: Iterable[bytes] = make_wsgi_app(registry)(environ, start_response)
    return answer


def time_for_a_scrape(environ: Environ) -> float:
    """Return how long Prometheus waits for chronyd's answer, in seconds, if it says so."""
    try:
        seconds = float(environ.get("HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS", "inf"))
    except ValueError:
        return math.inf
    if not seconds > 0:  # nor a number
        return math.inf
    return max(seconds - MARGIN, seconds / 2)


def text(start_response: StartResponse, status: HTTPStatus, words: str) -> list[bytes]:
    """Answer with plain text."""
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
    start_response(f"{status.value} {status.phrase}", headers)
    return [words.encode(errors="backslashreplace")]
