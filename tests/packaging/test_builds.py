"""Tests where building works, where it cannot, and which version results."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import artifacts
import installed
import pytest
from conftest import git
from packaging.requirements import Requirement

HOOK = """
import shutil, subprocess, sys, sysconfig, tempfile
from hatchling import build
import hatchling.builders.sdist, hatchling.builders.wheel
sysconfig.get_config_vars()  # or they are looked for under the name of the pretended platform
{before}
build.build_{kind}({out!r})
"""


def build(
    tree: Path, kind: str, before: str = "pass", *, out: str = "out", **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-c", HOOK.format(before=before, kind=kind, out=out)]
    variables = os.environ | environment
    return subprocess.run(command, cwd=tree, env=variables, capture_output=True, text=True)


@pytest.fixture
def tree(sdist: Path, tmp_path: Path) -> Path:
    return artifacts.unpack(sdist, tmp_path)


@pytest.mark.parametrize(
    ("before", "environment", "message"),
    [
        ("sys.platform = 'darwin'", {}, "pychrony needs Linux, where chronyd runs; this is darwin"),
        ("sys.maxsize = 2**31 - 1", {}, "pychrony needs a 64-bit Python; this one is 32-bit"),
        ("sys.implementation.name = 'pypy'", {}, "pychrony is built for CPython, not pypy"),
        ("pass", {"CC": "no-such-compiler"}, "install gcc (or set CC)"),
        ("pass", {"CC": "false"}, "'false' ended with status 1"),
    ],
)
def test_a_wheel_that_cannot_be_built_says_why(
    tree: Path, before: str, environment: dict[str, str], message: str
) -> None:
    done = build(tree, "wheel", before, **environment)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert said.count("pychrony") - said.count("pychrony-build") == 1, said
    assert message in said
    assert "Traceback" not in said


def test_an_sdist_builds_anywhere(tree: Path) -> None:
    done = build(tree, "sdist", "sys.platform = 'darwin'", CC="no-such-compiler")
    assert done.returncode == 0, done.stderr


def test_building_a_wheel_leaves_the_source_tree_as_it_is(tree: Path, tmp_path: Path) -> None:
    """It may be read-only: who builds as root would not notice."""

    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in [tree, *tree.rglob("*")]}

    before = state()
    done = build(tree, "wheel", out=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert state() == before


def test_an_editable_install_into_a_read_only_tree_says_so(tree: Path) -> None:
    # Root may write everywhere, so a folder takes the place of the file.
    (tree / "src/pychrony/_version.py").mkdir()
    done = build(tree, "editable")
    assert done.returncode != 0
    assert "cannot be installed as editable" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("which", [0, -1], ids=["oldest", "newest"])
def test_the_declared_minima_build_and_test_it(which: int, sdist: Path, tmp_path: Path) -> None:
    """`pip` takes them as constraints, as cibuildwheel does with its pins."""
    tree = artifacts.unpack(sdist, tmp_path)
    lowest = [re.sub(">=", "==", requirement) for requirement in installed.requirements(tree)]
    minima = tmp_path / "minima.txt"
    minima.write_text("\n".join(lowest))
    # No wheels of cffi 2.0 are for 3.15.
    pythons = [python for python in installed.pythons() if "3.15" not in python]
    environment = installed.Environment(tmp_path / "environment", pythons[which])
    environment.variables = {"PIP_BUILD_CONSTRAINT": str(minima), "PIP_CONSTRAINT": str(minima)}
    environment.pip("install", str(sdist))
    (metadata,) = environment.folder.glob("venv/lib/*/site-packages/pychrony-*/WHEEL")
    generator = re.findall(r"Generator: (\w+) (.+)", metadata.read_text())
    found = [*generator, ("cffi", environment.run("-c", "import cffi; print(cffi.__version__)"))]
    for name, version in found:
        assert any(
            requirement.name == name and requirement.specifier.contains(version.strip())
            for requirement in map(Requirement, lowest)
        ), (name, version)
    environment.variables = {}
    tests = ["-n", "0", "tests/test_build.py", "tests/test_connection.py", "tests/test_reports.py"]
    installed.try_in(environment, tree, tests)


def commit(folder: Path, message: str) -> None:
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)


def version(folder: Path) -> str:
    command = [sys.executable, "-m", "hatchling", "version"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


@pytest.fixture
def repository(tree: Path) -> Path:
    (tree / "PKG-INFO").unlink()
    shutil.copy(artifacts.ROOT / ".git_archival.txt", tree)
    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    commit(tree, "first")
    return tree


def test_a_commit_after_a_tag_comes_after_its_version(repository: Path) -> None:
    git(repository, "tag", "v0.1.0")
    commit(repository, "second")
    assert version(repository) == "0.1.0.post1.dev1"


def test_a_commit_without_any_tag_has_a_version(repository: Path) -> None:
    assert version(repository) == "0.0.post1.dev1"


def archive(repository: Path, ref: str, folder: Path) -> Path:
    """Return a source archive as GitHub serves it, unpacked."""
    file = folder / "source.tar.gz"
    git(repository, "archive", f"--output={file}", "--prefix=source/", ref)
    return artifacts.unpack(file, folder)


@pytest.mark.parametrize(
    ("ref", "expected"), [("v0.1.0", "0.1.0"), ("v0.2.0~", "0.1.0.post1.dev1"), ("HEAD", "0.2.0")]
)
def test_an_archive_of_a_commit_gives_its_version(
    ref: str, expected: str, repository: Path, tmp_path: Path
) -> None:
    git(repository, "tag", "v0.1.0")
    commit(repository, "second")
    commit(repository, "third")
    git(repository, "tag", "v0.2.0")
    assert version(archive(repository, ref, tmp_path)) == expected


def test_a_copy_of_the_files_alone_is_not_built(repository: Path) -> None:
    git(repository, "tag", "v0.1.0")
    shutil.rmtree(repository / ".git")
    assert "unable to detect version" in version(repository)


def clone(repository: Path, *options: str) -> Path:
    git(repository.parent, "clone", "--quiet", *options, f"file://{repository}", "clone")
    return repository.parent / "clone"


SUBMODULE = "--separate-git-dir=elsewhere"  # as a submodule's or a worktree's


@pytest.mark.parametrize(
    ("kind", "options"), [("sdist", []), ("wheel", []), ("editable", []), ("wheel", [SUBMODULE])]
)
def test_a_shallow_clone_without_its_tag_is_refused(
    kind: str, options: list[str], repository: Path
) -> None:
    git(repository, "tag", "v0.1.0")
    commit(repository, "second")
    done = build(clone(repository, "--depth=1", *options), kind)
    assert done.returncode != 0
    assert "this shallow clone has none: run 'git fetch --unshallow" in done.stderr.splitlines()[-1]


def test_a_shallow_clone_of_a_tag_is_built(repository: Path) -> None:
    git(repository, "tag", "v0.1.0")
    done = build(clone(repository, "--depth=1", "--branch=v0.1.0"), "wheel")
    assert done.returncode == 0, done.stderr
    assert list(repository.parent.glob("clone/out/pychrony-0.1.0-*.whl"))


def test_an_sdist_keeps_its_version_without_git(tree: Path, sdist: Path) -> None:
    assert version(tree) == artifacts.version_of(sdist.name)
