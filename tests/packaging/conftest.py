"""Provides the sdist and wheels that the tests examine, built once from the working tree."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import artifacts
import installed
import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run more workers than CPUs: some tests wait for downloads and timeouts."""
    return len(os.sched_getaffinity(0)) + 1


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody; return its output."""
    somebody = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
    command = ["git", "-C", str(folder), *somebody, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    artifacts.build(folder)
    return folder


@pytest.fixture(scope="session")
def sdist(dist: Path) -> Path:
    (path,) = dist.glob("*.tar.gz")
    return path


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def aarch64_wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts.build_wheel(sdist, tmp_path_factory.mktemp("aarch64"), "aarch64")


@pytest.fixture(scope="session")
def oldest() -> str:
    return installed.pythons()[0]
