#!/usr/bin/env python3
"""Build the web site in build/site: the manual of main, and that of each release in a folder.

    website.py                the commit of origin/main at the root, v3.1.0 in 3.1.0/, and so on
    website.py --main HEAD    another commit at the root

GitHub Pages replaces the whole site at each deployment, so all of it is built each time, each
version by its own `tools/run docs`. The manuals link to each other. Pre-releases, and tags without
that task, have no manual.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from problems import ReleaseError, reported

ROOT = Path(__file__).resolve().parents[1]
KEPT = 8
"""How many of the newest releases keep their manual; building one takes a minute or two."""
MAIN = "main"
SETTINGS = ("PYCHRONY_ENV", "PYCHRONY_VENV")
"""Variables that would make all versions share the environment of this one."""


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--main", default="origin/main", metavar="COMMIT", help="for the root")
    parser.add_argument("--site", type=Path, default=ROOT / "build/site", metavar="FOLDER")
    options = parser.parse_args()
    with reported("website.py"):
        build(options.main, options.site, ROOT)
        print(f"the site: {options.site / 'index.html'}")


def build(main: str, site: Path, repository: Path) -> None:
    """Build the manual of each version into its folder of the site."""
    versions = {MAIN: main, **{tag.removeprefix("v"): tag for tag in releases(repository)}}
    shutil.rmtree(site, ignore_errors=True)
    for version, commit in versions.items():
        print(f"the manual of {version}", flush=True)
        build_manual(commit, folder(version, site), links(version, list(versions)), repository)


def releases(repository: Path) -> list[str]:
    """Return the tags of the final releases that have a manual, the newest first."""
    tags = git(repository, "tag", "--list", "v*").split()
    numbers = {tag: re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", tag) for tag in tags}
    final = {tag: tuple(map(int, match.groups())) for tag, match in numbers.items() if match}
    newest = sorted(final, key=lambda tag: final[tag], reverse=True)
    return [tag for tag in newest if has_manual(repository, tag)][:KEPT]


def has_manual(repository: Path, tag: str) -> bool:
    """Whether the files of a tag can build a manual."""
    command = ["git", "grep", "--quiet", "^task_docs()", tag, "--", "tools/run"]
    return subprocess.run(command, cwd=repository).returncode == 0


def folder(version: str, site: Path) -> Path:
    """Return the folder of a version's manual."""
    return site if version == MAIN else site / version


def links(version: str, versions: Sequence[str]) -> dict[str, str]:
    """Return the links to the other manuals, relative to the root of this one."""
    up = "" if version == MAIN else "../"
    return {
        other: f"{up}{'' if other == MAIN else f'{other}/'}index.html"
        for other in versions
        if other != version
    }


def build_manual(commit: str, target: Path, others: Mapping[str, str], repository: Path) -> None:
    """Build the manual of a commit from a separate copy and in a separate environment."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    environment["PYCHRONY_OTHER_MANUALS"] = " ".join(f"{name}={at}" for name, at in others.items())
    with tempfile.TemporaryDirectory(prefix="pychrony-site-") as scratch:
        tree = Path(scratch, "pychrony")
        git(repository, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            done = subprocess.run(["tools/run", "docs"], cwd=tree, env=environment)
            if done.returncode:
                raise ReleaseError(f"building the manual of {commit} failed, see above")
            shutil.copytree(tree / "build/docs/html", target, dirs_exist_ok=True)
        finally:
            git(repository, "worktree", "remove", "--force", str(tree))


def git(repository: Path, *arguments: str) -> str:
    """Run git; return what it prints."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=repository, text=True, capture_output=True)
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
