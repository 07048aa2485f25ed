"""Makes the repository of a rehearsal: a clone, with a release and other commits to tag."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from artifacts import ROOT
from problems import ReleaseError

VERSION = "999.0.0"
OTHERS = {
    "vlatest": "",  # is no version
    "v999.00": "",  # is one that no file is named after
    "v998.0.0": "",  # has no section in the changelog
    "v997.0.0": "unmerged",
    "v996.0.0": "failed",
    "v995.0.0": "in progress",
    "v994.0.0": "without CI",
}
"""Tags, each on its own commit, and what is wrong with the commit."""


class Origin:
    """The repository, and what CI said about its commits."""

    def __init__(self, folder: Path, workflows: Path | None) -> None:
        """Clone the last commit, and cut the release as a maintainer does."""
        self.folder = folder
        self.ci: list[dict[str, Any]] = []
        git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
        git(folder, "checkout", "--quiet", "-B", "main")
        git(folder, "remote", "set-url", "origin", "https://github.com/arunderwood/pychrony")
        if workflows:
            shutil.copytree(workflows, folder / ".github/workflows", dirs_exist_ok=True)
        self.commit(f"v{VERSION}", section=True)
        for tag, fault in OTHERS.items():
            self.commit(tag, fault, section=bool(fault))

    def commit(self, tag: str, fault: str = "", section: bool = False) -> None:
        """Add a commit to main, tag it, and let CI run."""
        if fault == "unmerged":
            git(self.folder, "checkout", "--quiet", "--detach")
        if section:
            changelog = self.folder / "CHANGELOG.md"
            title = f"## {tag.removeprefix('v')}\n\nA rehearsal.\n\n"
            changelog.write_text(changelog.read_text().replace("## ", f"{title}## ", 1))
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "-m", f"Release {tag}")
        git(self.folder, "tag", tag)
        if fault == "unmerged":
            git(self.folder, "checkout", "--quiet", "main")
        if fault != "without CI":
            self.ci.append(
                {
                    "head_sha": git(self.folder, "rev-parse", tag),
                    "head_branch": "main",
                    "event": "push",
                    "status": "in_progress" if fault == "in progress" else "completed",
                    "conclusion": {"in progress": None, "failed": "failure"}.get(fault, "success"),
                }
            )


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody, and return what it prints."""
    somebody = ["-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost"]
    command = ["git", "-C", str(folder), *somebody, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{shlex.join(command)}: {done.stderr}")
    return done.stdout.strip()
