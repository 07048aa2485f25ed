"""Shows lists of sources as tables: the state first, and one line for each source.

A terminal that is too narrow for all columns gets the most important ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .._model.fields import Report
from .._model.meanings import meanings
from .grid import aligned, fitted, shortened, wrapped
from .values import cell

COLUMNS = {
    "sources": {
        "state": "state",
        "mode": "mode",
        "source": "address",
        "stratum": "stratum",
        "poll": "poll",
        "reach": "reachability",
        "last": "last_sample_ago",
        "system clock": "latest_meas",
        "error": "latest_meas_err",
        "when measured": "orig_latest_meas",
    },
    "sourcestats": {
        "source": "address",
        "samples": "samples",
        "runs": "runs",
        "span": "span",
        "frequency": "resid_freq",
        "skew": "skew",
        "system clock": "offset",
        "deviation": "std_dev",
        "error": "offset_err",
    },
    "selectdata": {
        "state": "state",
        "source": "address",
        "auth": "authentication",
        "options": "configured_options",
        "effective": "effective_options",
        "last": "last_sample_ago",
        "score": "score",
        "from": "low_limit",
        "to": "high_limit",
        "leap": "leap_status",
    },
    "authdata": {
        "source": "address",
        "mode": "mode",
        "key": "key_id",
        "type": "key_type",
        "key size": "key_length",
        "tries": "ke_attempts",
        "last": "last_ke_ago",
        "NAK": "nak",
        "cookies": "cookies",
        "cookie size": "cookie_length",
    },
}
"""The attribute in each column of a report's table, by the column's head."""

LEAST_IMPORTANT = {
    "sources": ("when measured", "mode", "poll", "stratum", "last", "error", "reach"),
    "sourcestats": ("error", "runs", "samples", "span", "skew", "deviation"),
    "selectdata": ("leap", "auth", "options", "effective", "score", "last"),
    "authdata": ("cookie size", "key size", "type", "cookies", "key"),
}
"""The columns that a narrow table leaves out, in this order."""

LEFT = {"state", "mode", "source", "auth", "options", "effective", "leap", "type", "NAK"}
"""The heads of the columns that are aligned to the left."""

SHORTEST = 16
"""The fewest characters of a name: an IPv4 address fits."""


def table(records: Sequence[Report], width: int) -> list[str] | None:
    """Return the lines of a table; `None` if the report has none that fits."""
    model = type(records[0])
    if model._report not in COLUMNS:
        return None
    columns = []
    for head, name in COLUMNS[model._report].items():
        cells = [cell(record, name) for record in records]
        if name == "address":
            cells = [shortened(text, max(SHORTEST, width // 3)) for text in cells]
        columns.append([head, *cells])
    fitting = fitted(columns, LEAST_IMPORTANT[model._report], width)
    lines = aligned(fitting, LEFT)
    return lines if max(map(len, lines)) <= width else None


def explained(model: type[Report], width: int) -> str:
    """Return what each column of the report's table means."""
    known, lines = meanings(model), []
    for head, name in COLUMNS[model._report].items():
        clause = "Address, or a reference clock's ID"
        if name != "address":
            clause = re.split(r"[.;:,](?: |$)| as a power", known[name].text)[0]
        lines.append(wrapped(f"{head}: {clause}", width, indent=2))
    return "\n".join(lines)
