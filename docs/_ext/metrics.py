"""Lists the metrics of the exporter, from the tables that define them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pychrony._prometheus.metrics import exported, metrics
from pychrony.models import MODELS
from pychrony.prometheus import ChronyCollector


class Metrics(SphinxDirective):
    """`{metrics}`: each metric with its type, labels and meaning."""

    def run(self) -> list[nodes.Node]:
        """Write them as Markdown."""
        return self.parse_text_to_nodes("\n".join(describe()), allow_section_headings=True)


def describe() -> Iterator[str]:
    """Return an entry for each metric: those about the scrape, then those of each report."""
    ours = {metric.name for model in MODELS.values() for metric in metrics(model)}
    yield from ("## About the scrape", "")
    for family in ChronyCollector(reports=["tracking"]).describe():
        name = family.name + ("_total" if family.type == "counter" else "")
        if name not in ours:
            yield from entry(name, family.type, family._labelnames, family.documentation)
    for report, model in MODELS.items():
        yield from ("", f"## {report}", "")
        usual = exported(model, everything=False)
        for metric in metrics(model):
            extra = "" if metric in usual else ", with `--all-metrics`"
            yield from entry(metric.name, metric.type, metric.labels, metric.help, extra)


def entry(
    name: str, kind: str, labels: tuple[str, ...], words: str, extra: str = ""
) -> Iterator[str]:
    """Return the entry of a metric."""
    of = ", ".join(f"`{label}`" for label in labels)
    facts = f"{kind}{f', labels {of}' if of else ''}{extra}"
    yield from (f"(metric-{name.replace('_', '-')})=", f"`{name}`", f": {words} *({facts})*", "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("metrics", Metrics)
    return {"parallel_read_safe": True}
