"""Reads a workflow file for the rehearsal: its jobs and actions; writes copies of parts of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import release
from problems import ReleaseError
from ruamel.yaml import YAML

from rehearse import act
from rehearse.stand_ins import STAND_INS


class Workflow:
    """One file of `.github/workflows`."""

    def __init__(self, path: Path) -> None:
        """Read it, once act has parsed it."""
        act.validate(path)
        self.path = path
        self.jobs: dict[str, Any] = YAML(typ="safe").load(path.read_text())["jobs"]

    def actions(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each use of an action, as `OWNER/NAME@SHA` with its inputs."""
        for job in self.jobs.values():
            if "uses" in job:
                yield job["uses"], job.get("with", {})
            for step in job.get("steps", []):
                if "uses" in step:
                    yield step["uses"], step.get("with", {})

    def require_stand_ins(self) -> None:
        """Stop at an action or input that has no stand-in."""
        for use, inputs in self.actions():
            name = use.partition("@")[0]
            if name not in STAND_INS:
                raise ReleaseError(
                    f"{self.path.name} uses {name}, which has no stand-in in "
                    "tools/rehearse/stand_ins: write one, or the rehearsal would skip it"
                )
            if unknown := sorted(inputs.keys() - STAND_INS[name].inputs.keys()):
                raise ReleaseError(
                    f"{self.path.name} gives {name} the input {unknown[0]!r}, which its stand-in "
                    "in tools/rehearse/stand_ins does not know"
                )

    def timeout(self, job: str) -> float:
        """Return the seconds after which GitHub stops a job."""
        return float(self.jobs[job]["timeout-minutes"]) * 60

    def permits(self, job: str, scope: str) -> str:
        """Return what a job may do with one part of GitHub: `write`, `read` or nothing."""
        return str((self.jobs[job].get("permissions") or {}).get(scope, ""))

    def only(self, jobs: Sequence[str], path: Path) -> Workflow:
        """Write a copy of the file with some of its jobs, as GitHub re-runs a job that failed.

        Each kept line is the file's own. Results of other jobs must already exist.
        """
        head, _, body = self.path.read_text().partition("\njobs:\n")
        parts = re.split(r"^(?=  [\w-]+:\n)", body, flags=re.MULTILINE)
        kept = [part for part in parts if part.strip().partition(":")[0] in jobs]
        text = "".join(self._without_needs(part, jobs) for part in kept)
        path.write_text(f"{head}\njobs:\n{text}")
        return Workflow(path)

    def _without_needs(self, part: str, jobs: Sequence[str]) -> str:
        needed = re.search(r"^    needs: (.*)\n", part, flags=re.MULTILINE)
        if not needed or needed[1] in jobs:
            return part
        if f"needs.{needed[1]}." in part:
            raise ReleaseError(f"a job of {self.path.name} cannot run without {needed[1]}")
        return part.replace(needed[0], "")

    def patience(self, job: str) -> float:
        """Return the longest time in seconds that the steps of a job wait for others."""
        runs = "\n".join(step.get("run", "") for step in self.jobs[job]["steps"])
        calls = re.findall(r"^python tools/release\.py (.*)$", runs, flags=re.MULTILINE)
        words = [re.sub(r'"\$\w+"', "1.0.0", call).split() for call in calls]
        return sum(float(release.parser().parse_args(call).patience) for call in words)

    def runners(self) -> set[str]:
        """Return the labels of the machines that its jobs ask for."""
        return set(re.findall(r"\bubuntu-[\w.-]+", self.path.read_text()))
