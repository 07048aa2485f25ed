"""Reads one report or all, and shows them once or every few seconds."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, NamedTuple

from .._io.failures import is_off
from ..connection import ChronyConnection
from ..exceptions import ChronyError
from ..models import MODELS, AllReports
from .grid import wrapped
from .lists import COLUMNS, explained
from .render import as_json, text_of
from .screen import Screen, rounds, width, write


class View(NamedTuple):
    """A report to show, or "all" of them."""

    connection: ChronyConnection
    report: str
    everything: bool = False
    """Whether text includes sources whose name is not resolved."""
    resolve_in: float = 0.0
    """How long to look up names for the addresses of sources, in seconds."""

    def ask(self) -> AllReports:
        """Read the reports; raise the first error if none can be read."""
        wanted = list(MODELS) if self.report == "all" else [self.report]
        answers = self.connection.get_all(*wanted)
        errors = [error for name, error in answers.missing.items() if not is_off(name, error)]
        if errors and len(answers.missing) == len(wanted):
            raise errors[0]
        return _named(answers, self.resolve_in) if self.resolve_in else answers

    def text(self, answers: AllReports) -> str:
        """Return what was read as text."""
        return text_of(answers, self.report, width(), everything=self.everything)

    def payload(self, answers: AllReports) -> Any:
        """Return what goes into the JSON."""
        return answers if self.report == "all" else getattr(answers, self.report)


def _named(answers: AllReports, timeout: float) -> AllReports:
    """Return the reports with names in place of addresses, where one is found in time."""
    import asyncio
    from dataclasses import replace

    from .lookups import names_of

    lists = {name: getattr(answers, name) or [] for name in ("sources", "sourcestats")}
    addresses = {record.address for records in lists.values() for record in records}
    names = asyncio.run(names_of(addresses, timeout))
    for name, records in lists.items():
        known = [replace(r, address=names.get(r.address, r.address)) for r in records]
        answers = replace(answers, **{name: known})  # type: ignore[arg-type]
    return answers


def show(view: View, *, json: bool, explain: bool = False) -> None:
    """Print a report; `explain` adds the meaning of the columns of a list."""
    answers = view.ask()
    write(as_json(view.payload(answers)) if json else view.text(answers))
    if explain and view.report in COLUMNS and not json:
        write(f"\n{explained(MODELS[view.report], width())}")


def watch(view: View, every: float) -> None:
    """Print a report every few seconds until Ctrl-C, on a terminal in place of the previous one.

    After the first answer, errors are shown in place of answers, since chronyd may come back.
    """
    screen = Screen()
    answered = False
    with suppress(KeyboardInterrupt):
        for _ in rounds(every):
            try:
                shown = view.text(view.ask())
                answered = True
            except ChronyError as error:
                if not answered:
                    raise
                shown = wrapped(error.message, width())
            begin = f"{view.report} from {view.connection.address} at {time.strftime('%H:%M:%S')}"
            screen.draw(f"{begin}, every {every:g} s\n\n{shown}")
    if screen.can_redraw:
        print()  # after the ^C
