"""The units for systemd, and the image: what can be checked without starting them."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from pychrony._command import exporter, wait
from pychrony._command.arguments import Parser

CONTRIB = Path(__file__).parents[2] / "contrib"
UNITS = sorted((CONTRIB / "systemd").glob("*.service"))
PROGRAM = "/opt/pychrony/bin/pychrony"
EXPOSURE = 20  # tenths; systemd calls a service up to there well protected

PARSERS = {"exporter": exporter._parser, "wait": wait._parser}


def command(unit: Path) -> list[str]:
    (line,) = [x for x in unit.read_text().splitlines() if x.startswith("ExecStart=")]
    return shlex.split(line.removeprefix("ExecStart="))


def test_there_are_two_units() -> None:
    assert [unit.name for unit in UNITS] == ["pychrony-exporter.service", "pychrony-wait.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_in_a_unit(unit: Path, tmp_path: Path) -> None:
    installed = tmp_path / unit.name
    installed.write_text(unit.read_text().replace(PROGRAM, "/bin/true"))  # one that exists
    verify = ["systemd-analyze", "verify", "--man=no", "--generators=no", str(installed)]
    done = subprocess.run(verify, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_hardened(unit: Path) -> None:
    rate = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", str(unit)]
    done = subprocess.run(rate, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_has_a_command_that_exists(unit: Path) -> None:
    program, name, *arguments = command(unit)
    assert program == PROGRAM
    parser: Parser = PARSERS[name]()
    parser.parse(arguments)


def test_the_image_has_a_command_that_exists() -> None:
    text = (CONTRIB / "container" / "Containerfile").read_text()
    assert f'ENTRYPOINT ["{PROGRAM}", "exporter"]' in text
    assert 'CMD ["--listen", ":9123"]' in text
    for forbidden in ("gcc", "devel", "git clone"):
        assert forbidden not in text
