"""Tests the shipped files where they are installed, with each Python of this machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import artifacts
import installed
import pytest
from artifacts import unpack
from problems import ReleaseError


def newest() -> str:
    return installed.pythons()[-1]


ALONE = ["-n", "0"]  # starting workers takes longer than a few files of tests
REPORTS = [*ALONE, "tests/test_reports.py"]
MOST = [*ALONE, *(f"tests/test_{name}.py" for name in ("connection", "reports"))]


@pytest.mark.parametrize("python", installed.pythons())
def test_the_tests_pass_where_it_is_installed(python: str, sdist: Path, wheel: Path) -> None:
    """Those that meet most of the package: CI runs all of them on each Python.

    The newest compiles the sdist, too: its headers may make other code of it.
    """
    builds = {str(wheel): MOST} | ({str(sdist): REPORTS} if python == newest() else {})
    tested = installed.try_clean(sdist, python, builds)
    assert "_shim.abi3.so" in tested[0]


def test_a_cross_compiled_wheel_passes_as_well(sdist: Path, oldest: str, tmp_path: Path) -> None:
    wheel = artifacts.build_wheel(sdist, tmp_path, platform.machine())
    tests = ["tests/test_hardening.py", *REPORTS]
    (tested,) = installed.try_clean(sdist, oldest, {str(wheel): tests})
    assert "_shim.abi3.so" in tested


@pytest.mark.skipif("3.15" not in newest(), reason="there is no Python 3.15 here")
def test_what_is_built_for_free_threading_passes_with_the_lock(sdist: Path, tmp_path: Path) -> None:
    """One stable ABI serves both kinds of Python 3.15, but not the tag of its wheel."""
    environment = installed.Environment(tmp_path, newest())
    tree = unpack(sdist, tmp_path)
    environment.variables = {"CPPFLAGS": "-DPy_TARGET_ABI3T=0x030f0000"}
    environment.pip("wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(tree))
    (wheel,) = tmp_path.glob("*.whl")
    assert "-cp315-abi3t-linux" in wheel.name
    environment.variables = {}
    environment.pip("install", str(sdist))  # what else belongs to it
    (site_packages,) = tmp_path.glob("venv/lib/python3*/site-packages")
    shutil.rmtree(site_packages / "pychrony")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site_packages)
    assert [path.name for path in site_packages.rglob("_shim*.so")] == ["_shim.abi3t.so"]
    installed.try_in(environment, tree, ["tests/test_threads.py", *REPORTS])


def test_a_copy_that_is_not_the_installed_one_is_refused(
    oldest: str, sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    environment = installed.Environment(tmp_path, oldest)
    environment.pip("install", "pytest", "cffi")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "elsewhere")
    (site_packages,) = tmp_path.glob("venv/lib/python3*/site-packages")
    (site_packages / "editable.pth").write_text(str(tmp_path / "elsewhere"))
    environment.folder = unpack(sdist, tmp_path)
    with pytest.raises(ReleaseError, match=r"the tests would test .*/elsewhere/pychrony, not what"):
        environment.run("tools/installed.py")


def test_an_older_python_is_told_by_the_sources(sdist: Path, tmp_path: Path) -> None:
    """An index says it before; an sdist, a git URL or an archive is only known once it is built."""
    subprocess.run([older_python(), "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [str(tmp_path / "venv/bin/pip"), "install", "--no-deps", str(sdist)]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode != 0
    assert (
        "[1 lines of output]\n      pychrony needs Python 3.10 or later; this is 3.9" in done.stderr
    )


def older_python() -> str:
    if python := installed.find("3.9"):
        return python
    if os.environ.get("CI"):
        pytest.fail("CI has to bring a Python 3.9")
    pytest.skip("no Python 3.9 here")


def test_there_are_several_pythons_to_test_on() -> None:
    assert len(installed.pythons()) > 1 or os.environ.get("PYCHRONY_ENV") == "ready", sys.version
