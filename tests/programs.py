"""Runs small Python programs, and the `pychrony` command, each in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

COMMAND = [sys.executable, "-m", "pychrony"]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command, with these environment variables."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=60,
    )


@contextmanager
def running(*arguments: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Start the command; kill it in the end, if it still runs then."""
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(code: str, *arguments: str, warnings: str = "error") -> subprocess.CompletedProcess[str]:
    """Run a program, with this option for its warnings; its own child processes can import it."""
    with TemporaryDirectory() as folder:
        program = Path(folder, "program.py")
        program.write_text(dedent(code))
        return subprocess.run(
            [sys.executable, "-W", warnings, program, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )


def output(code: str, *arguments: str, warnings: str = "error") -> str:
    """Return what a program prints; it must succeed and not complain."""
    done = run(code, *arguments, warnings=warnings)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
