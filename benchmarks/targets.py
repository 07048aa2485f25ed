"""The speed that is aimed for, as ratios of medians, and what was reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from competitors import OURS, RELEASED, C
from results import Label, Results
from startup import BASE

SAME, DIFFERENT = "same CPU", "different CPUs"


class Target(NamedTuple):
    """A ratio, and what it should be at most."""

    placement: str
    what: str
    limit: float
    ratio: Callable[[Results], float]


def to_c(results: Results, report: str, placement: str, sources: int) -> float:
    """Wall time against the C loop's."""
    return results.ratio(
        Label(OURS, report, "wall", placement, sources),
        Label(C, report, "wall", placement, sources),
    )


def above_c(results: Results) -> float:
    """CPU time of `tracking` above the C loop's, as a share of what 2.0.3 needs above it."""
    ours, released, c = (
        results.median(Label(name, "tracking", "cpu", SAME, 3)) for name in (OURS, RELEASED, C)
    )
    return (ours - c) / (released - c)


def together(results: Results) -> float:
    """`get_all()` against each report in turn."""
    return results.ratio(
        Label(OURS, "everything", "wall", DIFFERENT, 8),
        Label(OURS, "in-turn", "wall", DIFFERENT, 8),
    )


def growth(results: Results) -> float:
    """`sources` from 50 to 500 of them, where that is worst."""
    return max(
        results.ratio(
            Label(OURS, "sources", "wall", placement, 500),
            Label(OURS, "sources", "wall", placement, 50),
        )
        for placement in (SAME, DIFFERENT, "unpinned")
    )


def import_time(results: Results) -> float:
    """`import pychrony` against what it cannot do without."""
    return results.ratio(Label(OURS, "import"), Label(BASE, "import"))


TARGETS = (
    Target(
        SAME,
        "`get_tracking` on an open connection: client CPU above the C loop's, "
        "as a share of what pychrony 2.0.3 needs above it",
        0.35,
        above_c,
    ),
    Target(
        SAME,
        "wall of `get_sources`, 500 sources, against the C loop",
        1.6,
        lambda results: to_c(results, "sources", SAME, 500),
    ),
    Target(
        DIFFERENT,
        "wall of `get_sources`, 500 sources, against the C loop",
        0.15,
        lambda results: to_c(results, "sources", DIFFERENT, 500),
    ),
    Target(
        DIFFERENT,
        "wall of `get_sources`, 3 sources, against the C loop",
        0.7,
        lambda results: to_c(results, "sources", DIFFERENT, 3),
    ),
    Target(
        DIFFERENT,
        "wall of `get_all()`, 8 sources, against asking each report in turn",
        0.3,
        together,
    ),
    Target("any", "growth of `get_sources` from 50 to 500 sources, at worst", 10.5, growth),
    Target(
        "-", "`import pychrony` against `import _cffi_backend, dataclasses, enum`", 1.2, import_time
    ),
)
