#!/usr/bin/env python3
"""Run one step of a release; .github/RELEASING.md describes their order.

    release.py check-commit                     the commit is on main, and CI succeeded for it
    release.py check-tag TAG INDEX...           a version, with release notes, that no index has
    release.py sums                             write dist/SHA256SUMS
    release.py publish VERSION INDEX            upload the files of dist/ that the index lacks
    release.py fetch VERSION INDEX              download the index's files into dist/
    release.py attested VERSION                 GitHub attests that release.yml built dist/
    release.py verify VERSION INDEX --python P  install from the index, and try it
    release.py notes VERSION                    print the section of CHANGELOG.md
    release.py github VERSION                   put dist/ and the notes into a release on GitHub

Each step can be run again after a failure, and continues where it stopped. An INDEX has the name
that twine uses: `testpypi`, `pypi`, or a section of the file that --pypirc names. A VERSION may
have the `v` of its tag in front. Needs the dependency group `packaging`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import github
from artifacts import PROJECT, ROOT, SUMS, files, sha256, unpack, version_of_tag, write_sums
from indexes import PYPIRC, Index
from installed import Environment, runs, try_in
from patience import Patience
from problems import ReleaseError, reported

CHANGELOG = ROOT / "CHANGELOG.md"
PATIENCE = 30
"""Seconds that a step waits for an index or for GitHub, unless it signs or uploads files."""
PATIENCE_TO_UPLOAD = 120
"""Seconds for steps that sign or upload files, which takes about a minute."""
Step = Callable[[argparse.Namespace], None]


def main() -> None:
    """Do what the command line says."""
    with reported("release.py"):
        options = parser().parse_args()
        options.patience = Patience(options.patience)
        options.step(options)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--dist", type=Path, default=ROOT / "dist", help="instead of dist/")
    top.add_argument("--pypirc", default=PYPIRC, metavar="FILE", help="twine's configuration")
    commands = top.add_subparsers(metavar="STEP", required=True)

    def step(name: str, function: Step, patience: float = 0) -> argparse.ArgumentParser:
        command = commands.add_parser(name)
        command.set_defaults(step=function, patience=patience)
        return command

    step("check-commit", lambda o: check_commit(ROOT, o.patience), PATIENCE)
    tag = step(
        "check-tag",
        lambda o: print(check_tag(o.tag, [index(o, name) for name in o.index])),
        PATIENCE,
    )
    tag.add_argument("tag")
    tag.add_argument("index", nargs="+")
    step("sums", lambda o: print(write_sums(o.dist).read_text(), end=""))
    publish = step(
        "publish",
        lambda o: index(o).publish(summed(o.dist), o.version, o.attest),
        PATIENCE_TO_UPLOAD,
    )
    publish.add_argument("--attest", action="store_true", help="sign as the job of GitHub")
    fetching = step("fetch", lambda o: fetch(index(o), o.version, o.dist), PATIENCE)
    verifying = step(
        "verify", lambda o: verify(index(o), o.version, o.dist, o.python, o.suite), PATIENCE
    )
    verifying.add_argument("--python", action="append", required=True)
    verifying.add_argument("--suite", action="store_true", help="run all tests, too")
    printing = step("notes", lambda o: print(notes(o.version)))
    releasing = step(
        "github", lambda o: release_on_github(o.version, o.dist, o.patience), PATIENCE_TO_UPLOAD
    )
    attested = step(
        "attested",
        lambda o: github.check_attested(summed(o.dist), o.version, o.patience),
        PATIENCE_TO_UPLOAD,
    )
    for command in (publish, fetching, verifying, printing, releasing, attested):
        command.add_argument("version", type=version_of_tag)
    for command in (publish, fetching, verifying):
        command.add_argument("index")
    return top


def index(options: argparse.Namespace, name: str | None = None) -> Index:
    """Return the index that the command line names."""
    return Index(name or options.index, options.pypirc, options.patience)


def check_commit(tree: Path, patience: Patience) -> None:
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
    github.check_ci(commit, patience)
    print(f"commit {commit[:12]} is on main, and CI succeeded for it")


def check_tag(tag: str, indexes: Sequence[Index]) -> str:
    """Return the version of a tag; stop if it cannot be released."""
    version = version_of_tag(tag)
    if not tag.startswith("v"):
        raise ReleaseError(f"{tag!r} lacks the v: delete the tag, and push v{version}")
    notes(version)
    for source in indexes:
        if there := source.files(version):
            raise ReleaseError(
                f"{source.name} has {PROJECT} {version} already ({len(there)} files). If it was "
                "this run whose upload broke off, re-run its failed jobs instead of all; otherwise "
                "delete the tag, and release the next version"
            )
    return version


def summed(dist: Path) -> list[Path]:
    """Return the files in `dist`; stop unless they match SHA256SUMS."""
    sums = dist / SUMS
    if not sums.is_file():
        raise ReleaseError(f"{sums} is missing: the step before this one writes it")
    expected = {name: digest for digest, name in map(str.split, sums.read_text().splitlines())}
    found = {path.name: sha256(path) for path in files(dist)}
    for name in sorted(expected.keys() | found.keys()):
        is_, should = found.get(name, "missing"), expected.get(name, "missing")
        if is_ != should:
            raise ReleaseError(
                f"{name} in {dist} is {is_}, and {should} in {SUMS}: publish nothing of it; "
                "run the jobs again that made these files"
            )
    if not found:
        raise ReleaseError(f"{dist} is empty: the jobs that build have to run first")
    return files(dist)


def fetch(source: Index, version: str, dist: Path) -> None:
    """Download the index's files; if SHA256SUMS exists, they must match it."""
    source.fetch(version, dist)
    if not (dist / SUMS).is_file():
        write_sums(dist)
    for path in summed(dist):
        print(f"{sha256(path)}  {path.name}")


def verify(
    source: Index, version: str, dist: Path, pythons: Sequence[str], suite: bool = False
) -> None:
    """Install exactly the files in `dist` from an index, on each Python, and try them."""
    paths = summed(dist)
    source.wait_for(paths, version)
    for python in pythons:
        name = next(filter(runs, (python, f"python{python}")), None)
        if name is None:
            raise ReleaseError(f"there is no Python {python!r} here to verify with")
        with tempfile.TemporaryDirectory(prefix="pychrony-verify-") as scratch:
            environment = Environment(Path(scratch), name)
            install(environment, source, version, paths)
            try_installed(environment, version)
            if suite:
                (sdist,) = (path for path in paths if path.name.endswith(".tar.gz"))
                try_in(environment, unpack(sdist, Path(scratch)))


def install(environment: Environment, source: Index, version: str, paths: Sequence[Path]) -> None:
    """Install pychrony from this index, by hash, and its dependencies from pip's default index.

    On Test PyPI, anybody may upload a package with the name of a dependency.
    """
    hashes = " ".join(f"--hash=sha256:{sha256(path)}" for path in paths)
    Path(environment.folder, "requirement.txt").write_text(f"{PROJECT}=={version} {hashes}\n")
    options = [
        "--no-cache-dir",
        "--no-deps",
        "--only-binary",
        PROJECT,
        "--index-url",
        source.simple,
    ]
    brief = ["--timeout", "10", "--retries", "1"]  # the step has already waited for the index
    environment.pip("install", *brief, *options, "--requirement", "requirement.txt")
    environment.pip("install", *brief, f"{PROJECT}=={version}")  # only its dependencies are left


def try_installed(environment: Environment, version: str) -> None:
    """Stop unless pychrony works as it should without chronyd and libchrony."""
    environment.pip("check")
    imported = environment.run("-c", f"import {PROJECT}; print({PROJECT}.__version__)").strip()
    said = environment.run("-m", PROJECT, "--version").strip()
    if imported != version or version not in said:
        raise ReleaseError(
            f"version {version} was installed, but import says {imported!r}, and --version {said!r}"
        )
    print(f"{environment.run('--version').strip()}: {said}", flush=True)


def notes(version: str) -> str:
    """Return the section of CHANGELOG.md about a version."""
    for section in re.split(r"^## ", CHANGELOG.read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        if version in re.split(r"[\s\[\]]+", title) and text.strip():
            return text.strip()
    raise ReleaseError(
        f"{CHANGELOG.name} has no section '## {version}': rename 'Unreleased' to it, commit, "
        "and tag that commit"
    )


def release_on_github(version: str, dist: Path, patience: Patience) -> None:
    """Create the release on GitHub from dist/ and the changelog, or complete it."""
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch, "notes.md")
        text.write_text(notes(version))
        github.publish_release(version, text, [*summed(dist), dist / SUMS], patience)


if __name__ == "__main__":
    main()
