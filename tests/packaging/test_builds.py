"""Tests where building works, where it cannot, and which version results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import artifacts
import pytest

HOOK = """
import shutil, subprocess, sys, sysconfig, tempfile
from hatchling import build
import hatchling.builders.sdist, hatchling.builders.wheel
sysconfig.get_config_vars()  # or they are looked for under the name of the pretended platform
{before}
build.build_{kind}("out")
"""


def build(
    tree: Path, kind: str, before: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HOOK.format(before=before or "pass", kind=kind)]
    return subprocess.run(
        command, cwd=tree, env={**os.environ, **(environment or {})}, capture_output=True, text=True
    )


@pytest.fixture
def tree(sdist: Path, tmp_path: Path) -> Path:
    return artifacts.unpack(sdist, tmp_path)


@pytest.mark.parametrize(
    ("before", "environment", "message"),
    [
        ("sys.platform = 'darwin'", {}, "pychrony needs 64-bit Linux"),
        ("sys.platform = 'win32'", {}, "pychrony needs 64-bit Linux"),
        ("sys.implementation.name = 'pypy'", {}, "pychrony is built for CPython, not pypy"),
        ("", {"CC": "no-such-compiler"}, "install gcc (or set CC)"),
        ("", {"CC": "false"}, "'false' ended with status 1"),
    ],
)
def test_a_wheel_that_cannot_be_built_says_why(
    tree: Path, before: str, environment: dict[str, str], message: str
) -> None:
    done = build(tree, "wheel", before, environment)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert said.count("pychrony") - said.count("pychrony-build") == 1, said
    assert message in said
    assert "Traceback" not in said


def test_an_sdist_builds_anywhere(tree: Path) -> None:
    done = build(tree, "sdist", "sys.platform = 'darwin'", {"CC": "no-such-compiler"})
    assert done.returncode == 0, done.stderr


def test_a_wheel_needs_no_libchrony_to_be_built(tree: Path, tmp_path: Path) -> None:
    header = subprocess.run(
        [*os.environ.get("CC", "cc").split(), "-E", "-include", "chrony.h", "-x", "c", os.devnull],
        capture_output=True,
    )
    if header.returncode == 0:
        pytest.skip("libchrony is installed here")
    environment = {k: v for k, v in os.environ.items() if k != "PYCHRONY_LIBCHRONY"}
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    done = subprocess.run(
        [*pip, str(tmp_path), str(tree)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def git(folder: Path, *arguments: str) -> None:
    somebody = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
    subprocess.run(["git", "-C", str(folder), *somebody, *arguments], check=True)


def commit(folder: Path, message: str) -> None:
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)


def version(folder: Path) -> str:
    command = [sys.executable, "-m", "hatchling", "version"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in ("pyproject.toml", ".gitattributes", ".git_archival.txt"):
        shutil.copy(artifacts.ROOT / name, folder)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    commit(folder, "first")
    return folder


def test_a_tag_gives_its_version(repository: Path) -> None:
    git(repository, "tag", "v0.1.0")
    assert version(repository) == "0.1.0"


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


def test_the_archive_of_a_tag_gives_its_version(repository: Path, tmp_path: Path) -> None:
    git(repository, "tag", "v0.1.0")
    commit(repository, "second")
    git(repository, "tag", "v0.2.0")
    assert version(archive(repository, "v0.1.0", tmp_path)) == "0.1.0"


def test_the_archive_of_a_later_commit_comes_after_the_version(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "tag", "v0.1.0")
    commit(repository, "second")
    assert version(archive(repository, "HEAD", tmp_path)) == "0.1.0.post1.dev1"


def test_a_copy_of_the_files_alone_is_not_built(repository: Path) -> None:
    git(repository, "tag", "v0.1.0")
    shutil.rmtree(repository / ".git")
    assert "unable to detect version" in version(repository)


def test_a_shallow_clone_is_refused(repository: Path, tmp_path: Path) -> None:
    git(repository, "tag", "v0.1.0")
    commit(repository, "second")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", "shallow")
    assert "shallow" in version(tmp_path / "shallow")


def test_an_sdist_keeps_its_version_without_git(tree: Path, sdist: Path) -> None:
    assert version(tree) == artifacts.version_of(sdist.name)
