"""Tests that there are colours on a terminal, and nowhere else."""

from __future__ import annotations

import re

import pytest
from limits import PATIENCE
from programs import Terminal, at, running

from pychrony._command.colours import coloured
from pychrony.testing import PrivateChronyd


def on_terminal(*arguments: str, **environment: str) -> str:
    surroundings = {"TERM": "xterm", "NO_COLOR": ""} | environment
    with Terminal() as terminal:
        end = terminal.end
        with running(*arguments, stdout=end, stderr=end, **surroundings) as process:
            assert process.wait(PATIENCE) == 0
        return terminal.shown()


def test_the_selected_source_is_green_on_a_terminal(chronyd: PrivateChronyd) -> None:
    shown = on_terminal("sources", *at(chronyd))
    assert "\x1b[32m* selected\x1b[0m" in shown


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(environment: dict[str, str], chronyd: PrivateChronyd) -> None:
    shown = on_terminal("sources", *at(chronyd), **environment)
    assert "* selected" in shown
    assert "\x1b[3" not in shown


def test_colours_take_no_room(chronyd: PrivateChronyd) -> None:
    plain = on_terminal("all", *at(chronyd), NO_COLOR="1")
    shown = on_terminal("all", *at(chronyd))
    assert len(re.sub(r"\x1b\[\d*m", "", shown).splitlines()) == len(plain.splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x falseticker", "\x1b[31mx falseticker\x1b[0m"),
        ("? nonselectable", "\x1b[33m? nonselectable\x1b[0m"),
        ("+ combined  ^ client", "\x1b[32m+ combined\x1b[0m  ^ client"),
        ("ACTIVITY  Number of sources", "\x1b[1mACTIVITY  Number of sources\x1b[0m"),
        ("- selectable", "- selectable"),
        ('"state": "SELECTED"', '"state": "SELECTED"'),
    ],
)
def test_what_judges_is_coloured(text: str, expected: str) -> None:
    assert coloured(text) == expected
