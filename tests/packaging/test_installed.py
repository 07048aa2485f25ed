"""Tests the shipped files where they are installed, with each Python of this machine."""

from __future__ import annotations

import ctypes
import html
import os
import platform
import re
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

SONAME = "libchrony.so.0"
ASK = """
import pychrony
try:
    pychrony.get_tracking()
except pychrony.ChronyLibraryError as error:
    print(error)
"""


def newest() -> str:
    return installed.pythons()[-1]


@pytest.fixture(scope="session")
def wheel_of_sdist(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from the sdist, with only the declared requirements."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*pip, str(folder), str(sdist)], check=True)
    (path,) = folder.iterdir()
    return path


ALONE = ["-n", "0"]  # to start workers takes longer than a few files of tests
REPORTS = [*ALONE, "tests/test_reports.py"]
MOST = [*ALONE, *(f"tests/test_{name}.py" for name in ("connection", "reports"))]


@pytest.mark.parametrize("python", installed.pythons())
def test_the_tests_pass_where_it_is_installed(
    python: str, sdist: Path, wheel: Path, wheel_of_sdist: Path
) -> None:
    """Those that meet most of the package; the workflows run all of them on each Python.

    The sdist is compiled by this very Python, whose headers may make other code of it.
    """
    builds = {str(wheel): MOST, str(wheel_of_sdist): REPORTS, str(sdist): REPORTS}
    tested = installed.try_clean(sdist, python, builds)
    assert "_shim.abi3.so" in tested[0]


def test_a_cross_compiled_wheel_passes_as_well(sdist: Path, oldest: str, tmp_path: Path) -> None:
    wheel = artifacts.build_wheel(sdist, tmp_path, platform.machine())
    tests = ["tests/test_hardening.py", *REPORTS]
    (tested,) = installed.try_clean(sdist, oldest, {str(wheel): tests})
    assert "_shim.abi3.so" in tested


@pytest.mark.skipif("3.15" not in newest(), reason="there is no Python 3.15 here")
def test_what_is_compiled_for_free_threaded_pythons_passes_with_the_lock(
    sdist: Path, tmp_path: Path
) -> None:
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


@pytest.fixture
def environment(tmp_path: Path, oldest: str) -> installed.Environment:
    return installed.Environment(tmp_path, oldest)


def test_a_copy_that_is_not_the_installed_one_is_refused(
    environment: installed.Environment, sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    environment.pip("install", "pytest", "cffi")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "elsewhere")
    (site_packages,) = tmp_path.glob("venv/lib/python3*/site-packages")
    (site_packages / "editable.pth").write_text(str(tmp_path / "elsewhere"))
    environment.folder = unpack(sdist, tmp_path)
    with pytest.raises(ReleaseError, match=r"the tests would test .*/elsewhere/pychrony, not what"):
        environment.run("tools/installed.py")


def test_without_libchrony_the_error_says_how_to_get_it(
    environment: installed.Environment, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        ctypes.CDLL(SONAME)
    except OSError:
        monkeypatch.delenv("PYCHRONY_LIBCHRONY", raising=False)
    else:  # this machine cannot be without
        monkeypatch.setenv("PYCHRONY_LIBCHRONY", f"/nowhere/{SONAME}")
    environment.pip("install", str(wheel))
    said = environment.run("-c", ASK)
    assert said.startswith("loading libchrony")
    assert SONAME in said
    assert "PYCHRONY_LIBCHRONY" in said


def test_pip_refuses_an_older_python(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    python = older_python()
    page = tmp_path / "simple/pychrony/index.html"
    page.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("METADATA"))
        (line,) = (x for x in archive.read(name).decode().splitlines() if "Requires-Python" in x)
    requires = html.escape(line.partition(": ")[2])
    page.write_text(
        "".join(
            f'<a href="{path.as_uri()}" data-requires-python="{requires}">{path.name}</a>'
            for path in (wheel, sdist)
        )
    )
    subprocess.run([python, "-m", "venv", str(tmp_path / "venv")], check=True)
    index = ["--index-url", (tmp_path / "simple").as_uri()]
    done = subprocess.run(
        [tmp_path / "venv/bin/pip", "install", "--no-deps", "--pre", *index, "pychrony"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert re.search(r"(?i)requires.python.*>=3\.10", done.stderr)


def older_python() -> str:
    pyenv = shutil.which("pyenv")
    root = subprocess.check_output([pyenv, "root"], text=True).strip() if pyenv else os.devnull
    candidates = [*map(str, Path(root, "versions").glob("3.9.*/bin/python")), "python3.9"]
    for python in candidates:
        if installed.runs(python):
            return python
    if os.environ.get("CI"):
        pytest.fail("CI has to bring a Python 3.9")
    pytest.skip("no Python 3.9 here")


def test_there_are_several_pythons_to_test_on() -> None:
    assert len(installed.pythons()) > 1 or os.environ.get("PYCHRONY_ENV") == "ready", sys.version
