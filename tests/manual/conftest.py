"""Fixtures for the tests of the manual: the built site, and the network of its examples."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OTHER = "3.0.0"  # a release whose manual is linked
sys.path.insert(0, str(DOCS / "_ext"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """While some wait for the site to be built, the others run the examples."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.fixture(scope="session")
def stage() -> Iterator[object]:
    """The network on which the examples run."""
    from stage import Stage

    with Stage() as stage:
        yield stage


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once for all workers, without any network."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "site"
    with FileLock(shared / "site.lock"):
        if not (folder / "index.html").exists():
            user = ["--map-root-user"] if os.geteuid() else []
            build = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning"]
            places = [f"--doctree-dir={folder.parent}/doctrees", str(DOCS), str(folder)]
            command = ["unshare", *user, "--net", *build, "--fresh-env", *places]
            others = {"PYCHRONY_OTHER_MANUALS": f"{OTHER}={OTHER}/index.html"}
            environment = {**os.environ, **others}
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / OTHER).mkdir()
            (folder / OTHER / "index.html").write_text("<p>The manual of a release.</p>\n")
    return folder
