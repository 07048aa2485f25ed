#!/usr/bin/env python3
"""Do what a release needs in addition to stock actions; .github/RELEASING.md describes the order.

    release.py check TAG                    the tag, its commit and the reviewer allow a release
    release.py notes VERSION                print the section of CHANGELOG.md
    release.py compare VERSION INDEX...     no index has a file that SHA256SUMS does not list
    release.py install VERSION INDEX PYTHON...
                                            install what the index has on each Python, and try it

An INDEX has the name that twine uses: `testpypi` or `pypi`. A VERSION may have the `v` of its tag
in front. SHA256SUMS, in the current folder, lists the files of the release. Needs the packages of
.github/requirements/release.in, and `check` needs `gh`.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import indexes
from artifacts import PROJECT, ROOT, version_of_tag
from installed import Environment, runs
from problems import ReleaseError, reported

CHANGELOG = ROOT / "CHANGELOG.md"
SUMS = "SHA256SUMS"
LONGEST = 600
"""Seconds that an index may take to list what was uploaded."""
PAUSE = 10
"""Seconds between two questions to an index."""
TRUSTED = ("push", "schedule", "workflow_dispatch")
"""Events whose CI runs count; those of pull requests test a merge, and not the commit."""


def main() -> None:
    """Do what the command line says."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = top.add_subparsers(dest="step", metavar="STEP", required=True)
    steps.add_parser("check").add_argument("tag")
    for name in ("notes", "compare", "install"):
        steps.add_parser(name).add_argument("version", type=version_of_tag)
    steps.choices["compare"].add_argument("index", nargs="+")
    steps.choices["install"].add_argument("index")
    steps.choices["install"].add_argument("python", nargs="+")
    with reported("release.py"):
        options = top.parse_args()
        if options.step == "check":
            check(options.tag)
        elif options.step == "notes":
            print(notes(options.version))
        elif options.step == "compare":
            for index in options.index:
                compare(index, options.version, sums())
        else:
            found = wait_for(options.index, options.version, sums())
            for python in options.python:
                install(python, options.version, found)


# ---- Before anything is built ----


def check(tag: str) -> None:
    """Stop unless a tag can be released, and PyPI would be reached only after an approval."""
    version = version_of_tag(tag)
    if not tag.startswith("v"):
        raise ReleaseError(f"{tag!r} lacks the v: delete the tag, and push v{version}")
    notes(version)
    check_commit(ROOT)
    check_reviewer()
    for index in ("testpypi", "pypi"):
        if there := indexes.files(index, version):
            raise ReleaseError(
                f"{index} has {PROJECT} {version} already ({len(there)} files): delete the tag, "
                "and release the next version. To complete an upload that broke off, re-run the "
                "failed jobs of the run that began it, not all of its jobs"
            )
    print(f"{PROJECT} {version} can be released")


def check_commit(tree: Path) -> None:
    """Stop unless the current commit was merged into main, and CI succeeded for it."""
    git = ["git", "-C", str(tree)]
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    merged = subprocess.run([*git, "merge-base", "--is-ancestor", commit, "origin/main"])
    if merged.returncode > 1:
        raise ReleaseError(f"git ended with status {merged.returncode}: it needs the whole history")
    if merged.returncode:
        raise ReleaseError(
            f"commit {commit[:12]} is not on main: delete the tag, merge the commit, and tag it "
            "on main"
        )
    answer = ask_github(f"actions/workflows/ci.yml/runs?head_sha={commit}&branch=main")
    trusted = [run for run in answer["workflow_runs"] if run["event"] in TRUSTED]
    states = {run["conclusion"] or run["status"] for run in trusted}
    if "success" not in states:
        said = " and ".join(sorted(states)) or "it did not run"
        raise ReleaseError(
            f"CI has not succeeded for commit {commit[:12]} on main ({said}): wait for CI and "
            "re-run this job, or delete the tag, fix main, and tag the fixed commit"
        )


def check_reviewer() -> None:
    """Stop unless the environment `pypi` has a required reviewer: without one, nothing waits."""
    rules = ask_github("environments/pypi")["protection_rules"]
    if not any(rule.get("reviewers") for rule in rules if rule["type"] == "required_reviewers"):
        raise ReleaseError(
            "the environment 'pypi' has no required reviewer, so the release would reach PyPI "
            "without an approval: add one in Settings > Environments > pypi > Required reviewers, "
            "and re-run this job"
        )


def ask_github(path: str) -> Any:
    """Return what GitHub's API says about this repository."""
    command = ["gh", "api", f"repos/{os.environ['GITHUB_REPOSITORY']}/{path}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    if done.returncode:
        raise ReleaseError(
            f"GitHub does not tell {path.partition('?')[0]} (see above). If it says 404, it is not "
            "set up: see 'Once' in RELEASING.md; otherwise re-run this job later"
        )
    return json.loads(done.stdout)


def notes(version: str) -> str:
    """Return the section of CHANGELOG.md about a version."""
    for section in re.split(r"^## ", CHANGELOG.read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        if version in re.split(r"[\s\[\]]+", title) and text.strip():
            return text.strip()
    raise ReleaseError(
        f"{CHANGELOG.name} has no section '## {version}': delete the tag, rename 'Unreleased' to "
        "it, commit, and tag that commit"
    )


# ---- Before and after an upload ----


def sums() -> dict[str, str]:
    """Return the hashes of the files of the release, by name."""
    lines = Path(SUMS).read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def compare(index: str, version: str, expected: Mapping[str, str]) -> dict[str, indexes.File]:
    """Return the files that an index has; stop if one of them is not a file of the release.

    An upload skips each file whose name the index has already, whatever is in it.
    """
    found = indexes.files(index, version)
    foreign = sorted(name for name, file in found.items() if file.sha256 != expected.get(name))
    if foreign:
        raise ReleaseError(
            f"{index} has other files of {PROJECT} {version} than this release: "
            f"{', '.join(foreign)}. Approve nothing. If you did not upload them, find out who did; "
            "then release the next version"
        )
    print(f"{index}: {len(found)} of {len(expected)} files of {PROJECT} {version}", flush=True)
    return found


def wait_for(index: str, version: str, expected: Mapping[str, str]) -> dict[str, indexes.File]:
    """Return the files that an index has, as soon as it lists the whole release."""
    end = time.monotonic() + LONGEST
    while (found := compare(index, version, expected)).keys() != expected.keys():
        if time.monotonic() > end:
            missing = ", ".join(sorted(expected.keys() - found.keys()))
            raise ReleaseError(
                f"{index} does not list {missing} after {LONGEST} s: re-run the failed jobs"
            )
        time.sleep(PAUSE)
    return found


def install(python: str, version: str, found: Mapping[str, indexes.File]) -> None:
    """Install a version in a clean environment, from the index's own URLs, and try it.

    pip chooses among the URLs, and checks the hashes. Dependencies come from pip's default index:
    on Test PyPI, anybody may upload a package with the name of one.
    """
    name = next(filter(runs, (python, f"python{python}")), None)
    if name is None:
        raise ReleaseError(f"there is no Python {python!r} here to install on")
    with tempfile.TemporaryDirectory(prefix="pychrony-install-") as scratch:
        environment = Environment(Path(scratch), name)
        links = (
            f'<a href="{html.escape(file.url)}#sha256={file.sha256}">{name}</a>'
            for name, file in found.items()
        )
        Path(scratch, "links.html").write_text("\n".join(links))
        hashes = " ".join(f"--hash=sha256:{file.sha256}" for file in found.values())
        Path(scratch, "requirement.txt").write_text(f"{PROJECT}=={version} {hashes}\n")
        source = ["--no-index", "--find-links", "links.html", "--only-binary", ":all:", "--no-deps"]
        environment.pip("install", "--no-cache-dir", *source, "--requirement", "requirement.txt")
        environment.pip("install", f"{PROJECT}=={version}")  # only its dependencies are left
        environment.pip("check")
        said = environment.run("-m", PROJECT, "--version").strip()
        if said != f"{PROJECT} {version}":
            raise ReleaseError(f"{PROJECT} {version} was installed, but says that it is {said!r}")
        print(f"{environment.run('--version').strip()}: {said}", flush=True)


if __name__ == "__main__":
    main()
