"""Tests the parts of a release that the rehearsal does not cover."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import artifacts
import github
import indexes
import pytest
import release
from patience import Patience
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
    ("upload", "simple"),
    [
        ("https://upload.index.example/legacy/", "https://index.example/simple/"),
        ("https://test.index.example/legacy/", "https://test.index.example/simple/"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/simple/"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/simple/"),
    ],
)
def test_an_index_is_read_beside_where_it_takes_uploads(upload: str, simple: str) -> None:
    assert indexes.simple_address(upload) == simple


@pytest.mark.parametrize("name", ["pypi", "testpypi"])
def test_the_known_indexes_need_no_configuration(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    address = indexes.Index(name, indexes.PYPIRC, Patience(1)).simple
    assert address.startswith("https://")
    assert "upload" not in address


def test_an_unknown_index_is_named() -> None:
    with pytest.raises(ReleaseError, match="'elsewhere'"):
        indexes.Index("elsewhere", indexes.PYPIRC, Patience(1))


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
    ("name", "complaint"),
    [
        ("pychrony-1.2.4.tar.gz", "is not pychrony 1.2.3"),
        (NAME, "lacks cp310-abi3-manylinux_x86_64"),
    ],
)
def test_a_release_is_whole(name: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ReleaseError, match=complaint):
        artifacts.check(tmp_path, "1.2.3")


@pytest.mark.parametrize("version", ["1.2.3", "v1.2.3"])
def test_files_are_checked_for_a_version_or_its_tag(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["artifacts.py", "--dist", str(tmp_path), "check", version])
    with pytest.raises(SystemExit, match="lacks cp310-abi3-manylinux_x86_64"):
        artifacts.main()


def test_a_wheel_that_was_not_repaired_is_not_released(tmp_path: Path) -> None:
    (tmp_path / "pychrony-1.2.3-cp310-abi3-linux_x86_64.whl").write_bytes(b"")
    with pytest.raises(ReleaseError, match="has cp310-abi3-linux_x86_64"):
        artifacts.check(tmp_path, "1.2.3", without=["*"])


def test_a_large_wheel_is_not_released(tmp_path: Path) -> None:
    (tmp_path / "pychrony-1.2.3-cp310-abi3-linux_x86_64.whl").write_bytes(
        bytes(artifacts.LARGEST_WHEEL + 1)
    )
    with pytest.raises(ReleaseError, match="larger"):
        artifacts.check(tmp_path, "1.2.3", without=["*"])


def test_files_that_changed_since_they_were_summed_are_not_published(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="SHA256SUMS is missing"):
        release.summed(tmp_path)
    (tmp_path / NAME).write_bytes(b"one")
    artifacts.write_sums(tmp_path)
    assert release.summed(tmp_path) == [tmp_path / NAME]
    (tmp_path / NAME).write_bytes(b"two")
    with pytest.raises(ReleaseError, match="publish nothing of it"):
        release.summed(tmp_path)
    (tmp_path / NAME).unlink()
    with pytest.raises(ReleaseError, match=r"is missing, and .* in SHA256SUMS"):
        release.summed(tmp_path)


class Pages(http.server.BaseHTTPRequestHandler):
    """An index with one sdist, which first fails `failures` times."""

    failures: list[int]
    content = b"sdist"
    listed = hashlib.sha256(content).hexdigest()

    def do_GET(self) -> None:
        if self.failures:
            self.send_error(self.failures.pop())
            return
        page = f'<a href="/files/{NAME}#sha256={self.listed}">{NAME}</a><a href="/else.zip">-</a>'
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.content if self.path.startswith("/files") else page.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def pages() -> Iterator[tuple[type[Pages], str]]:
    class Own(Pages):
        failures: list[int] = []  # noqa: RUF012

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Own, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def index_at(address: str, folder: Path, patience: float = 10) -> indexes.Index:
    pypirc = folder / "pypirc"
    pypirc.write_text(f"[distutils]\nindex-servers = own\n[own]\nrepository = {address}\n")
    return indexes.Index("own", str(pypirc), Patience(patience))


def test_a_disturbed_index_is_asked_again(pages: tuple[type[Pages], str], tmp_path: Path) -> None:
    pages[0].failures = [503, 502]
    assert list(index_at(pages[1], tmp_path).files("1.2.3")) == [NAME]


def test_an_index_without_the_project_has_no_files(
    pages: tuple[type[Pages], str], tmp_path: Path
) -> None:
    pages[0].failures = [404]
    assert index_at(pages[1], tmp_path).files("1.2.3") == {}


def test_fetching_goes_on_where_it_stopped(pages: tuple[type[Pages], str], tmp_path: Path) -> None:
    index = index_at(pages[1], tmp_path)
    (path,) = index.fetch("1.2.3", tmp_path / "dist")
    before = path.stat().st_mtime_ns
    assert index.fetch("1.2.3", tmp_path / "dist") == [path]
    assert path.stat().st_mtime_ns == before
    assert path.read_bytes() == Pages.content


def test_a_file_that_is_not_what_the_index_lists_is_not_kept(
    pages: tuple[type[Pages], str], tmp_path: Path
) -> None:
    pages[0].content = b"something else"
    with pytest.raises(ReleaseError, match="gave another"):
        index_at(pages[1], tmp_path).fetch("1.2.3", tmp_path / "dist")
    assert not (tmp_path / "dist" / NAME).exists()


def test_an_index_with_a_file_of_another_build_is_left_alone(
    pages: tuple[type[Pages], str], tmp_path: Path
) -> None:
    wheel = tmp_path / "pychrony-1.2.3-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    with pytest.raises(ReleaseError, match="not among these"):
        index_at(pages[1], tmp_path).publish([wheel], "1.2.3")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `gh` that writes down its arguments, and fails for those that a file names."""
    log = tmp_path / "gh.log"
    program = tmp_path / "bin/gh"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{log}\ncase "$1 $2" in $(cat {tmp_path}/fails)) exit 1;; esac\n'
    )
    program.chmod(0o755)
    (tmp_path / "fails").write_text("release view")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")
    (tmp_path / NAME).write_bytes(b"sdist")
    artifacts.write_sums(tmp_path)
    return log


def test_a_release_on_github_is_made_from_tag_and_notes(
    hub: Path, tmp_path: Path, changelog: Path
) -> None:
    release.release_on_github("1.2.3", tmp_path, Patience(10))
    _view, create = hub.read_text().splitlines()
    assert create.startswith("release create v1.2.3 --verify-tag --title pychrony 1.2.3 ")
    assert create.endswith(f"{tmp_path / NAME} {tmp_path / 'SHA256SUMS'}")


def test_a_release_on_github_is_completed(hub: Path, tmp_path: Path, changelog: Path) -> None:
    (tmp_path / "fails").write_text("nothing")
    release.release_on_github("1.2.3", tmp_path, Patience(10))
    assert [line.split()[1] for line in hub.read_text().splitlines()] == [
        "view",
        "edit",
        "upload",
    ]


def test_files_of_another_origin_are_not_promoted(hub: Path, tmp_path: Path) -> None:
    github.check_attested([tmp_path / NAME], "1.2.3", Patience(10))
    assert hub.read_text() == (
        f"attestation verify {tmp_path / NAME} --repo owner/name "
        "--signer-workflow owner/name/.github/workflows/release.yml "
        "--source-ref refs/tags/v1.2.3 --deny-self-hosted-runners\n"
    )
    (tmp_path / "fails").write_text("attestation verify")
    with pytest.raises(ReleaseError, match="do not promote it"):
        github.check_attested([tmp_path / NAME], "1.2.3", Patience(10))


def test_github_that_never_answers_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gh").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")
    with pytest.raises(ReleaseError, match=r"GitHub does not answer: gh api .* within 0.3 s"):
        github.check_ci("0" * 40, Patience(0.3))


@pytest.mark.parametrize(
    ("event", "conclusion", "said"),
    [
        ("push", "success", ""),
        ("workflow_dispatch", "success", ""),
        ("push", "failure", "failure"),
        ("push", None, "in_progress"),
        ("pull_request", "success", "it did not run"),
    ],
)
def test_ci_has_to_have_succeeded_on_main(
    event: str,
    conclusion: str | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = {"event": event, "status": "in_progress", "conclusion": conclusion}
    (tmp_path / "answer").write_text(json.dumps({"workflow_runs": [run]}))
    (tmp_path / "gh").write_text(f"#!/bin/sh\ncat {tmp_path}/answer\n")
    (tmp_path / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")
    if not said:
        github.check_ci("0" * 40, Patience(10))
        return
    with pytest.raises(ReleaseError, match=rf"CI has not succeeded .* \({said}\)"):
        github.check_ci("0" * 40, Patience(10))


def test_an_error_shows_on_the_page_of_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(SystemExit, match="step: 100%"), reported("step"):
        raise ReleaseError("100%\nof it")
    assert capsys.readouterr().out == "::error::100%25%0Aof it\n"
