"""actions/setup-python: provides the requested versions, the last one as `python`.

Each is a separate environment, the last one with the newest pip. Jobs that request the same version
and install the same packages share it; a job that forgets to install something lacks it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installed import find

from rehearse.stand_ins import append, fail, inputs, job, settings


def main() -> None:
    """Put the environments on PATH."""
    *others, default = inputs()["python-version"].split()
    lines = [line for step in job()["steps"] for line in step.get("run", "").splitlines()]
    installs = [line for line in lines if "pip install" in line]
    for version, content in [*((other, []) for other in others), (default, installs)]:
        key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
        folder = Path(settings()["cache"], "pythons", version, key)
        with locked(folder.with_suffix(".lock")):
            if not (folder / "ready").exists():
                make(folder, version, with_pip=version == default)
        append("GITHUB_PATH", str(folder / "bin"))  # the last one comes first on PATH


def make(folder: Path, version: str, with_pip: bool) -> None:
    """Make a virtual environment of a Python."""
    python = find(version)
    if not python:
        fail(f"there is no Python {version} on this machine: put python{version} on PATH")
    venv = [python, "-m", "venv", "--clear", str(folder)]
    subprocess.run([*venv, *([] if with_pip else ["--without-pip"])], check=True)
    if with_pip:
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--upgrade", "pip"]
        subprocess.run(pip, check=True)
    (folder / "ready").touch()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Prevent others from making the same environment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
