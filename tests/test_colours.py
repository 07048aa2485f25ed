"""Tests that there are colours on a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from pychrony._command.colours import coloured
from pychrony.testing import PrivateChronyd


def on_terminal(*arguments: str, **environment: str) -> str:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pychrony", *arguments]
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    subprocess.run(
        command, stdout=theirs, env=clean | {"TERM": "xterm", "COLUMNS": "120"} | environment
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # Linux's way to say that the other side is closed
        pass
    os.close(ours)
    return shown.decode()


def test_the_selected_source_is_green_on_a_terminal(chronyd: PrivateChronyd) -> None:
    shown = on_terminal("sources", "--address", chronyd.address)
    assert "\x1b[32m* selected\x1b[0m" in shown


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_user_who_wants_no_colours_gets_none(
    environment: dict[str, str], chronyd: PrivateChronyd
) -> None:
    shown = on_terminal("sources", "--address", chronyd.address, **environment)
    assert "* selected" in shown
    assert "\x1b[3" not in shown


def test_colours_take_no_room(chronyd: PrivateChronyd) -> None:
    plain = on_terminal("all", "--address", chronyd.address, NO_COLOR="1")
    shown = on_terminal("all", "--address", chronyd.address)
    assert len(re.sub(r"\x1b\[\d*m", "", shown).splitlines()) == len(plain.splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x falseticker", "\x1b[31mx falseticker\x1b[0m"),
        ("? nonselectable", "\x1b[33m? nonselectable\x1b[0m"),
        ("* ^ 192.0.2.1", "\x1b[32m*\x1b[0m ^ 192.0.2.1"),
        ("x # PPS0", "\x1b[31mx\x1b[0m # PPS0"),
        ("? ^ 192.0.2.1", "\x1b[33m?\x1b[0m ^ 192.0.2.1"),
        ("ACTIVITY  Number of sources", "\x1b[1mACTIVITY  Number of sources\x1b[0m"),
        ("- selectable", "- selectable"),
        ('"state": "SELECTED"', '"state": "SELECTED"'),
    ],
)
def test_what_judges_is_coloured(text: str, expected: str) -> None:
    assert coloured(text) == expected
