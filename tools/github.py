"""Asks GitHub what a release needs: results of CI, who built a file, and the page of the release.

It uses `gh`, which takes the repository and the token from a job's environment.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from artifacts import PROJECT
from packaging.version import Version
from patience import Patience
from problems import ReleaseError

TRUSTED = ("push", "workflow_dispatch")
"""Events whose CI runs count; those of pull requests test a merge, and not the commit."""


def check_ci(commit: str, patience: Patience) -> None:
    """Stop unless CI succeeded for a commit of `main`."""
    runs = f"repos/{repository()}/actions/workflows/ci.yml/runs?head_sha={commit}&branch=main"
    answer = gh("api", runs, patience=patience)
    if answer.returncode:
        raise ReleaseError(
            f"gh api ended with status {answer.returncode}, see above: re-run this job"
        )
    states = {
        run["conclusion"] or run["status"]
        for run in json.loads(answer.stdout)["workflow_runs"]
        if run["event"] in TRUSTED
    }
    if "success" not in states:
        said = " and ".join(sorted(states)) or "it did not run"
        raise ReleaseError(
            f"CI has not succeeded for commit {commit[:12]} on main ({said}): wait for CI and "
            "re-run this job, or delete the tag, fix main, and tag the fixed commit"
        )


def check_attested(paths: Sequence[Path], version: str, patience: Patience) -> None:
    """Stop unless release.yml built all files on GitHub's own machines, for the version's tag."""
    by = [
        *("--repo", repository()),
        *("--signer-workflow", f"{repository()}/.github/workflows/release.yml"),
        *("--source-ref", f"refs/tags/v{version}"),
        "--deny-self-hosted-runners",
    ]
    for path in paths:
        if gh("attestation", "verify", str(path), *by, patience=patience).returncode:
            raise ReleaseError(
                f"{path.name} is not a file that release.yml built for v{version}: do not promote "
                "it. Whoever uploaded it had access to the index; change that first, then release "
                "a new version"
            )


def publish_release(version: str, notes: Path, uploads: Sequence[Path], patience: Patience) -> None:
    """Create the release on GitHub, or complete it."""
    tag = f"v{version}"
    files = [str(path) for path in uploads]
    if gh("release", "view", tag, patience=patience).returncode:
        pre = ["--prerelease"] if Version(version).is_prerelease else []
        title = ["--title", f"{PROJECT} {version}", "--notes-file", str(notes)]
        steps = [["create", tag, "--verify-tag", *title, *pre, *files]]
    else:
        steps = [
            ["edit", tag, "--notes-file", str(notes)],
            ["upload", tag, "--clobber", *files],
        ]
    for step in steps:
        done = gh("release", *step, patience=patience)
        if done.returncode:
            raise ReleaseError(
                f"gh release {step[0]} ended with status {done.returncode}, see above: "
                "re-run this job"
            )


def repository() -> str:
    """Return OWNER/NAME, from the environment of GitHub's jobs."""
    return os.environ["GITHUB_REPOSITORY"]


def gh(*arguments: str, patience: Patience) -> subprocess.CompletedProcess[str]:
    """Run `gh`, and return its output."""
    try:
        return subprocess.run(
            ["gh", *arguments], stdout=subprocess.PIPE, text=True, timeout=patience.left()
        )
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(
            f"GitHub does not answer: gh {' '.join(arguments[:2])} did not end within {patience}; "
            "re-run this job when it does"
        ) from error
