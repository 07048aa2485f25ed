"""Reads one report or all, and shows them once or every few seconds."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from .._io.failures import is_off
from ..connection import ChronyConnection
from ..exceptions import ChronyError
from ..models import MODELS, AllReports
from .grid import wrapped
from .lists import LAYOUTS, explained
from .render import all_text, answer_of, as_json, text
from .screen import Screen, rounds, width, write

RESOLVING = 5.0
"""Seconds to wait for names of sources if there is no other limit."""


class Names:
    """Replaces the addresses of sources by their names, which it remembers."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = RESOLVING if timeout is None else timeout
        self._known: dict[str, str] = {}

    def put_into(self, answers: AllReports) -> AllReports:
        """Return the reports with names in place of addresses, where one is found in time."""
        import asyncio
        from dataclasses import replace

        from .lookups import Lookups

        records = {name: getattr(answers, name) or [] for name in ("sources", "sourcestats")}
        addresses = {record.address for listed in records.values() for record in listed}
        if new := addresses - self._known.keys():
            found = asyncio.run(Lookups().names(new, self._timeout))
            self._known |= {address: found.get(address, address) for address in new}
        named: dict[str, Any] = {
            name: [replace(record, address=self._known[record.address]) for record in listed]
            for name, listed in records.items()
            if listed
        }
        return replace(answers, **named)


def show(
    connection: ChronyConnection,
    report: str,
    everything: bool = False,
    names: Names | None = None,
    *,
    json: bool,
    explain: bool = False,
) -> None:
    """Print a report, or "all".

    With `everything`, also sources whose name is not resolved; `explain` adds the meaning of the
    columns of a list.
    """
    answers = ask(connection, report, names)
    write(as_json(payload(answers, report)) if json else _text(answers, report, everything))
    if explain and report in LAYOUTS and not json:
        write(f"\n{explained(MODELS[report], width())}")


def watch(
    connection: ChronyConnection,
    report: str,
    everything: bool,
    names: Names | None,
    *,
    every: float,
) -> None:
    """Print a report every few seconds until Ctrl-C, on a terminal in place of the previous one.

    After the first answer, errors are shown in place of answers, since chronyd may come back.
    """
    screen = Screen()
    answered = False
    with suppress(KeyboardInterrupt):
        for _ in rounds(every):
            try:
                shown = _text(ask(connection, report, names), report, everything)
                answered = True
            except ChronyError as error:
                if not answered:
                    raise
                shown = wrapped(error.message, width())
            screen.draw(f"{_header(connection, report, every)}\n\n{shown}")
    if screen.can_redraw:
        print()  # after the ^C


def ask(connection: ChronyConnection, report: str, names: Names | None = None) -> AllReports:
    """Return a report, or all of them; raise the first error if none can be read."""
    wanted = list(MODELS) if report == "all" else [report]
    answers = connection.get_all(*wanted)
    errors = [error for name, error in answers.missing.items() if not is_off(name, error)]
    if errors and len(answers.missing) == len(wanted):
        raise errors[0]
    return answers if names is None else names.put_into(answers)


def _header(connection: ChronyConnection, report: str, every: float) -> str:
    return f"{report} from {connection.address} at {time.strftime('%H:%M:%S')}, every {every:g} s"


def _text(answers: AllReports, report: str, everything: bool) -> str:
    if report == "all":
        return all_text(answers, width(), everything=everything)
    return text(MODELS[report], answer_of(answers, report), width(), everything=everything)


def payload(answers: AllReports, report: str) -> Any:
    """Return what goes into the JSON."""
    return answers if report == "all" else getattr(answers, report)
