"""Runs a workflow with `act`, and reads in act's log how each job ended."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from problems import ReleaseError

LONGEST = 1800
"""Seconds after which a run counts as hanging, even on a busy machine."""


@dataclass
class Job:
    """What the log says about one job, or one job of a matrix."""

    id: str
    result: str = "not run"
    times: list[datetime] = field(default_factory=list)


@dataclass
class Run:
    """How a workflow ended."""

    jobs: dict[str, Job] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    output: str = ""

    @property
    def failed(self) -> list[str]:
        """The jobs that failed, by id."""
        return sorted({job.id for job in self.jobs.values() if job.result != "success"})

    def ends_before(self, earlier: str, later: str) -> bool:
        """Whether one job, with all of its matrix, had ended when another began."""
        ends = [max(job.times) for job in self.jobs.values() if job.id == earlier]
        begins = [min(job.times) for job in self.jobs.values() if job.id == later]
        return max(ends) <= min(begins)

    def story(self) -> str:
        """What to show when it ended unexpectedly: each job, the last lines, and the errors."""
        jobs = [f"{name}: {job.result}" for name, job in self.jobs.items()]
        lines = self.output.splitlines()[-40:]
        return "\n".join([*jobs, *lines, *(f"error: {error}" for error in self.errors)])


def run(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Run:
    """Let act run a workflow for a push; `log` gets its output, one JSON object per line."""
    act = shutil.which("act", path=sysconfig.get_path("scripts"))
    if not act:
        raise ReleaseError("the rehearsal needs act: install the dependency group packaging")
    with log.open("wb") as out:
        done = subprocess.run(
            [act, "push", "--json", *arguments],
            env=environment,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LONGEST,
        )
    found = read(log)
    if not found.jobs:
        raise ReleaseError(f"act ran nothing: {done.stderr.strip()}")
    return found


def read(log: Path) -> Run:
    """Parse act's log."""
    found = Run()
    for line in log.read_text().splitlines():
        entry: dict[str, Any] = json.loads(line)
        if "jobID" not in entry:
            continue
        job = found.jobs.setdefault(entry["job"].strip(), Job(entry["jobID"]))
        job.times.append(datetime.fromisoformat(entry["time"].replace("Z", "+00:00")))
        job.result = entry.get("jobResult", job.result)
        if entry.get("command") == "error":
            found.errors.append(entry["arg"])
        if entry.get("raw_output"):
            found.output += entry["msg"]
    return found
