"""The web site: the manuals of main and of each release, in a repository with tags."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from artifacts import ROOT
from conftest import git

# Stands in for Sphinx: the page says which commit it is of, and what else is there.
RUN = """#!/bin/bash
task_docs() {
    mkdir -p build/docs/html/guides
    echo "$(cat text), $PYCHRONY_OTHER_MANUALS, ${PYCHRONY_ENV-}" >build/docs/html/index.html
    cp text build/docs/html/guides/one.html
    [[ $(cat text) != broken ]]
}
"task_$1"
"""


class Repository:
    """A repository whose manual has one line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools/site.sh", folder / "tools/site.sh")
        git(self.folder, "init", "--quiet", "--initial-branch=main")

    def commit(self, text: str, *tags: str) -> None:
        (self.folder / "text").write_text(text)
        git(self.folder, "add", ".")
        git(self.folder, "commit", "--quiet", "--message", text)
        for tag in tags:
            git(self.folder, "tag", tag)

    def add_manual(self) -> None:
        run = self.folder / "tools/run"
        run.write_text(RUN)
        run.chmod(0o755)

    def build(self) -> subprocess.CompletedProcess[str]:
        command = ["tools/site.sh", "main"]
        ready = {**os.environ, "PYCHRONY_ENV": "ready"}
        return subprocess.run(command, cwd=self.folder, env=ready, capture_output=True, text=True)

    def page(self, path: str) -> str:
        return (self.folder / "build/site" / path).read_text().strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.commit("without", "v2.0.3")
    made.add_manual()
    made.commit("first", "v3.0.0")
    made.commit("candidate", "v3.1.0rc1")
    made.commit("second", "v3.1.0")
    made.commit("newest")
    return made


def test_main_is_at_the_root_and_each_release_in_a_folder(repository: Repository) -> None:
    done = repository.build()
    assert done.returncode == 0, done.stderr
    assert repository.page("index.html") == "newest, 3.1.0=3.1.0/index.html 3.0.0=3.0.0/index.html,"
    assert repository.page("3.1.0/index.html") == (
        "second, main=../index.html 3.0.0=../3.0.0/index.html,"
    )
    assert repository.page("3.0.0/guides/one.html") == "first"
    folders = {path.name for path in (repository.folder / "build/site").iterdir() if path.is_dir()}
    assert folders == {"3.0.0", "3.1.0", "guides"}
    assert len(git(repository.folder, "worktree", "list").splitlines()) == 1


def test_the_newest_releases_are_kept(repository: Repository) -> None:
    for minor in range(2, 12):
        repository.commit(f"release {minor}", f"v3.{minor}.0")
    done = repository.build()
    assert done.returncode == 0, done.stderr
    folders = {path.name for path in (repository.folder / "build/site").glob("3.*")}
    assert folders == {f"3.{minor}.0" for minor in range(4, 12)}


def test_a_release_that_cannot_be_built_is_named(repository: Repository) -> None:
    """Pages then stays as it is: no manual that people link to goes away."""
    repository.commit("broken", "v3.2.0")
    repository.commit("mended")
    done = repository.build()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "site.sh: building the manual of v3.2.0 failed, see above"
    )
    assert len(git(repository.folder, "worktree", "list").splitlines()) == 1
