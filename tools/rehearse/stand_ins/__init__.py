"""Stands in for the actions and programs that exist only on GitHub; README.md describes how."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

VARIABLE = "PYCHRONY_REHEARSAL"
"""The variable with the path of the stand-ins' settings."""


@dataclass(frozen=True)
class StandIn:
    """A program for an action: its module in this folder, and the inputs with their defaults."""

    module: str
    inputs: dict[str, str]


STAND_INS = {
    "actions/checkout": StandIn(
        "checkout", {"fetch-depth": "1", "fetch-tags": "false", "persist-credentials": "true"}
    ),
    "actions/setup-python": StandIn("setup_python", {"python-version": ""}),
    "actions/upload-artifact": StandIn(
        "upload_artifact",
        {"name": "artifact", "path": "", "if-no-files-found": "warn", "overwrite": "false"},
    ),
    "actions/download-artifact": StandIn(
        "download_artifact", {"name": "", "pattern": "", "path": ".", "merge-multiple": "false"}
    ),
    "actions/attest": StandIn("attest", {"subject-checksums": ""}),
    "pypa/cibuildwheel": StandIn("cibuildwheel", {"package-dir": ".", "output-dir": "wheelhouse"}),
}

ACTION = """\
name: {module}
description: Stands in for {name}
inputs: {inputs}
runs:
  using: composite
  steps:
    - shell: bash
      run: stand-in {module}
      env:
        INPUTS: ${{{{ toJSON(inputs) }}}}
"""


def action(name: str) -> str:
    """Return the action.yml that calls the stand-in for an action."""
    stand_in = STAND_INS[name]
    inputs = {key: {"description": key, "default": value} for key, value in stand_in.inputs.items()}
    return ACTION.format(module=stand_in.module, name=name, inputs=json.dumps(inputs))


def inputs() -> dict[str, str]:
    """Return what the workflow gives this action, with the defaults."""
    return dict(json.loads(os.environ["INPUTS"]))


def settings() -> dict[str, Any]:
    """Return what the rehearsal tells its stand-ins."""
    return dict(json.loads(Path(os.environ[VARIABLE]).read_text()))


def job() -> dict[str, Any]:
    """Return what the workflow says about the job that runs."""
    return dict(settings()["jobs"][os.environ["GITHUB_JOB"]])


def require_permission(scope: str, least: str) -> None:
    """Stop as GitHub does if the job lacks a permission."""
    given = (job().get("permissions") or {}).get(scope)
    if given not in (least, "write"):
        fail(f"the job lacks the permission {scope}: {least}")


def identity(audience: str) -> str:
    """Ask GitHub's identity provider who this job is."""
    url = f"{os.environ['ACTIONS_ID_TOKEN_REQUEST_URL']}?audience={audience}"
    bearer = f"bearer {os.environ['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"
    try:
        request = urllib.request.Request(url, headers={"Authorization": bearer})
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(json.load(response)["value"])
    except OSError as error:
        fail(f"GitHub gave no identity: {error}; the job needs the permission id-token: write")


def claims(token: str) -> dict[str, Any]:
    """Return the claims of a JSON Web Token."""
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "==")))


def append(variable: str, line: str) -> None:
    """Add a line to one of the files that GitHub's runner reads after a step."""
    with Path(os.environ[variable]).open("a") as file:
        file.write(f"{line}\n")


def fail(message: str) -> NoReturn:
    """End like an action that failed."""
    print(f"::error::{message}", flush=True)
    raise SystemExit(1)
