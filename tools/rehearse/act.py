"""Runs a workflow with `act`, and reads in act's log how each job and each step ended."""

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

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (max(self.times) - min(self.times)).total_seconds()


@dataclass
class Run:
    """How a workflow ended."""

    log: Path
    status: int
    said: str
    jobs: dict[str, Job]
    errors: list[str]
    output: str
    waited: float
    """How long the step that failed took, in seconds."""

    @property
    def failed(self) -> list[str]:
        """The jobs that failed, by id."""
        return sorted({job.id for job in self.jobs.values() if job.result != "success"})

    def story(self) -> str:
        """What to show when it ended unexpectedly: its errors, and its last lines."""
        jobs = [f"{name}: {job.result}" for name, job in self.jobs.items()]
        lines = self.output.splitlines()[-40:]
        return "\n".join([*jobs, self.said, *lines, *(f"error: {error}" for error in self.errors)])


def program() -> str:
    """Return where act is, among the tools of this environment."""
    act = shutil.which("act", path=sysconfig.get_path("scripts"))
    if not act:
        raise ReleaseError("the rehearsal needs act: install the dependency group packaging")
    return act


def validate(path: Path) -> None:
    """Stop unless act can parse a workflow."""
    command = [program(), "--validate", "--directory", str(path.parent), "--workflows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"act cannot parse {path.name}:\n{done.stderr.strip()}")


def run(
    event: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
) -> Run:
    """Let act run a workflow; `log` gets its output, one JSON object per line."""
    command = [program(), event, "--json", *arguments]
    with log.open("wb") as out:
        try:
            done = subprocess.run(
                command, env=environment, stdout=out, stderr=subprocess.PIPE, timeout=LONGEST
            )
        except subprocess.TimeoutExpired as error:
            raise ReleaseError(f"act did not end within {LONGEST} s; see {log}") from error
    return read(log, done.returncode, done.stderr.decode())


def read(log: Path, status: int, said: str) -> Run:
    """Parse act's log."""
    jobs: dict[str, Job] = {}
    errors: list[str] = []
    output: list[str] = []
    waited = 0.0
    for line in log.read_text().splitlines():
        entry: dict[str, Any] = json.loads(line)
        if "jobID" not in entry:
            continue
        job = jobs.setdefault(entry["job"].strip(), Job(entry["jobID"]))
        job.times.append(datetime.fromisoformat(entry["time"].replace("Z", "+00:00")))
        job.result = entry.get("jobResult", job.result)
        if entry.get("command") == "error":
            errors.append(entry["arg"])
        if entry.get("stage") == "Main" and entry.get("stepResult") == "failure":
            waited = entry["executionTime"] / 1e9
        if entry.get("raw_output"):
            output.append(entry["msg"])
    return Run(log, status, said.strip(), jobs, errors, "".join(output), waited)
