"""Answers the exporter's HTTP requests: `/metrics` and `/probe`."""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from prometheus_client import generate_latest

from ..._io.address import parse_address
from ...aio import get_all
from ...exceptions import ChronyConnectionError, ChronyError, ChronyTimeoutError
from ...models import AllReports
from ...prometheus import Exposition, Family
from ..lookups import addresses_of, names_of
from .local import Local
from .pages import Page, own_metrics, text
from .places import NoPlaceError, Places
from .server import log
from .targets import RefusedError, permitted
from .web_config import ConfigError, WebConfig

MARGIN = 0.25
"""Share of Prometheus' timeout reserved for the answer: many targets can time out together."""
LEAST_MARGIN = 0.5
"""The least to reserve, in seconds, as Prometheus' blackbox exporter does."""
REFUSALS = 1000
"""Maximum number of refused targets to log; each is logged once."""

HOME = """\
pychrony exporter

/metrics            the metrics of the local chronyd
/probe?target=HOST  the metrics of another chronyd, if --allow covers it
/-/healthy          whether this exporter runs
"""


class Scrapes:
    """Answers Prometheus' scrapes; each one asks its chronyd."""

    def __init__(self, options: argparse.Namespace, files: int) -> None:
        """Share out the number of `files` that may be open."""
        self._options = options
        self._exposition = Exposition(options.reports, all_metrics=options.all_metrics)
        self._places = Places(max(2, 2 * files // 15))
        self._refused: set[str] = set()
        self.web = WebConfig(options.web_config)
        self._local = Local(options.address, options.timeout, self._exposition.reports)
        self._about, self._refusals = own_metrics(lambda: self._places.taken)

    def reload(self) -> None:
        """Read certificates and passwords again; if they cannot be used, the old ones stay."""
        try:
            self.web = WebConfig(self._options.web_config)
        except ConfigError as error:
            log.error("%s; certificates and passwords stay as they were", error)
        else:
            log.info("certificates and passwords were read again")

    async def page(self) -> bytes:
        """Return the metrics of the local chronyd as text."""
        try:
            return generate_latest(Page(await self._of_local(self._options.timeout)))
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connection to the local chronyd."""
        await self._local.close()

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        """Answer a request."""
        if not await self.web.admits(request.headers.get("Authorization")):
            refusal = text(HTTPStatus.UNAUTHORIZED, "user and password are needed\n")
            refusal.headers["WWW-Authenticate"] = 'Basic realm="pychrony exporter"'
            return refusal
        if request.method not in ("GET", "HEAD"):
            return text(HTTPStatus.METHOD_NOT_ALLOWED, "use GET\n")
        match request.path:
            case "/metrics":
                families = await self._of_local(self._limit(request))
                return Page(families, self._about).answer(request)
            case "/probe":
                return await self._probe(request)
            case "/-/healthy":
                return text(HTTPStatus.OK, "healthy\n")
            case "/":
                return text(HTTPStatus.OK, HOME)
        return text(HTTPStatus.NOT_FOUND, HOME)

    async def _of_local(self, timeout: float) -> list[Family]:
        return await self._families(self._local.label, timeout, self._local.ask())

    async def _probe(self, request: web.BaseRequest) -> web.Response:
        targets = request.query.getall("target", [])
        if len(targets) != 1:
            words = "give one target, such as /probe?target=192.0.2.1\n"
            return text(HTTPStatus.BAD_REQUEST, words)
        target, limit = targets[0], self._limit(request)
        try:
            parse_address(target)
        except ValueError as error:
            return text(HTTPStatus.BAD_REQUEST, f"{error}\n")
        try:
            with self._places.place(target):
                families = await self._families(target, limit, self._ask(target, limit))
        except RefusedError as error:
            return self._forbid(target, error)
        except NoPlaceError as error:
            self._refusals.labels("no place").inc()
            words = f"target {target!r} is not asked: {error}; ask again later, or ask fewer\n"
            return text(HTTPStatus.SERVICE_UNAVAILABLE, words)
        return Page(families).answer(request)

    async def _families(
        self, label: str, timeout: float, asking: Coroutine[Any, Any, AllReports]
    ) -> list[Family]:
        """Return the metrics of a chronyd: of its reports, or of the error."""
        start = time.monotonic()
        reports = AllReports()
        error: ChronyError | None = None
        try:
            reports = await asyncio.wait_for(asking, timeout)
        except asyncio.TimeoutError:
            error = ChronyTimeoutError(f"asking {label}: no answer within {timeout:g} s")
        except ChronyError as problem:
            error = problem
        passed = time.monotonic() - start
        if self._places.note(label, answered=error is None):
            log.warning("%s", error.message if error else f"chronyd at {label} answers again")
        names: Mapping[str, str] = {}
        if self._options.resolve and error is None:
            names = await names_of(_sources(reports), timeout - passed)
        return list(self._exposition.families(reports, error, passed, names))

    async def _ask(self, target: str, timeout: float) -> AllReports:
        """Ask a target at the addresses that are allowed, one after the other."""
        end = time.monotonic() + timeout
        addresses = await permitted(target, self._options.allow, addresses_of)
        while True:
            address, *addresses = addresses
            share = max(0.1, (end - time.monotonic()) / (1 + len(addresses)))
            try:
                return await get_all(*self._exposition.reports, address=address, timeout=share)
            except ChronyConnectionError:
                if not addresses:
                    raise

    def _forbid(self, target: str, error: RefusedError) -> web.Response:
        words = f"target {target!r} is not allowed: {error} is not covered by --allow"
        self._refusals.labels("not allowed").inc()
        if target not in self._refused and len(self._refused) < REFUSALS:
            self._refused.add(target)
            log.warning("%s", words)
        return text(HTTPStatus.FORBIDDEN, f"{words} of pychrony exporter\n")

    def _limit(self, request: web.BaseRequest) -> float:
        timeout: float = self._options.timeout
        return min(timeout, time_for_a_scrape(request.headers))


def _sources(reports: AllReports) -> list[str]:
    addresses = [source.address for source in reports.sources or ()]
    if reports.tracking is not None:
        addresses.append(reports.tracking.reference_ip)
    return [address for address in dict.fromkeys(addresses) if address]


def time_for_a_scrape(headers: Mapping[str, str]) -> float:
    """Return how long Prometheus waits for chronyd's answer, in seconds, if it says so."""
    try:
        seconds = float(headers.get("X-Prometheus-Scrape-Timeout-Seconds", "inf"))
    except ValueError:
        return math.inf
    if not seconds > 0:  # or not a number
        return math.inf
    return max(seconds - max(LEAST_MARGIN, MARGIN * seconds), seconds / 2)
