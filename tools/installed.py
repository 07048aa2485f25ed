#!/usr/bin/env python3
"""Test an installed pychrony, with all tests, outside the source tree.

    installed.py [-- PYTEST-ARGUMENT...]           in this environment
    installed.py SDIST WHEEL... [--python PYTHON]  in a clean environment for each Python,
                                                   with the tests of the sdist

The first form is for cibuildwheel's containers; the second form runs it in each environment.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libchrony import TAGS
from problems import ReleaseError, reported

if TYPE_CHECKING:
    import pytest

TOOLS = Path(__file__).resolve().parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
DIGEST = """
import hashlib, pathlib, sysconfig
folder = pathlib.Path(sysconfig.get_path("platlib"), "pychrony")
for path in sorted(path for path in folder.rglob("*") if path.is_file()):
    if path.suffix != ".pyc":
        print(path.relative_to(folder), hashlib.sha256(path.read_bytes()).hexdigest())
"""
PLATFORM = """
import platform
print(platform.libc_ver()[0] or "musl", *platform.python_version_tuple()[:2])
"""


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sdist", nargs="?", type=Path)
    parser.add_argument("wheel", nargs="?", type=Path)
    parser.add_argument("--python", action="append", help="all that are here, unless given")
    own = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    options = parser.parse_args(own)
    rest = sys.argv[len(own) + 2 :]
    with reported("installed.py"):
        if not options.sdist:
            try_here(rest)
        for python in options.python or pythons() if options.sdist else []:
            try_clean(options.sdist, python, {str(options.wheel): rest})


def pythons() -> list[str]:
    """Return the Pythons of this machine that pychrony supports."""
    return [python for python in map(find, VERSIONS) if python]


def find(version: str) -> str | None:
    """Return the Python of this version, on PATH or pyenv's, if there is one."""
    root = shutil.which("pyenv") and subprocess.check_output(["pyenv", "root"], text=True).strip()
    pyenv = sorted(Path(root, "versions").glob(f"{version}.*/bin/python")) if root else []
    candidates = [shutil.which(f"python{version}") or "", *map(str, pyenv)]
    return next(filter(runs, candidates), None)


def runs(python: str) -> bool:
    """Whether this is a Python, and not pyenv's placeholder for a missing one."""
    if not shutil.which(python):
        return False
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


class Environment:
    """A clean virtual environment in its own folder, which is also its working directory."""

    def __init__(self, folder: Path, python: str) -> None:
        """Create it without pip; the pip of this environment is newer, and installs into it."""
        self.folder = folder
        self.variables: dict[str, str] = {}
        self.path = ""  # a folder with further programs, if any
        folder.mkdir(parents=True, exist_ok=True)
        call([python, "-m", "venv", "--clear", "--without-pip", str(folder / "venv")], folder)
        self.python = str(folder / "venv/bin/python")

    def pip(self, *arguments: str) -> None:
        """Run pip for it."""
        pip = [sys.executable, "-m", "pip", "--python", self.python]
        options = ["--quiet", "--disable-pip-version-check"]
        call([*pip, *options, *arguments], self.folder, **self.variables)

    def run(self, *arguments: str) -> str:
        """Run its Python, and return the output."""
        path = os.pathsep.join(filter(None, [self.path, os.environ["PATH"]]))
        return call([self.python, *arguments], self.folder, PATH=path)

    def bring_wheels(self, tree: Path) -> None:
        """Download what an sdist needs, if this Python cannot: one on musl may have no ssl."""
        if subprocess.run([self.python, "-c", "import ssl"], capture_output=True).returncode == 0:
            return
        wheels = self.folder / "wheels"
        libc, *version = self.run("-c", PLATFORM).split()
        target = f"{TAGS.get(libc, TAGS['musl'])}_{platform.machine()}"
        options = ["--platform", target, "--python-version", ".".join(version), "--quiet"]
        pip = [sys.executable, "-m", "pip", "download", "--only-binary", ":all:", *options]
        groups = ["--group", f"{tree / 'pyproject.toml'}:test"]
        call([*pip, "--dest", str(wheels), *groups, *requirements(tree)], self.folder)
        self.variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}


def requirements(tree: Path) -> list[str]:
    """Return the requirements for building and using an sdist."""
    pyproject = toml(tree / "pyproject.toml")
    return [*pyproject["build-system"]["requires"], *pyproject["project"]["dependencies"]]


def toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, even with Python 3.10."""
    module = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return dict(module.loads(path.read_text()))


def call(command: Sequence[str], folder: Path, **variables: str) -> str:
    """Run a program away from the source tree."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise ReleaseError(
            f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}"
        )
    return done.stdout


def try_clean(sdist: Path, python: str, builds: Mapping[str, Sequence[str]]) -> list[str]:
    """Install builds into a clean environment, and run the tests of the sdist on each.

    `builds` has what pip installs, one in place of the other, with the arguments for pytest. What
    has the same bytes as an earlier one is not tested again. Returns the files that were tested.
    """
    from artifacts import unpack

    tested: list[str] = []
    with tempfile.TemporaryDirectory(prefix="pychrony-test-") as scratch:
        os.chmod(scratch, 0o755)  # some tests drop root's rights
        environment = Environment(Path(scratch), python)
        tree = unpack(sdist.absolute(), Path(scratch))
        environment.bring_wheels(tree)
        version = environment.run("--version").strip()
        for build, arguments in builds.items():
            anew = ["--force-reinstall", "--no-deps"] if tested else []
            environment.pip("install", *anew, os.path.abspath(build))
            files = environment.run("-c", DIGEST)
            if files in tested:
                print(f"{version}: the same bytes have passed", flush=True)
                continue
            try_in(environment, tree, arguments)
            tested.append(files)
    return tested


def try_in(environment: Environment, tree: Path, arguments: Sequence[str] = ()) -> None:
    """Run the tests of an unpacked sdist in an environment that has pychrony installed."""
    for module in (tree / "src").rglob("*.py"):  # it could be mistaken for the installed package
        if module.name not in ("build.py", "models.py"):  # which the tests of the build take
            module.unlink()
    environment.pip("install", "--group", f"{tree / 'pyproject.toml'}:test")
    script = [str(tree / "tools/chronyd.sh")]
    environment.path = subprocess.check_output(script, text=True).strip()
    environment.folder = tree
    output = environment.run("tools/installed.py", "--", "-n", "auto", "-q", *arguments)
    print(f"{environment.run('--version').strip()}: {output.strip().splitlines()[-1]}", flush=True)


def try_here(arguments: Sequence[str]) -> None:
    """Run the tests in this environment with a libchrony, and show the error without one."""
    if not os.environ.get("PYCHRONY_LIBCHRONY"):
        find = [sys.executable, str(TOOLS / "libchrony.py")]
        os.environ["PYCHRONY_LIBCHRONY"] = subprocess.check_output(find, text=True).strip()
    # pytest loads this file as a plug-in in each of its processes (see below).
    os.environ["PYTHONPATH"] = str(TOOLS)
    pytest = [sys.executable, "-m", "pytest", "-p", "installed", *arguments]
    if status := subprocess.run(pytest).returncode:
        raise ReleaseError(f"the tests ended with status {status}, see above")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test any pychrony except the one installed in this environment."""
    import pychrony

    found = Path(str(pychrony.__file__)).resolve()
    place = Path(sysconfig.get_path("platlib")).resolve() / "pychrony"
    if found.parent != place:
        raise ReleaseError(f"the tests would test {found.parent}, not what is in {place}")
    print(f"testing pychrony {pychrony.__version__} in {place}")


if __name__ == "__main__":
    main()
