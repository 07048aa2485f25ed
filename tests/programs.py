"""Runs small Python programs, each in its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent


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
    """Return what a program prints; it must not complain."""
    done = run(code, *arguments, warnings=warnings)
    assert done.stderr == "", done.stderr
    return done.stdout
