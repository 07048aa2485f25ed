"""chronyd's reports as Prometheus metrics, for prometheus_client (extra `prometheus`).

    from prometheus_client import REGISTRY
    from pychrony.prometheus import ChronyCollector

    REGISTRY.register(ChronyCollector())

Metrics that other exporters for chrony also have use the same names, labels and values.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ._io.address import parse_address, parse_timeout
from ._io.failures import is_off
from ._model.fields import Report
from ._model.placeholders import unknown
from ._prometheus.metrics import PREFIX, USUAL_REPORTS, Metric, by_source, exported
from .connection import AnyAddress, get_all, named_models
from .exceptions import (
    ChronyDataError,
    ChronyError,
    ChronyLibraryError,
    ChronyPermissionError,
    ChronyTimeoutError,
)
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
    reports to read. By default, only metrics that dashboards for chrony use are exported, and only
    the reports with such metrics are read. `all_metrics` adds all others. A report without any such
    metric, for example `selectdata`, is exported completely if it is in `reports`.

    A scrape never fails: `chrony_up` is 0 if chronyd does not answer, and
    `chrony_report_missing_info` says why a report could not be read. A registry can have one
    collector; for several chronyds, use several registries.

    Invalid arguments raise `TypeError` or `ValueError`.
    """

    def __init__(
        self,
        address: AnyAddress = None,
        *,
        timeout: float | None = 5.0,
        reports: Collection[str] | None = None,
        all_metrics: bool = False,
    ) -> None:
        parse_address(address)
        parse_timeout(timeout)
        self._address = address
        self._timeout = timeout
        self._exposition = Exposition(reports, all_metrics=all_metrics)

    def describe(self) -> Iterator[Family]:
        """Yield the metrics without values, so that registering does not contact chronyd."""
        return self._exposition.describe()

    def collect(self) -> Iterator[Family]:
        """Read the reports, and yield the metrics that have values."""
        start = time.monotonic()
        answers, failure = AllReports(), None
        try:
            reports = self._exposition.reports
            answers = get_all(*reports, address=self._address, timeout=self._timeout)
        except ChronyError as error:
            failure = error
        return self._exposition.families(answers, failure, time.monotonic() - start)


class Exposition:
    """Makes metrics of the answers of a chronyd."""

    def __init__(self, reports: Collection[str] | None, *, all_metrics: bool) -> None:
        if reports is None:
            reports = tuple(MODELS) if all_metrics else USUAL_REPORTS
        if not reports:
            raise ValueError(f"no report; choose from {', '.join(MODELS)}")
        named = named_models(tuple(reports))
        self.reports: tuple[str, ...] = tuple(
            name for name, model in MODELS.items() if model in named
        )
        self._metrics = {
            name: exported(MODELS[name], everything=all_metrics) for name in self.reports
        }

    def describe(self) -> Iterator[Family]:
        """Yield all metrics without values."""
        yield from _about_the_scrape(self.reports, AllReports(), None, 0.0)
        for name in self.reports:
            yield from map(_family, self._metrics[name])

    def families(
        self,
        answers: AllReports,
        error: ChronyError | None,
        seconds: float,
        names: Mapping[str, str] | None = None,
    ) -> Iterator[Family]:
        """Yield the metrics that have values; `names` replace addresses in the labels for names."""
        yield from _about_the_scrape(self.reports, answers, error, seconds)
        for report in self.reports:
            answer = getattr(answers, report)
            if answer is not None:
                yield from _of_report(self._metrics[report], answer, names or {})


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
        "Reason why a report is missing. The value is always 1. off means that chronyd is not "
        "configured for it.",
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


def _of_report(
    metrics: Sequence[Metric], answer: Report | list[Report], names: Mapping[str, str]
) -> list[Family]:
    families: dict[str, Family] = {}
    records = by_source(answer) if isinstance(answer, list) else [((), answer)]
    for source, record in records:
        missing = unknown(record)
        for metric in metrics:
            if metric.attributes & missing:
                continue
            for own, value in metric.samples(record):
                labels = (*source, *own)
                if names:
                    labels = tuple(_named(metric, labels, names))
                if metric.name not in families:
                    families[metric.name] = _family(metric)
                families[metric.name].add_metric(labels, value)
    return list(families.values())


def _named(metric: Metric, labels: Sequence[str], names: Mapping[str, str]) -> Iterator[str]:
    for label, value in zip(metric.labels, labels, strict=True):
        yield names.get(value, value) if label in ("source_name", "tracking_name") else value


def _family(metric: Metric) -> Family:
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)
