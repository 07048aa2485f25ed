"""Shows the results as a table, the worst host first, as wide as the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..._model.durations import seconds
from ...assessment import State
from ..grid import aligned, cut, printable, shortened
from ..values import NOTHING
from .rows import Row, reference

HEADINGS: tuple[str, ...] = (
    "host",
    "state",
    "bound",
    "offset",
    "stratum",
    "reference",
    "usable",
    "what is wrong",
)
LEFT = {"host", "state", "reference", "what is wrong"}
LEAST_IMPORTANT = ("reference", "stratum", "offset", "usable", "bound")
"""What a narrow terminal does not show, in this order."""

REASON = 30
"""Minimum width of the reasons, if they are that long."""


def table(rows: Sequence[Row], width: int | None) -> list[str]:
    """Return the lines of the table; `width` is that of the terminal, if there is one."""
    if not rows:
        return []
    cells = [HEADINGS, *(tuple(map(printable, _cells(row))) for row in rows)]
    columns: Columns = dict(zip(HEADINGS, zip(*cells, strict=True), strict=True))
    if width is not None:
        columns = _fitting(columns, width)
    left = [number for number, name in enumerate(columns) if name in LEFT]
    return aligned([*zip(*columns.values(), strict=True)], left)


def totals(rows: Sequence[Row], took: float) -> str:
    """Return how many hosts are in each state."""
    states = Counter(row.assessment.state for row in rows)
    counts = ", ".join(f"{states[state]} {state.name}" for state in State if states[state])
    hosts = f"{len(rows)} host{'' if len(rows) == 1 else 's'}"
    return f"{hosts} in {took:.1f} s{': ' if counts else ''}{counts}"


def _cells(row: Row) -> tuple[str, ...]:
    clock, bound = row.clock, row.bound
    return (
        row.host,
        row.assessment.state.name,
        NOTHING if bound is None else seconds(bound),
        seconds(clock.offset, sign="+") if clock else NOTHING,
        str(clock.stratum) if clock else NOTHING,
        reference(clock) if clock else NOTHING,
        NOTHING if row.sources is None else f"{row.usable}/{len(row.sources)}",
        row.wrong,
    )


Columns = dict[str, tuple[str, ...]]


def _fitting(columns: Columns, width: int) -> Columns:
    """Leave out columns and shorten names, until the reasons have enough room."""
    kept = dict(columns)
    kept["host"] = tuple(shortened(host, max(12, width // 3)) for host in kept["host"])
    wanted = min(REASON, _width(kept["what is wrong"]))
    for name in LEAST_IMPORTANT:
        if _room(kept, width) >= wanted:
            break
        del kept[name]
    room = max(0, _room(kept, width))
    kept["what is wrong"] = tuple(cut(reason, room) for reason in kept["what is wrong"])
    return kept


def _room(columns: Columns, width: int) -> int:
    """Return what is left for the reasons."""
    others = [cells for name, cells in columns.items() if name != "what is wrong"]
    return width - sum(_width(cells) + 2 for cells in others)


def _width(cells: Sequence[str]) -> int:
    return max(map(len, cells))
