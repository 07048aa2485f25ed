"""Writes docs/faults.md from the outcomes of the tests of faults, as a pytest plug-in.

`pytest --faults-page=FILE` writes the page; with `--faults-check` it compares the file instead. A
test notes its outcomes with `note()`; they travel in its report, which pytest-xdist passes on to
the process that writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from methods import REPORTS

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

`tools/run faults` writes this page from what `tests/test_faults.py` sees.

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


class Outcome(NamedTuple):
    """The outcome of one call under one fault."""

    order: int  # of the fault on the page
    group: str
    fault: str
    transport: str
    report: str
    cell: str
    message: str


def note(request: pytest.FixtureRequest, outcomes: Iterable[Outcome]) -> None:
    """Pass the outcomes of a test on to the process that writes the page."""
    node = request.node
    assert isinstance(node, pytest.Item)
    node.user_properties.extend(("fault", list(outcome)) for outcome in outcomes)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-page", type=Path, help="write the outcomes of faults to this file")
    parser.addoption("--faults-check", action="store_true", help="compare that file instead")


class Page:
    """Collects the outcomes and writes them."""

    def __init__(self, path: Path, check: bool) -> None:
        self._path = path
        self._check = check
        self._outcomes: set[Outcome] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for name, value in report.user_properties:
                if name == "fault" and isinstance(value, list):
                    self._outcomes.add(Outcome._make(value))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus != 0:
            return
        text = render(self._outcomes)
        if not self._check:
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(text)
        elif not self._path.exists() or self._path.read_text() != text:
            print(f"\n{self._path} is not what this run saw: run 'tools/run faults'")
            session.exitstatus = 1


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--faults-page")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Page(path, bool(config.getoption("--faults-check"))))


def render(outcomes: Iterable[Outcome]) -> str:
    """The page for these outcomes."""
    groups: dict[str, dict[tuple[int, str, str], dict[str, Outcome]]] = {}
    for outcome in sorted(outcomes):
        rows = groups.setdefault(outcome.group, {})
        row = rows.setdefault((outcome.order, outcome.fault, outcome.transport), {})
        other = row.setdefault(outcome.report, outcome)
        if (other.cell, other.message) != (outcome.cell, outcome.message):
            raise ValueError(f"{other} but also {outcome}")
    lines = [INTRODUCTION]
    for group, rows in groups.items():
        lines.append(f"\n## {group}\n\n{HEADER}\n")
        transports: dict[tuple[str, str, str], list[str]] = {}
        for (_, fault, transport), row in rows.items():
            said = "; ".join(dict.fromkeys(o.message for o in row.values() if o.message))
            transports.setdefault((fault, _outcomes(row), said), []).append(transport)
        for (fault, ends, said), names in transports.items():
            lines.append(f"| {fault} | {', '.join(names)} | {ends} | {said} |\n")
    return "".join(lines)


HEADER = """\
| fault | over | outcome | the message says |
| --- | --- | --- | --- |"""


def _outcomes(row: dict[str, Outcome]) -> str:
    """Say which calls had which outcome; the calls with the most frequent one are "others"."""
    calls: dict[str, list[str]] = {}
    for report in REPORTS:
        calls.setdefault(row[report].cell if report in row else "-", []).append(report)
    *few, most = sorted(calls, key=lambda cell: len(calls[cell]))
    if not few:
        return most
    return "; ".join([*(f"{', '.join(calls[cell])}: {cell}" for cell in few), f"others: {most}"])
