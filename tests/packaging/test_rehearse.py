"""Tests that the rehearsal fails where it must, and covers everything in RELEASING.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import artifacts
import pytest
from problems import ReleaseError
from rehearse import releasing
from rehearse.failures import FAILURES
from rehearse.workflow import Workflow

WORKFLOWS = artifacts.ROOT / ".github/workflows"
PREPARATION = 60
"""Seconds that a job may take for checkout, Python and pip before it waits for others."""
CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WORKFLOWS, tmp_path / "workflows"))


def change(workflow: Path, old: str, new: str) -> Path:
    text = workflow.read_text()
    assert old in text
    workflow.write_text(text.replace(old, new))
    return workflow


def rehearse(workflows: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rehearse", "--workflows", str(workflows)]
    environment = {**os.environ, "PYTHONPATH": str(artifacts.ROOT / "tools")}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_each_message_that_is_explained_is_rehearsed() -> None:
    assert {failure.says for failure in FAILURES} == set(releasing.messages())


def test_each_job_has_time_for_its_message() -> None:
    waiting = 0
    for name in ("release.yml", "promote.yml"):
        workflow = Workflow(WORKFLOWS / name)
        for job in workflow.jobs:
            patience = workflow.patience(job)
            waiting += patience > 0
            assert not patience or patience + PREPARATION <= workflow.timeout(job), job
    assert waiting > 6


def test_a_workflow_that_loses_the_tag_fails(copy: Path) -> None:
    change(copy / "release.yml", '"$TAG"', '"$TGA"')
    done = rehearse(copy)
    assert done.returncode == 1
    assert "release.yml failed" in done.stderr
    assert "'' is no version" in done.stderr


def test_an_action_without_a_stand_in_is_named(copy: Path) -> None:
    change(copy / "release.yml", CHECKOUT, CHECKOUT.replace("checkout", "cache"))
    done = rehearse(copy)
    assert done.returncode == 1
    assert "release.yml uses actions/cache, which has no stand-in" in done.stderr


def test_an_input_that_no_stand_in_knows_is_named(copy: Path) -> None:
    change(copy / "release.yml", "fetch-tags: true", "fetch-tags: true\n          lfs: true")
    with pytest.raises(ReleaseError, match="actions/checkout the input 'lfs'"):
        Workflow(copy / "release.yml").require_stand_ins()


@pytest.mark.parametrize(("old", "new"), [("runs-on:", "runs-in:"), ("jobs:\n", "jobs:\n ]")])
def test_a_workflow_that_act_cannot_parse_is_named(copy: Path, old: str, new: str) -> None:
    change(copy / "release.yml", old, new)
    done = rehearse(copy)
    assert done.returncode == 1
    assert "act cannot parse release.yml" in done.stderr


def test_a_job_that_is_run_again_is_the_files_own(tmp_path: Path) -> None:
    whole = (WORKFLOWS / "release.yml").read_text()
    part = Workflow(WORKFLOWS / "release.yml").only(["publish"], tmp_path / "release.yml")
    assert set(part.jobs) == {"publish"}
    kept = part.path.read_text().splitlines()
    assert set(kept) < set(whole.splitlines())
    assert "    needs: collect" not in kept
    with pytest.raises(ReleaseError, match="cannot run without sdist"):
        Workflow(WORKFLOWS / "release.yml").only(["wheels"], tmp_path / "release.yml")
