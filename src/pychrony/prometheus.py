"""chronyd's reports as Prometheus metrics, for prometheus_client (extra `prometheus`).

    from prometheus_client import REGISTRY
    from pychrony.prometheus import ChronyCollector

    REGISTRY.register(ChronyCollector())

Metrics that other exporters for chrony have keep their names, labels and values.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ._io.address import parse_address, parse_timeout
from ._io.failures import is_off
from ._model.fields import Report
from ._prometheus.metrics import PREFIX, Metric, by_source, known, metrics
from .connection import AnyAddress, get_all
from .exceptions import (
    ChronyDataError,
    ChronyError,
    ChronyLibraryError,
    ChronyPermissionError,
    ChronyTimeoutError,
)
from .many import get_many
from .models import MODELS, AllReports

__all__ = ["ChronyCollector"]

Family = GaugeMetricFamily | CounterMetricFamily

_REASONS: dict[type[ChronyError], str] = {
    ChronyTimeoutError: "timeout",
    ChronyPermissionError: "denied",
    ChronyDataError: "unusable",
    ChronyLibraryError: "no libchrony",
}


class ChronyCollector(Collector):
    """Reads a chronyd's reports at every scrape, and exports their values.

    `address` and `timeout` are those of `ChronyConnection`. `reports` has libchrony's names of the
    reports to read, by default all. A scrape never fails: `chrony_up` is 0 if chronyd does not
    answer, and `chrony_report_missing_info` says why a report could not be read. A registry can
    have one collector; for several chronyds, use several registries.

    Invalid arguments raise `TypeError` or `ValueError`.
    """

    def __init__(
        self,
        address: AnyAddress = None,
        *,
        timeout: float | None = 5.0,
        reports: Collection[str] = tuple(MODELS),
    ) -> None:
        parse_address(address)
        parse_timeout(timeout)
        unknown = [name for name in reports if name not in MODELS]
        if unknown or not reports:
            what = f"unknown report {unknown[0]!r}" if unknown else "no report"
            raise ValueError(f"{what}; choose from {', '.join(MODELS)}")
        self._address = address
        self._timeout = timeout
        self._reports = tuple(name for name in MODELS if name in reports)

    def describe(self) -> Iterator[Family]:
        """Yield the metrics without values, so that registering does not contact chronyd."""
        yield from _about_the_scrape(self._reports, AllReports(), None, 0.0)
        for name in self._reports:
            yield from map(_family, metrics(MODELS[name]))

    def collect(self) -> Iterator[Family]:
        """Read the reports, and yield the metrics that have values."""
        start = time.monotonic()
        answers, error = self._ask()
        yield from _about_the_scrape(self._reports, answers, error, time.monotonic() - start)
        for name in self._reports:
            answer = getattr(answers, name)
            if answer is not None:
                yield from _of_report(MODELS[name], answer)

    def _ask(self) -> tuple[AllReports, ChronyError | None]:
        if self._address is not None:
            # This timeout includes the resolution of a host name.
            (answer,) = get_many([self._address], *self._reports, timeout=self._timeout)
            return answer.reports or AllReports(), answer.error
        try:
            return get_all(*self._reports, timeout=self._timeout), None
        except ChronyError as error:
            return AllReports(), error


def _about_the_scrape(
    names: Sequence[str], answers: AllReports, error: ChronyError | None, seconds: float
) -> Iterator[Family]:
    yield GaugeMetricFamily(f"{PREFIX}up", "1 if chronyd answers, else 0.", float(error is None))
    yield GaugeMetricFamily(
        f"{PREFIX}scrape_duration_seconds", "Time that asking chronyd took, in seconds.", seconds
    )
    available = GaugeMetricFamily(
        f"{PREFIX}report_available", "1 if the report could be read, else 0.", labels=["report"]
    )
    missing = GaugeMetricFamily(
        f"{PREFIX}report_missing_info",
        "Why a report could not be read, always 1; off: chronyd is not configured to keep it.",
        labels=["report", "reason"],
    )
    for name in names:
        why = error or answers.missing.get(name)
        available.add_metric([name], float(why is None))
        if why is not None:
            reason = "off" if is_off(name, why) else _REASONS.get(type(why), "unreachable")
            missing.add_metric([name, reason], 1.0)
    yield available
    yield missing


def _of_report(model: type[Report], answer: Report | list[Report]) -> Iterable[Family]:
    families = {metric.name: _family(metric) for metric in metrics(model)}
    records = by_source(answer) if isinstance(answer, list) else [((), answer)]
    for source, record in records:
        for metric in known(record):
            for labels, value in metric.samples(record):
                families[metric.name].add_metric([*source, *labels], value)
    return [family for family in families.values() if family.samples]


def _family(metric: Metric) -> Family:
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)
