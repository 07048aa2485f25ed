"""Tests that a rehearsal fails for a release.yml that is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from artifacts import ROOT
from problems import ReleaseError
from rehearse.__main__ import release
from rehearse.stage import Stage

WORKFLOW = ROOT / ".github/workflows/release.yml"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all rehearsals may share: Pythons with the pinned packages."""
    return tmp_path_factory.mktemp("cache")


def rehearse(old: str, new: str, folder: Path, cache: Path) -> None:
    text = WORKFLOW.read_text()
    assert text.count(old) == 1
    copy = folder / "release.yml"
    copy.write_text(text.replace(old, new))
    stage = Stage(folder / "stage", copy)
    (stage.folder / "cache").symlink_to(cache)
    release(stage)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('release.py check "$TAG"', 'release.py check "x$TAG"', "is no version"),
        ("pattern: wheels-*", "pattern: wheel-*", "Artifact not found for name: wheel-"),
        ("    needs: inspect\n", "", "Artifact not found for name: release"),
        ("environment: pypi #", "environment: testpypi #", "invalid-publisher: pypi"),
        ("id-token: write # Trusted Publishing\n", "contents: read\n", "needs the permission id-"),
        ("release.py check ", "release.py notes ", "nobody has looked whether PyPI waits"),
        ("fetch-tags: true", "fetch-tags: true\n          lfs: true", "the inputs {'lfs'}"),
        ("uses: actions/attest@", "uses: actions/cache@", "actions/cache, which has no stand-in"),
        ("    needs: install-testpypi\n", "    needs: inspect\n", "pypi did not wait"),
    ],
    ids=[
        *("a changed tag", "a wrong artifact", "a missing need", "a wrong environment"),
        *("no id-token", "no look for the reviewer", "an unknown input", "an unknown action"),
        "publishing beside Test PyPI",
    ],
)
def test_a_broken_copy_fails(old: str, new: str, said: str, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ReleaseError) as raised:
        rehearse(old, new, tmp_path, cache)
    assert said in str(raised.value)
