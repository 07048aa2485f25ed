"""Shows the results as a table, the worst host first, as wide as the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..._model.durations import seconds
from ...assessment import State, reference_of
from ..grid import aligned, cut, fitted, printable, shortened
from ..values import NOTHING
from .rows import Row

REASONS = "what is wrong"
LEFT = {"host", "state", "reference", REASONS}
LEAST_IMPORTANT = ("reference", "stratum", "offset", "usable", "bound")
"""What a narrow terminal does not show, in this order."""

REASON = 30
"""Minimum width of the reasons, if they are that long."""


def table(rows: Sequence[Row], width: int | None) -> list[str]:
    """Return the lines of the table; `width` is that of the terminal, if there is one."""
    if not rows:
        return []
    cells = [_cells(row) for row in rows]
    columns = {head: [head, *(printable(row[head]) for row in cells)] for head in cells[0]}
    if width is None:
        return aligned(columns.values(), LEFT)
    columns["host"] = [shortened(host, max(12, width // 3)) for host in columns["host"]]
    reasons = columns.pop(REASONS)
    short = [cut(reason, REASON) for reason in reasons]
    *kept, _ = fitted([*columns.values(), short], LEAST_IMPORTANT, width)
    return [cut(line, width) for line in aligned([*kept, reasons], LEFT)]


def totals(rows: Sequence[Row], took: float) -> str:
    """Return how many hosts are in each state."""
    states = Counter(row.assessment.state for row in rows)
    counts = ", ".join(f"{states[state]} {state.name}" for state in State if states[state])
    hosts = f"{len(rows)} host{'' if len(rows) == 1 else 's'}"
    return f"{hosts} in {took:.1f} s{': ' if counts else ''}{counts}"


def _cells(row: Row) -> dict[str, str]:
    """Return the cells by the heads of their columns."""
    clock, bound = row.clock, row.bound
    return {
        "host": row.host,
        "state": row.assessment.state.name,
        "bound": NOTHING if bound is None else seconds(bound),
        "offset": seconds(clock.offset, sign="+") if clock else NOTHING,
        "stratum": str(clock.stratum) if clock else NOTHING,
        "reference": reference_of(clock) if clock else NOTHING,
        "usable": NOTHING if row.sources is None else f"{row.usable}/{len(row.sources)}",
        REASONS: row.wrong,
    }
