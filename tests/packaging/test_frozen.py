"""Tests a program that PyInstaller has made of the installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import installed
import pytest

from pychrony._command.cli import COMMANDS
from pychrony.testing import PrivateChronyd

PROGRAM = """
import asyncio, sys
import pychrony, pychrony.aio
from pychrony._command.cli import main

if sys.argv[1] != "library":
    sys.exit(main())
print(pychrony.get_tracking(sys.argv[2]).stratum)
print(asyncio.run(pychrony.aio.get_tracking(sys.argv[2])).stratum)
"""


@pytest.fixture(scope="module")
def frozen(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    environment = installed.Environment(folder, sys.executable)
    environment.pip("install", str(wheel), "pyinstaller")
    (folder / "program.py").write_text(PROGRAM)
    environment.run("-m", "PyInstaller", "--log-level", "ERROR", "program.py")
    return folder / "dist" / "program" / "program"


def output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_frozen_program_reads_reports(frozen: Path) -> None:
    with PrivateChronyd("local stratum 5") as chronyd:
        assert output(frozen, "library", chronyd.address) == "5\n5\n"
        assert '"stratum": 5' in output(frozen, "tracking", "--json", "--address", chronyd.address)


@pytest.mark.parametrize("command", ["tracking", *COMMANDS])
def test_a_frozen_program_has_each_command(frozen: Path, command: str) -> None:
    assert output(frozen, command, "--help").startswith(f"usage: pychrony {command}")
