"""Defines the targets, mostly ratios of medians, and compares them with the results."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from competitors import AIO, OURS, RELEASED, C
from daemons import CANCEL, DAEMONS, IMPORT, SILENT, TASKS, TRACKING, label
from deadlines import DEADLINES, THREADS, TIMEOUT
from results import Label, Results
from serving import CHRONYD
from startup import BASE, CHECK, CHECK_BASE

SAME, DIFFERENT = "same CPU", "different CPUs"


class Target(NamedTuple):
    """A ratio, or a value with a unit, and its upper limit."""

    placement: str
    what: str
    limit: float
    value: Callable[[Results], float]
    unit: str = ""


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


def engine(results: Results) -> float:
    """CPU time for reading 500 sources, without decoding them, against what chronyd takes."""
    return results.ratio(
        Label(OURS, "undecoded", "cpu", SAME, 500), Label(CHRONYD, "sources", "cpu", SAME, 500)
    )


def decoding(results: Results) -> float:
    """Microseconds of CPU time for decoding a source."""
    decoded, undecoded = (
        results.median(Label(OURS, report, "cpu", SAME, 500)) for report in ("sources", "undecoded")
    )
    return (decoded - undecoded) / 500 * 1e6


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
    """`import pychrony` against the imports that it cannot do without."""
    return results.ratio(Label(OURS, "import"), Label(BASE, "import"))


def silence(results: Results) -> float:
    """Seconds that silent daemons add to asking many."""
    silent, answering = (
        results.median(label(OURS, scenario, "wall")) for scenario in (SILENT, TRACKING)
    )
    return silent - answering


def memory_of_many(results: Results) -> float:
    """Megabytes that asking many daemons adds to what the import takes."""
    asked, imported = (
        results.median(label(OURS, scenario, "memory")) for scenario in (TRACKING, IMPORT)
    )
    return (asked - imported) / 1e6


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
        SAME,
        "500 sources without decoding them: client CPU against the CPU time of chronyd itself",
        1.1,
        engine,
    ),
    Target(SAME, "decoding a source: client CPU", 2, decoding, " µs"),
    Target(
        DIFFERENT,
        "wall of `get_sources`, 3 sources, against the C loop",
        1,
        lambda results: to_c(results, "sources", DIFFERENT, 3),
    ),
    Target(
        DIFFERENT,
        "wall of `get_all()`, 8 sources, against asking each report in turn",
        1,
        together,
    ),
    Target("any", "growth of `get_sources` from 50 to 500 sources, at worst", 10.5, growth),
    Target(
        SAME,
        "awaiting `get_tracking()` on an open connection: client CPU against blocking",
        3,
        lambda results: results.ratio(
            Label(AIO, "tracking", "cpu", SAME, 3), Label(OURS, "tracking", "cpu", SAME, 3)
        ),
    ),
    Target(
        "unpinned",
        f"`get_many` of {DAEMONS:,} daemons: client CPU against a C loop with 64 in flight",
        2.5,
        lambda results: results.ratio(label(OURS, TRACKING, "cpu"), label(C, TRACKING, "cpu")),
    ),
    Target(
        "unpinned",
        "the same with 5 % of the daemons silent and a timeout of 1 s: additional wall time",
        1.3,
        silence,
        " s",
    ),
    Target("unpinned", "memory for that, above what the import takes", 60, memory_of_many, " MB"),
    Target(
        "unpinned",
        f"{TASKS:,} tasks that wait in `pychrony.aio`, cancelled: wall time until all have ended",
        0.05,
        lambda results: results.median(label(AIO, CANCEL, "wall")),
        " s",
    ),
    Target(
        "unpinned",
        f"{THREADS} threads whose calls get no answer within {TIMEOUT * 1000:g} ms: time until a "
        "call has ended, 99th percentile",
        0.15,
        lambda results: results.percentile(DEADLINES, 99),
        " s",
    ),
    Target(
        "-", "`import pychrony` against `import _cffi_backend, dataclasses, enum`", 1.2, import_time
    ),
    Target(
        "-",
        f"`{CHECK}` from start to end: CPU time against `python -c 'import {CHECK_BASE}'`",
        2.0,
        lambda results: results.ratio(
            Label(CHECK, "start", "cpu"), Label(CHECK_BASE, "start", "cpu")
        ),
    ),
)
