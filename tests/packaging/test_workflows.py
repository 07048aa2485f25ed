"""Tests the workflows that GitHub runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import artifacts
import pytest
from ruamel.yaml import YAML

WORKFLOWS = sorted((artifacts.ROOT / ".github/workflows").glob("*.yml"))
TEXTS = {path.name: path.read_text() for path in WORKFLOWS}
JOBS = {name: YAML(typ="safe").load(text)["jobs"] for name, text in TEXTS.items()}


def test_the_checkers_find_nothing() -> None:
    done = subprocess.run(
        ["tools/run", "workflows"], cwd=artifacts.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("          persist-credentials: false\n", ""),
        ("@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7"),
        ("matrix.build", "matrix.wheel"),
        ("timeout-minutes: 10\n", "\n"),
        ("cooldown:", "cooling:"),
    ],
)
def test_the_checkers_find_something_when_there_is(old: str, new: str, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "tools").mkdir()
    for name in ("run", "setup.sh"):
        (tmp_path / "tools" / name).write_text((artifacts.ROOT / "tools" / name).read_text())
    (tmp_path / ".github/workflows").mkdir(parents=True)
    for name, text in TEXTS.items():
        (tmp_path / ".github/workflows" / name).write_text(text.replace(old, new))
    dependabot = (artifacts.ROOT / ".github/dependabot.yml").read_text()
    (tmp_path / ".github/dependabot.yml").write_text(dependabot.replace(old, new))
    command = ["bash", "tools/run", "workflows"]
    environment = {**os.environ, "PYCHRONY_ENV": "ready"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode != 0


def test_a_release_holds_no_token_and_no_cache() -> None:
    assert "secrets." not in TEXTS["release.yml"]
    assert not re.search(r"(?i)password|cache", TEXTS["release.yml"])
    assert TEXTS["release.yml"].count("id-token: write") == 3


def test_the_table_of_minutes_names_each_job() -> None:
    page = (artifacts.ROOT / ".github/RELEASING.md").read_text()
    minutes = dict(re.findall(r"^\| ([A-Z][^|]+) \| (\d+) \|", page, re.MULTILINE))
    for (title, expected), job in zip(minutes.items(), JOBS["release.yml"].values(), strict=True):
        assert job["name"].startswith(title)
        assert int(expected) < job["timeout-minutes"]


def identifiers(**variables: str) -> set[str]:
    command = [sys.executable, "-m", "cibuildwheel", "--platform=linux"]
    options = [f"--archs={','.join(artifacts.MACHINES)}", "--print-build-identifiers"]
    environment = {**os.environ, **variables}
    listed = subprocess.check_output([*command, *options], cwd=artifacts.ROOT, env=environment)
    return set(listed.decode().split())


def kinds(built: set[str]) -> set[str]:
    pairs = [identifier.split("-", 1) for identifier in built]
    abis = {"cp314t": "cp314-cp314t", "cp315t": "cp315-abi3t"}
    return {f"{abis.get(python, 'cp310-abi3')}-{image}" for python, image in pairs}


def selected(workflow: str) -> set[str]:
    """Return what a workflow builds: CIBW_BUILD in its matrix, or in the `include` of that."""
    matrix = JOBS[workflow]["wheels"]["strategy"]["matrix"]
    assert [runner.endswith("-arm") for runner in matrix["runner"]] == [False, True]
    included = {one["build"]: one["select"] for one in matrix.get("include", []) if "build" in one}
    return set().union(
        *(identifiers(CIBW_BUILD=included.get(build, build)) for build in matrix["build"])
    )


@pytest.mark.parametrize("workflow", ["ci.yml", "release.yml"])
def test_all_that_is_configured_is_built_and_tested(workflow: str) -> None:
    assert selected(workflow) == identifiers()
    assert kinds(identifiers()) == {*artifacts.KINDS} - {"sdist"}


def test_no_job_of_a_matrix_cancels_another() -> None:
    for jobs in JOBS.values():
        for job in jobs.values():
            assert job.get("strategy", {"fail-fast": False})["fail-fast"] is False


def test_each_requirement_is_pinned_by_its_hashes_alone() -> None:
    text = (artifacts.ROOT / ".github/requirements/release.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    for line in lines:  # so no line names an index, such as that of the author's machine
        assert re.fullmatch(r"[\w.-]+==[\w.]+ \\|    --hash=sha256:\w{64}( \\)?", line), line
