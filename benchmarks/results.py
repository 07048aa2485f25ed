"""Keeps the measured values by label, in pyperf's format, so that its tools can read them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import pyperf  # type: ignore[import-untyped]


class Label(NamedTuple):
    """What a list of values was measured for."""

    client: str
    what: str
    """The report that is read, or "import"."""
    kind: str = "wall"
    """"wall" and "cpu" are times of a call, "memory" is its peak."""
    placement: str = ""
    sources: int = 0


class Results:
    """The values of one run on one machine, which `about` describes."""

    def __init__(self, about: dict[str, str]) -> None:
        self.about = about
        self._benchmarks: dict[str, pyperf.Benchmark] = {}

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save()` wrote."""
        suite = pyperf.BenchmarkSuite.load(str(path))
        found = {benchmark.get_name(): benchmark for benchmark in suite.get_benchmarks()}
        described = next(iter(found.values())).get_metadata()
        results = cls({k: v for k, v in described.items() if k not in ("name", "unit")})
        results._benchmarks.update(found)
        return results

    def add(self, label: Label, values: list[float]) -> None:
        """Keep some values."""
        name = _name(label)
        unit = "byte" if label.kind == "memory" else "second"
        metadata = {"name": name, "unit": unit} | self.about
        rounded = [float(f"{value:.4g}") for value in values]
        run = pyperf.Run(rounded, metadata=metadata, collect_metadata=False)
        self._benchmarks[name] = pyperf.Benchmark([run])

    def __contains__(self, label: Label) -> bool:
        return _name(label) in self._benchmarks

    def median(self, label: Label) -> float:
        """Return the median of the values."""
        return float(self._benchmarks[_name(label)].median())

    def percentile(self, label: Label, percent: int) -> float:
        """Return a percentile."""
        return float(self._benchmarks[_name(label)].percentile(percent))

    def ratio(self, label: Label, other: Label) -> float:
        """Return the ratio of two medians."""
        return self.median(label) / self.median(other)

    def spread(self, label: Label) -> float:
        """Return the median distance of the values from their median."""
        return float(self._benchmarks[_name(label)].median_abs_dev())

    def save(self, path: Path) -> None:
        """Write a file for `python -m pyperf`."""
        text = io.StringIO()
        pyperf.BenchmarkSuite(list(self._benchmarks.values())).dump(text)
        path.write_text(text.getvalue().replace('{"metadata"', '\n{"metadata"'))


def _name(label: Label) -> str:
    return ", ".join(str(part) for part in label if part)
