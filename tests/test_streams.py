"""Tests each command with standard streams that are closed, full, or unable to encode."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from functools import cache

import pytest
from limits import PATIENCE
from programs import COMMAND, EASY

from pychrony._command.cli import COMMANDS
from pychrony.testing import PrivateChronyd

NOWHERE = "/nonexistent/chronyd.sock"

# What each command does here: something that works, and something that fails.
GOOD = {
    "tracking": ["--address", "{address}"],
    "all": ["--json", "--address", "{address}"],
    "check": ["--address", "{address}", *EASY],
    "wait": ["--address", "{address}"],
    "fleet": ["{command_address}", *EASY],
    "doctor": ["--address", "{address}"],
    "demo": [],
}
BAD = {
    "tracking": ["--address", NOWHERE],
    "all": ["--address", NOWHERE, "--json"],
    "check": ["--address", NOWHERE],
    "wait": ["--address", NOWHERE, "--timeout", "0"],
    "fleet": ["--from", NOWHERE],
    "exporter": ["--listen", "192.0.2.1:9123"],
    "plot": [NOWHERE, "-o", "clock.svg"],
    "history": [NOWHERE],
    "doctor": ["--address", NOWHERE],
}

CALLS = [
    *([name, *arguments] for table in (GOOD, BAD) for name, arguments in table.items()),
    *([name, option] for name in ("tracking", *COMMANDS) for option in ("--help", "--wrong")),
    ["--version"],
    [],
]

UNWRITABLE = {"check": 3}
"""The exit code if stdout cannot be written, where it is not 1."""

every_call = pytest.mark.parametrize("call", CALLS, ids=" ".join)


def test_the_table_has_every_command() -> None:
    assert {*GOOD, *BAD} == {"tracking", "all", *COMMANDS}


def run(
    chronyd: PrivateChronyd, call: Sequence[str], redirection: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    places = {"address": chronyd.address, "command_address": chronyd.command_address}
    arguments = [argument.format_map(places) for argument in call]
    command = shlex.join([*COMMAND, *arguments])
    return subprocess.run(
        ["sh", "-c", f"exec {command} {redirection}"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=PATIENCE,
    )


@cache
def usually(chronyd: PrivateChronyd, *call: str) -> subprocess.CompletedProcess[str]:
    return run(chronyd, call)


def unwritten(call: Sequence[str], usual: subprocess.CompletedProcess[str]) -> int:
    """Return the right exit code if stdout cannot be written."""
    return UNWRITABLE.get(call[0] if call else "", 1) if usual.stdout else usual.returncode


@every_call
@pytest.mark.parametrize("redirection", ["<&- 2>&-", "2>/dev/full"])
def test_a_missing_stderr_changes_neither_output_nor_exit_code(
    chronyd: PrivateChronyd, call: Sequence[str], redirection: str
) -> None:
    usual, done = usually(chronyd, *call), run(chronyd, call, redirection)
    assert done.returncode == usual.returncode
    assert done.stderr == ""
    assert bool(done.stdout) is bool(usual.stdout)
    assert not set(usual.stderr.splitlines()) & set(done.stdout.splitlines())


@every_call
@pytest.mark.parametrize(
    ("redirection", "unbuffered"), [("<&- >&-", ""), (">/dev/full", ""), (">/dev/full", "1")]
)
def test_a_missing_stdout_is_an_error_if_there_is_something_to_write(
    chronyd: PrivateChronyd, call: Sequence[str], redirection: str, unbuffered: str
) -> None:
    usual = usually(chronyd, *call)
    done = run(chronyd, call, redirection, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == unwritten(call, usual)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert ("writing the output: " in done.stderr) is bool(usual.stdout)
    if redirection == ">/dev/full" and usual.stdout:
        assert done.stderr.endswith("writing the output: No space left on device\n")


@every_call
@pytest.mark.parametrize("redirection", [">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_the_exit_code_is_right_without_any_stream(
    chronyd: PrivateChronyd, call: Sequence[str], redirection: str
) -> None:
    usual, done = usually(chronyd, *call), run(chronyd, call, redirection)
    assert done.returncode == unwritten(call, usual)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize("options", [[], ["--json"]], ids=" ".join)
def test_a_watch_ends_if_it_cannot_be_shown(
    chronyd: PrivateChronyd, redirection: str, options: Sequence[str]
) -> None:
    call = ["tracking", "--address", chronyd.address, "--watch", "0.1", *options]
    done = run(chronyd, call, redirection)
    assert done.returncode == 1
    assert done.stderr.startswith("pychrony: writing the output: ")


@pytest.mark.parametrize("encoding", ["", "ascii"])
@pytest.mark.parametrize(
    ("call", "code"),
    [
        (["tracking", "--address", "bücher.example"], 1),
        (["check", "-H", "bücher.example"], 2),
        (["wait", "--address", "bücher.example", "--timeout", "0"], 1),
        (["fleet", "bücher.example"], 1),
        (["doctor", "--address", "bücher.example"], 1),
    ],
)
def test_a_name_that_the_locale_cannot_encode_is_shown_in_another_way(
    chronyd: PrivateChronyd, call: Sequence[str], code: int, encoding: str
) -> None:
    done = run(chronyd, call, LC_ALL="C", PYTHONIOENCODING=encoding)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    shown = "bücher.example" if not encoding else "b\\xfccher.example"
    assert shown in done.stdout + done.stderr


def test_a_name_that_python_cannot_decode_is_wrong_usage(chronyd: PrivateChronyd) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(chronyd, ["tracking", "--address", "bücher.example"], **locale)
    assert done.returncode == 2
    assert "has no valid host name" in done.stderr
    done = run(chronyd, ["check", "-H", "bücher.example"], **locale)
    assert done.returncode == 3
    assert done.stdout.startswith("CHRONY UNKNOWN: argument -H/--address: address ")
