"""Tests the parts of a release that the rehearsal does not cover."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import artifacts
import indexes
import pytest
import release
from conftest import git
from problems import ReleaseError, reported

NAME = "pychrony-1.2.3.tar.gz"


@pytest.fixture
def changelog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "CHANGELOG.md"
    path.write_text(
        "# Changelog\n\n## Unreleased\n\n## [1.2.3] - 2030-01-01\n\nNew.\n\n## 1.2\n\nOld.\n"
    )
    monkeypatch.setattr(release, "CHANGELOG", path)
    return path


def test_notes_are_the_section_of_the_version(changelog: Path) -> None:
    assert release.notes("1.2.3") == "New."
    assert release.notes("1.2") == "Old."


@pytest.mark.parametrize("version", ["1.2.4", "1", "Unreleased"])
def test_a_version_without_notes_is_not_released(changelog: Path, version: str) -> None:
    with pytest.raises(ReleaseError, match="has no section"):
        release.notes(version)


@pytest.mark.parametrize("tag", ["v1.2.3", "v2.0.0rc1", "v1.0.post1", "1.2.3"])
def test_a_tag_gives_its_version(tag: str) -> None:
    assert artifacts.version_of_tag(tag) == tag.removeprefix("v")


@pytest.mark.parametrize("tag", ["vv1", "latest", "v1.2.3-rc1", "v1.0+local", "v01.2"])
def test_another_tag_is_refused(tag: str) -> None:
    with pytest.raises(ReleaseError, match="delete the tag, and push"):
        artifacts.version_of_tag(tag)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (NAME, "sdist"),
        (
            "pychrony-1-cp310-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            "cp310-abi3-manylinux_x86_64",
        ),
        ("pychrony-1-cp310-abi3-musllinux_1_2_aarch64.whl", "cp310-abi3-musllinux_aarch64"),
        ("pychrony-1-cp314-cp314t-manylinux_2_28_x86_64.whl", "cp314-cp314t-manylinux_x86_64"),
        ("pychrony-1-cp315-abi3t-manylinux_2_28_x86_64.whl", "cp315-abi3t-manylinux_x86_64"),
        ("pychrony-1-cp310-abi3-linux_x86_64.whl", "cp310-abi3-linux_x86_64"),
    ],
)
def test_a_file_name_says_which_artifact_it_is(name: str, kind: str) -> None:
    assert artifacts.kind_of(name) == kind


def test_only_our_files_have_a_version() -> None:
    assert artifacts.version_of(NAME) == "1.2.3"
    assert artifacts.version_of("other-1.2.3.tar.gz") is None
    assert artifacts.version_of("pychrony.txt") is None


@pytest.mark.parametrize(
    ("name", "size", "complaint"),
    [
        ("pychrony-1.2.4.tar.gz", 0, "is not pychrony 1.2.3"),
        (NAME, 0, "lacks cp310-abi3-manylinux_x86_64"),
        ("pychrony-1.2.3-cp310-abi3-linux_x86_64.whl", 0, "has cp310-abi3-linux_x86_64"),
        ("pychrony-1.2.3-cp310-abi3-linux_x86_64.whl", artifacts.LARGEST_WHEEL + 1, "larger"),
    ],
)
def test_a_release_is_whole(name: str, size: int, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(bytes(size))
    with pytest.raises(ReleaseError, match=complaint):
        artifacts.check(tmp_path, "1.2.3")


# ---- GitHub ----


GitHub = Callable[[str, object], None]


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    """Give `gh api` an answer, by the first word of the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "gh").write_text(f'#!/bin/sh\nset -e\ncat "{folder}/$(echo $2 | cut -d/ -f4)"\n')
    (folder / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")

    def says(path: str, answer: object) -> None:
        (folder / path).write_text(json.dumps(answer))

    return says


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with a commit on origin/main."""
    git(tmp_path, "init", "--quiet", "tree")
    git(tmp_path / "tree", "commit", "--quiet", "--allow-empty", "-m", "first")
    git(tmp_path / "tree", "update-ref", "refs/remotes/origin/main", "HEAD")
    return tmp_path / "tree"


@pytest.mark.parametrize(
    ("event", "conclusion", "said"),
    [
        ("push", "success", ""),
        ("schedule", "success", ""),
        ("push", "failure", "failure"),
        ("push", None, "in_progress"),
        ("pull_request", "success", "it did not run"),
    ],
)
def test_ci_has_to_have_succeeded_on_main(
    event: str, conclusion: str | None, said: str, github: GitHub, tree: Path
) -> None:
    run = {"event": event, "status": "in_progress", "conclusion": conclusion}
    github("actions", {"workflow_runs": [run]})
    words = rf"CI has not succeeded .* \({said}\)"
    with pytest.raises(ReleaseError, match=words) if said else nullcontext():
        release.check_commit(tree)


def test_a_commit_that_is_not_on_main_is_not_released(github: GitHub, tree: Path) -> None:
    git(tree, "commit", "--quiet", "--allow-empty", "-m", "second")
    with pytest.raises(ReleaseError, match="is not on main"):
        release.check_commit(tree)


REVIEWED = {"type": "required_reviewers", "reviewers": [{"type": "User"}]}


@pytest.mark.parametrize(
    ("rules", "enough"),
    [
        ([REVIEWED], True),
        ([{"type": "branch_policy"}, REVIEWED], True),
        ([], False),
        ([{"type": "branch_policy"}], False),
        ([REVIEWED | {"reviewers": []}], False),
    ],
)
def test_pypi_has_to_wait_for_a_reviewer(rules: list[object], enough: bool, github: GitHub) -> None:
    github("environments", {"protection_rules": rules})
    words = "Settings > Environments > pypi > Required reviewers"
    with nullcontext() if enough else pytest.raises(ReleaseError, match=words):
        release.check_reviewer()


def test_an_environment_that_is_missing_is_named(github: GitHub) -> None:
    with pytest.raises(ReleaseError, match=r"environments/pypi .* see 'Once'"):
        release.check_reviewer()


# ---- Indexes ----


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that an index named `testpypi` serves: the JSON of 1.2.3 is in it."""
    root = tmp_path / "index"
    folder = root / "pypi/pychrony/1.2.3"
    folder.mkdir(parents=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/legacy/"
        pypirc = "[distutils]\nindex-servers = testpypi\n[testpypi]\nrepository = "
        (tmp_path / ".pypirc").write_text(pypirc + address)
        monkeypatch.setenv("HOME", str(tmp_path))
        yield folder
        server.shutdown()


def put(folder: Path, **files: str) -> None:
    """Let the index list files of these hashes; `sdist` is one of this project."""
    names = {"sdist": NAME, "other": "pychrony-1.2.3-py3-none-any.whl"}
    urls = [
        {"filename": names[key], "url": f"/{key}", "digests": {"sha256": digest}}
        for key, digest in files.items()
    ]
    (folder / "json").write_text(json.dumps({"urls": urls}))


def test_an_index_without_the_version_has_no_files(index: Path) -> None:
    assert release.compare("testpypi", "1.2.3", {NAME: "a"}) == {}


def test_files_of_the_release_may_be_there_already(index: Path) -> None:
    put(index, sdist="a")
    assert list(release.compare("testpypi", "1.2.3", {NAME: "a", "more": "b"})) == [NAME]


@pytest.mark.parametrize("files", [{"sdist": "other content"}, {"sdist": "a", "other": "b"}])
def test_a_file_that_the_release_does_not_have_stops_it(files: dict[str, str], index: Path) -> None:
    put(index, **files)
    with pytest.raises(ReleaseError, match=r"other files of pychrony 1.2.3 .* Approve nothing"):
        release.compare("testpypi", "1.2.3", {NAME: "a"})


def test_an_index_that_is_late_is_waited_for(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "PAUSE", 0.01)
    threading.Timer(0.1, lambda: put(index, sdist="a")).start()
    assert list(release.wait_for("testpypi", "1.2.3", {NAME: "a"})) == [NAME]


def test_the_wait_for_an_index_ends(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "LONGEST", 0)
    monkeypatch.setattr(release, "PAUSE", 0.01)
    with pytest.raises(ReleaseError, match=f"does not list {NAME}"):
        release.wait_for("testpypi", "1.2.3", {NAME: "a"})


def test_an_index_that_is_down_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pypirc = Path.home() / ".pypirc"
    pypirc.write_text(re.sub(r":\d+/", ":1/", pypirc.read_text()))
    with pytest.raises(ReleaseError, match=r"testpypi does not answer .* re-run the failed jobs"):
        indexes.files("testpypi", "1.2.3")


def test_an_unknown_index_is_named() -> None:
    with pytest.raises(ReleaseError, match="'elsewhere'"):
        indexes.files("elsewhere", "1.2.3")


def test_an_error_shows_on_the_page_of_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(SystemExit, match="step: 100%"), reported("step"):
        raise ReleaseError("100%\nof it")
    assert capsys.readouterr().out == "::error::100%25%0Aof it\n"
