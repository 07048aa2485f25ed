"""Provides what a workflow runs on: indexes, a GitHub, and the environment for act."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import ssl
import sys
import sysconfig
from pathlib import Path
from typing import Any

import trustme
from artifacts import ROOT, files
from patience import VARIABLE as PATIENCE

from rehearse import act, releasing
from rehearse.identity import IdentityProvider
from rehearse.index import Index
from rehearse.origin import Origin, git
from rehearse.stand_ins import STAND_INS, VARIABLE, action
from rehearse.workflow import Workflow

STAND_IN = """\
#!/bin/sh
PYTHONPATH='{tools}' exec '{python}' -m rehearse.stand_ins.{module} "$@"
"""
PROMOTION = ("workflow_dispatch", "refs/heads/main")
"""The event that starts promote.yml, and the branch that a maintainer runs it from."""


class Theatre:
    """What all stages share: the repository, the stand-ins, the certificate, and a cache."""

    def __init__(self, folder: Path, workflows: Path | None = None) -> None:
        """Set it up; `workflows` holds files to play instead of the repository's."""
        self.folder = folder
        self.cache = folder / "cache"
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name, module in {"gh": "gh", "stand-in": "$1"}.items():
            text = STAND_IN.format(tools=ROOT / "tools", python=sys.executable, module=module)
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        self.origin = Origin(folder / "origin", workflows)
        authority = trustme.CA()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.tls)
        self.certificates = folder / "certificates.pem"
        self.certificates.write_bytes(trusted() + authority.cert_pem.bytes())
        self.actions = {name: self.action(name) for name in STAND_INS}

    def action(self, name: str) -> Path:
        """Write an action for act: a git repository with an action.yml."""
        path = self.folder / "actions" / name
        path.mkdir(parents=True)
        (path / "action.yml").write_text(action(name))
        git(path, "init", "--quiet")
        git(path, "add", ".")
        git(path, "commit", "--quiet", "-m", "Stand in")
        return path

    def workflow(self, name: str) -> Workflow:
        """Return a workflow of the repository."""
        workflow = Workflow(self.origin.folder / ".github/workflows" / name)
        workflow.require_stand_ins()
        return workflow


class Stage:
    """Two empty indexes and an empty GitHub, for one run."""

    def __init__(self, theatre: Theatre, name: str) -> None:
        """Start the servers."""
        self.theatre = theatre
        self.folder = theatre.folder / "stages" / re.sub(r"\W+", "-", name)
        self.folder.mkdir(parents=True)
        self.artifacts = self.folder / "artifacts"
        self.artifacts.mkdir()
        self.attestations = self.folder / "attestations"
        self.releases = self.folder / "releases"
        self.token = secrets.token_hex()
        self.identities = IdentityProvider()
        self.indexes = {
            index: Index(index, self.folder / index, theatre.tls, self.identities, publisher)
            for index, publisher in releasing.publishers().items()
        }
        self.runs = 0

    def stop(self) -> None:
        """Stop the servers."""
        for index in self.indexes.values():
            index.stop()
        self.identities.server.stop()

    def play(
        self, name: str, value: str, jobs: list[str] | None = None, patience: float | None = None
    ) -> act.Run:
        """Run release.yml for a tag, or promote.yml for a version as a user gives it."""
        self.runs += 1
        folder = self.folder / f"run{self.runs}"
        folder.mkdir()
        workflow = self.theatre.workflow(name)
        if jobs:
            workflow = workflow.only(jobs, folder / name)
        tagged = name == "release.yml"
        event, ref = ("push", f"refs/tags/{value}") if tagged else PROMOTION
        payload = {"ref": ref} if tagged else {"ref": ref, "inputs": {"version": value}}
        self.identities.workflow, self.identities.ref = workflow, ref
        (folder / "event.json").write_text(json.dumps(payload))
        (folder / "settings.json").write_text(json.dumps(self.settings(workflow)))
        return act.run(
            event,
            [*self.arguments(workflow, folder)],
            self.environment(folder, patience),
            folder / "log.json",
        )

    def settings(self, workflow: Workflow) -> dict[str, Any]:
        """Return the settings of the stand-ins."""
        return {
            "artifacts": str(self.artifacts),
            "attestations": str(self.attestations),
            "bearer": self.identities.bearer,
            "cache": str(self.theatre.cache),
            "ci": self.theatre.origin.ci,
            "identity": self.identities.server.address,
            "jobs": workflow.jobs,
            "origin": str(self.theatre.origin.folder),
            "releases": str(self.releases),
            "token": self.token,
        }

    def arguments(self, workflow: Workflow, folder: Path) -> list[str]:
        """Return act's command line."""
        uses = {use for use, _ in workflow.actions()}
        locals_ = [f"{use}={self.theatre.actions[use.partition('@')[0]]}" for use in sorted(uses)]
        return [
            *("--directory", str(self.theatre.origin.folder)),
            *("--workflows", str(workflow.path)),
            *("--eventpath", str(folder / "event.json")),
            *("--action-cache-path", str(folder / "act")),
            *("--secret", f"GITHUB_TOKEN={self.token}"),
            *(f"--platform={runner}=-self-hosted" for runner in workflow.runners()),
            *(f"--local-repository={local}" for local in locals_),
            "--action-offline-mode",
            "--no-skip-checkout",
            "--no-cache-server",
        ]

    def environment(self, folder: Path, patience: float | None) -> dict[str, str]:
        """Return the environment of act and of all steps, without this project's own tools."""
        scripts = sysconfig.get_path("scripts")
        path = [p for p in os.environ["PATH"].split(os.pathsep) if p != scripts]
        certificates = str(self.theatre.certificates)
        dropped = ("VIRTUAL_ENV", "PYTHONHOME", PATIENCE)
        return {
            **{name: value for name, value in os.environ.items() if name not in dropped},
            **({PATIENCE: str(patience)} if patience is not None else {}),
            "PATH": os.pathsep.join([str(self.theatre.programs), *path]),
            "PYTHONPATH": str(Path(__file__).parent / "stand_ins/python"),
            "PYCHRONY_REHEARSAL_TESTPYPI": self.indexes["testpypi"].upload_url,
            "PYCHRONY_REHEARSAL_PYPI": self.indexes["pypi"].upload_url,
            "SSL_CERT_FILE": certificates,
            "REQUESTS_CA_BUNDLE": certificates,
            "PIP_CERT": certificates,
            VARIABLE: str(folder / "settings.json"),
        }

    def fill(self, index: str, most: int | None = None) -> None:
        """Put files of the release on an index."""
        for path in files(self.artifacts / "release")[:most]:
            shutil.copy(path, self.indexes[index].folder)

    def keep(self, other: Stage) -> None:
        """Start from where another stage stopped: with its artifacts and its attestations."""
        shutil.copytree(other.artifacts, self.artifacts, dirs_exist_ok=True)
        shutil.copytree(other.attestations, self.attestations, dirs_exist_ok=True)


def trusted() -> bytes:
    """Return the certificates that this machine trusts, which pip still needs."""
    known = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    if known and Path(known).is_file():
        return Path(known).read_bytes()
    import certifi

    return Path(certifi.where()).read_bytes()
