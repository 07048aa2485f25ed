"""Stands in for the actions and programs that exist only on GitHub; README.md describes how.

    python -m rehearse.stand_ins NAME [ARGUMENT...]

An action gets its inputs, with their defaults, as JSON in the variable INPUTS.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

SETTINGS = "PYCHRONY_REHEARSAL"
"""The variable with the path of the settings that the rehearsal writes."""


def main() -> None:
    """Do what the name says."""
    name, *arguments = sys.argv[1:]
    if name in ACTIONS:
        ACTIONS[name].run(json.loads(os.environ["INPUTS"]))
    else:
        {"gh": gh, "cibuildwheel": cibuildwheel}[name](arguments)


def settings(name: str) -> Any:
    """Return one of the settings."""
    return json.loads(Path(os.environ[SETTINGS]).read_text())[name]


def stage(*parts: str) -> Path:
    """Return a path in the folder of this run."""
    return Path(os.environ[SETTINGS]).parent.joinpath(*parts)


def job() -> dict[str, Any]:
    """Return what the workflow says about the job that runs."""
    return dict(settings("jobs")[os.environ["GITHUB_JOB"]])


def require(scope: str, least: str) -> None:
    """Stop as GitHub does if the job lacks a permission."""
    if (job().get("permissions") or {}).get(scope) not in (least, "write"):
        fail(f"the job lacks the permission {scope}: {least}")


def fail(message: str) -> NoReturn:
    """End like an action that failed."""
    print(f"::error::{message}", flush=True)
    raise SystemExit(1)


# ---- Actions ----


def checkout(inputs: dict[str, str]) -> None:
    """Fetch the event's commit to the requested depth."""
    require("contents", "read")
    ref = os.environ["GITHUB_REF"]
    here = Path.cwd()
    git(here, "init", "--quiet", "--initial-branch=main")
    git(here, "remote", "add", "origin", f"file://{stage('origin')}")
    if inputs["fetch-depth"] == "0":
        every = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
        git(here, "fetch", "--quiet", "origin", *every)
        git(here, "checkout", "--quiet", "--detach", ref)
    else:
        depth = f"--depth={inputs['fetch-depth']}"
        git(here, "fetch", "--quiet", "--no-tags", depth, "origin", ref)
        git(here, "checkout", "--quiet", "--detach", "FETCH_HEAD")


def git(folder: Path, *arguments: str) -> None:
    """Run git as somebody."""
    somebody = ["-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost"]
    subprocess.run(["git", "-C", str(folder), *somebody, *arguments], check=True)


def setup_python(inputs: dict[str, str]) -> None:
    """Provide an environment of each requested version, which all jobs share."""
    from installed import find

    bins = [stage("cache", v, "bin") for v in inputs["python-version"].split()]
    for folder in bins:
        if not folder.exists():
            version = folder.parent.name
            python = find(version) or fail(f"there is no Python {version} here: put it on PATH")
            subprocess.run([python, "-m", "venv", str(folder.parent)], check=True)
    with Path(os.environ["GITHUB_PATH"]).open("a") as file:  # the last line comes first
        for folder in [*bins, Path(shutil.which("stand-in") or "").parent]:
            file.write(f"{folder}\n")


def upload_artifact(inputs: dict[str, str]) -> None:
    """Store files, with their paths below the folder that all of them share."""
    found: list[Path] = []
    for line in inputs["path"].splitlines():
        paths = Path(line).rglob("*") if Path(line).is_dir() else Path().glob(line)
        found += [path for path in paths if path.is_file()]
    if not found:
        fail(f"No files were found with the provided path: {inputs['path']}")
    root = Path(os.path.commonpath([path.absolute().parent for path in found]))
    target = stage("artifacts", inputs["name"])
    if target.exists():
        fail(f"an artifact with the name {inputs['name']} already exists")
    for path in found:
        (target / path.absolute().relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target / path.absolute().relative_to(root))


def download_artifact(inputs: dict[str, str]) -> None:
    """Copy one artifact, or all that match, into one folder."""
    wanted = inputs["name"] or inputs["pattern"]
    found = [path for path in stage("artifacts").iterdir() if fnmatch(path.name, wanted)]
    if not found:
        fail(f"Artifact not found for name: {wanted}")
    for path in found:
        shutil.copytree(path, inputs["path"], dirs_exist_ok=True)


def attest(inputs: dict[str, str]) -> None:
    """Read the checksums, with the permissions that the attestation needs."""
    require("attestations", "write")
    require("id-token", "write")
    lines = Path(inputs["subject-checksums"]).read_text().splitlines()
    stage("attested").write_text("\n".join(sorted(line.split()[1] for line in lines)))


def publish(inputs: dict[str, str]) -> None:
    """Take files as the index of the job does: from its trusted publisher alone."""
    from twine.utils import TEST_REPOSITORY

    indexes = {"": "pypi", TEST_REPOSITORY: "testpypi"}
    index = indexes.get(inputs["repository-url"]) or fail(f"unknown index {inputs}")
    if job().get("permissions") != {"id-token": "write"}:
        fail("the job that publishes needs the permission id-token: write, and no other")
    if [index, "release.yml", job().get("environment")] not in settings("publishers"):
        fail(f"invalid-publisher: {index} trusts another workflow or environment")
    if index == "pypi" and not stage("asked-for-reviewer").exists():
        fail("nobody has looked whether PyPI waits for a reviewer")
    if (inputs["attestations"] == "true") != (index == "pypi"):
        fail(f"attestations: {inputs['attestations']} for {index}")
    listed = []
    for path in sorted(Path(inputs["packages-dir"]).iterdir()):
        if path.suffix not in (".whl", ".gz"):
            fail(f"Unknown distribution format: '{path.name}'")
        shutil.copy(path, stage(index))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        url = f"{settings('address')}/{index}/{path.name}"
        listed.append({"filename": path.name, "url": url, "digests": {"sha256": digest}})
    version = os.environ["GITHUB_REF_NAME"].removeprefix("v")
    answer = stage(index, "pypi", "pychrony", version, "json")
    answer.parent.mkdir(parents=True)
    answer.write_text(json.dumps({"urls": listed}))


class Action(NamedTuple):
    """A function for an action, and the inputs that it knows, with GitHub's defaults."""

    run: Callable[[dict[str, str]], None]
    known: str

    @property
    def inputs(self) -> dict[str, str]:
        """The inputs, as a table."""
        return dict(pair.split("=") for pair in self.known.split())


ARTIFACT = "name=artifact path= if-no-files-found=warn overwrite=false"
INDEX = "repository-url= packages-dir=dist attestations=true skip-existing=false"
ACTIONS = {
    "actions/checkout": Action(checkout, "fetch-depth=1 fetch-tags=false persist-credentials=true"),
    "actions/setup-python": Action(setup_python, "python-version="),
    "actions/upload-artifact": Action(upload_artifact, ARTIFACT),
    "actions/download-artifact": Action(
        download_artifact, "name= pattern=* path=. merge-multiple=false"
    ),
    "actions/attest": Action(attest, "subject-checksums="),
    "pypa/gh-action-pypi-publish": Action(publish, INDEX),
}


def action(name: str) -> str:
    """Return an action.yml that calls a stand-in."""
    inputs = {key: {"description": key, "default": v} for key, v in ACTIONS[name].inputs.items()}
    step = {
        "shell": "bash",
        "run": f"stand-in {name}",
        "env": {"INPUTS": "${{ toJSON(inputs) }}"},
    }
    whole = {"name": name, "description": f"Stands in for {name}", "inputs": inputs}
    return json.dumps({**whole, "runs": {"using": "composite", "steps": [step]}})


# ---- Programs ----


def gh(arguments: list[str]) -> None:
    """Answer the commands that a release uses, and refuse all others."""
    if os.environ.get("GH_TOKEN") != settings("token"):
        sys.exit("gh: To use GitHub CLI in a GitHub Actions workflow, set the GH_TOKEN")
    if arguments[0] == "api":
        require("actions", "read")
        path = arguments[1].removeprefix(f"repos/{os.environ['GITHUB_REPOSITORY']}/")
        head = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
        run = {"event": "push", "status": "completed", "conclusion": "success"}
        rule = {"type": "required_reviewers", "reviewers": [{"type": "User"}]}
        answers = {
            f"actions/workflows/ci.yml/runs?head_sha={head}&branch=main": {"workflow_runs": [run]},
            "environments/pypi": {"protection_rules": [rule] if settings("reviewers") else []},
        }
        if path == "environments/pypi":
            stage("asked-for-reviewer").touch()
        print(json.dumps(answers[path]))
    elif arguments[:2] == ["release", "view"]:
        sys.exit("release not found")
    elif arguments[:2] == ["release", "create"]:
        require("contents", "write")
        stage("release").write_text(" ".join(arguments[2:]))
    elif arguments == ["workflow", "run", "docs.yml", "--ref", "main"]:
        require("actions", "write")
        stage("docs").touch()
    else:
        sys.exit(f"gh: the stand-in does not know {arguments}")


def cibuildwheel(arguments: list[str]) -> None:
    """Let cibuildwheel select the builds; for each, copy the rehearsal's wheel to its name."""
    sdist, option, output = arguments
    if option != "--output-dir" or not Path(sdist).is_file():
        fail(f"there is no sdist {sdist}")
    from artifacts import unpack

    tree = unpack(Path(sdist), Path("unpacked"))
    command = ["python", "-m", "cibuildwheel", "--platform=linux", "--print-build-identifiers"]
    listed = subprocess.run([*command, str(tree)], stdout=subprocess.PIPE, text=True, check=True)
    wheel = Path(settings("wheel"))
    Path(output).mkdir()
    for identifier in listed.stdout.split():
        python, _, image = identifier.partition("-")
        tags = {"cp314t": "cp314-cp314t", "cp315t": "cp315-abi3t"}.get(python, "cp310-abi3")
        libc, _, machine = image.partition("_")
        platform = {"manylinux": "manylinux_2_28", "musllinux": "musllinux_1_2"}[libc]
        name = "-".join([*wheel.name.split("-")[:2], tags, f"{platform}_{machine}.whl"])
        shutil.copy(wheel, Path(output, name))


if __name__ == "__main__":
    main()
