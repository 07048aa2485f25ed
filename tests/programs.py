"""Runs the `pychrony` command, here, in its own process or on a terminal, and Python programs."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import NamedTuple

import pytest
from limits import PATIENCE
from scripted import ScriptedChronyd

from pychrony._command.cli import main
from pychrony.testing import PrivateChronyd

COMMAND = [sys.executable, "-m", "pychrony"]
WIDE = {"COLUMNS": "200"}
EASY = ["--warning", "10s", "--critical", "20s"]
"""The bound of a clock that has just been synchronised is large, and shrinks."""


def at(chronyd: ScriptedChronyd | PrivateChronyd) -> list[str]:
    """Whom to ask, and time enough for a busy machine."""
    return ["--address", chronyd.address, "--timeout", "20"]


class Done(NamedTuple):
    """What the command has returned and printed."""

    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command in this process, as on a wide terminal."""
    monkeypatch.setenv("COLUMNS", WIDE["COLUMNS"])

    def call(*arguments: str) -> Done:
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        shown = capsys.readouterr()
        return Done(code, shown.out, shown.err)

    return call


def command(
    *arguments: str, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in its own process, with these environment variables."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | WIDE | environment,
        timeout=PATIENCE,
    )


@contextmanager
def running(
    *arguments: str,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    **environment: str,
) -> Iterator[subprocess.Popen[str]]:
    """Start the command; kill it in the end, if it still runs then."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=stdout,
        stderr=stderr,
        text=True,
        env=os.environ | WIDE | environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Terminal:
    """A terminal: programs write to `end`, and tests read what it shows."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self._ours, self.end = pty.openpty()
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        for end in (self._ours, self.end):
            os.close(end)

    def shown_until(self, text: str, times: int = 1) -> str:
        """Read what is shown until it has a text, so many times."""
        shown = b""
        while shown.count(text.encode()) < times:
            assert select.select([self._ours], [], [], PATIENCE)[0], shown
            shown += os.read(self._ours, 4096)
        return shown.decode()

    def shown(self) -> str:
        """Return what programs have shown that have ended."""
        os.write(self.end, b"\0")
        return self.shown_until("\0")[:-1]


def run(code: str, *arguments: str, warnings: str = "error") -> subprocess.CompletedProcess[str]:
    """Run a program, with this option for its warnings; its own child processes can import it."""
    with TemporaryDirectory() as folder:
        program = Path(folder, "program.py")
        program.write_text(dedent(code))
        return subprocess.run(
            [sys.executable, "-W", warnings, program, *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


def output(code: str, *arguments: str, warnings: str = "error") -> str:
    """Return what a program prints; it must succeed and not complain."""
    done = run(code, *arguments, warnings=warnings)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
