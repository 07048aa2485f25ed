"""Writes docs/faults.md from the table of faults."""

from __future__ import annotations

from pathlib import Path

from fault_table import FAULTS, Row
from methods import REPORTS
from scripted import Transport

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"

INTRODUCTION = """\
# Faults

What happens to a call when chronyd or the network misbehaves. Each row is a fault that a scripted
chronyd produces, with the outcome of a call for each report, and for all reports together (*all*,
`get_all()`). An outcome without names holds for every call.

Each outcome also holds for every way to ask: new, reused and one-shot connections and `get_many()`,
the same in `pychrony.aio`, and the command. The everyday tests try one of these nine ways for each
report and fault, so that every report is read both by blocking calls and in an event loop; the long
tests try all nine. The tests also fail if a call takes longer than allowed, if a value differs from
what chronyd sent, if a message does not begin with what was tried and where, or if the next call
after the fault does not return the right values.

`tools/run faults` writes this page from the table in `tests/fault_table.py`.

| outcome | meaning |
| --- | --- |
| data | the right values |
| none | `None`: the report is turned off in chronyd |
| - | the call does not send this request |
| timeout | `ChronyTimeoutError`, when the timeout has passed |
| connection | `ChronyConnectionError`; at once, unless chronyd was running when the call began |
| permission | `ChronyPermissionError`, at once |
| refused | `ChronyDataError`, at once: the answer cannot be used |
| missing *n* | for `get_all()`: *n* reports are in `missing`, and the others are right |
"""

HEADER = """\
| fault | over | outcome | the message says |
| --- | --- | --- | --- |"""


def page() -> str:
    """Return the page for the table."""
    lines = [INTRODUCTION]
    for group, rows in FAULTS.items():
        lines.append(f"\n## {group}\n\n{HEADER}\n")
        for row in rows:
            transports: dict[tuple[str, str], list[str]] = {}
            for transport in row.over:
                transports.setdefault((_outcomes(row), _said(row, transport)), []).append(transport)
            for (outcomes, said), names in transports.items():
                lines.append(f"| {row.name} | {', '.join(names)} | {outcomes} | {said} |\n")
    return "".join(lines)


def _said(row: Row, transport: Transport) -> str:
    words = [row.words(row.expects(report), transport) for report in row.reports]
    return "; ".join(dict.fromkeys(said.partition(";")[0] for said in words if said))


def _outcomes(row: Row) -> str:
    """Say which calls had which outcome; the calls with the most frequent one are "others"."""
    calls: dict[str, list[str]] = {}
    for report in REPORTS:
        cell = row.expects(report).cell if report in row.reports else "-"
        calls.setdefault(cell, []).append(report)
    *few, most = sorted(calls, key=lambda cell: len(calls[cell]))
    if not few:
        return most
    return "; ".join([*(f"{', '.join(calls[cell])}: {cell}" for cell in few), f"others: {most}"])


if __name__ == "__main__":
    PAGE.write_text(page())
