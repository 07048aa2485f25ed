"""Sets up what release.yml runs on: a repository with a release, two indexes, and a GitHub."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sys
import sysconfig
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from artifacts import ROOT, files, produce
from problems import ReleaseError
from ruamel.yaml import YAML

from rehearse import act
from rehearse.stand_ins import ACTIONS, SETTINGS, action, git

VERSION = "999.0.0"
TAG = f"v{VERSION}"
INDEXES = ("testpypi", "pypi")
TOKEN = "the token of a rehearsal"
PROGRAM = """\
#!/bin/sh
PYTHONPATH='{tools}' exec '{python}' -m rehearse.stand_ins {name} "$@"
"""


class Stage:
    """A repository with a release, the stand-ins, two empty indexes, and an empty GitHub."""

    def __init__(self, folder: Path, workflow: Path | None = None) -> None:
        """Set it up; `workflow` is a file to play instead of the repository's."""
        self.folder = folder
        self.origin = folder / "origin"
        for place in ("artifacts", "bin", "home", *INDEXES):
            (folder / place).mkdir(parents=True)
        for name, argument in {"gh": "gh", "cibuildwheel": "cibuildwheel", "stand-in": ""}.items():
            program = folder / "bin" / name
            text = PROGRAM.format(tools=ROOT / "tools", python=sys.executable, name=argument)
            program.write_text(text)
            program.chmod(0o755)
        self.cut_release(workflow)
        self.workflow = self.origin / ".github/workflows/release.yml"
        self.jobs: dict[str, Any] = YAML(typ="safe").load(self.workflow)["jobs"]
        self.wheel = produce(self.origin, folder / "wheel", "--wheel", {})
        self.actions = dict(self.action(use) for use in self.uses())

    def cut_release(self, workflow: Path | None) -> None:
        """Clone the last commit, and cut a release as a maintainer does."""
        git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(self.origin))
        git(self.origin, "checkout", "--quiet", "-B", "main")
        git(self.origin, "remote", "set-url", "origin", "https://github.com/arunderwood/pychrony")
        if workflow:
            shutil.copy(workflow, self.origin / ".github/workflows/release.yml")
        changelog = self.origin / "CHANGELOG.md"
        text = changelog.read_text().replace("## ", f"## {VERSION}\n\nA rehearsal.\n\n## ", 1)
        changelog.write_text(text)
        git(self.origin, "commit", "--quiet", "--all", "-m", f"Release {VERSION}")
        git(self.origin, "tag", TAG)

    def uses(self) -> set[str]:
        """Return the actions in use; stop at an action or an input that has no stand-in."""
        steps = [step for job in self.jobs.values() for step in job["steps"] if "uses" in step]
        for step in steps:
            name = step["uses"].partition("@")[0]
            if name not in ACTIONS:
                raise ReleaseError(f"release.yml uses {name}, which has no stand-in")
            if unknown := step.get("with", {}).keys() - ACTIONS[name].inputs.keys():
                raise ReleaseError(f"the stand-in of {name} does not know the inputs {unknown}")
        return {step["uses"] for step in steps}

    def action(self, use: str) -> tuple[str, Path]:
        """Write the stand-in of an action for act: a git repository with an action.yml."""
        path = self.folder / "actions" / use.partition("@")[0]
        path.mkdir(parents=True)
        (path / "action.yml").write_text(action(use.partition("@")[0]))
        git(path, "init", "--quiet")
        git(path, "add", ".")
        git(path, "commit", "--quiet", "-m", "Stand in")
        return use, path

    def play(self, *, reviewers: bool = True) -> act.Run:
        """Run release.yml for the tag, while the indexes are served."""
        handler = functools.partial(Quiet, directory=str(self.folder))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever).start()
            try:
                self.prepare(f"http://127.0.0.1:{server.server_port}", reviewers)
                return act.run(self.arguments(), self.environment(), self.folder / "log.json")
            finally:
                server.shutdown()

    def prepare(self, address: str, reviewers: bool) -> None:
        """Write the event, twine's configuration, and the settings of the stand-ins."""
        (self.folder / "event.json").write_text(json.dumps({"ref": f"refs/tags/{TAG}"}))
        pypirc = ["[distutils]", "index-servers = pypi testpypi"]
        for index in INDEXES:
            pypirc += [f"[{index}]", f"repository = {address}/{index}/legacy/"]
        (self.folder / "home/.pypirc").write_text("\n".join(pypirc))
        settings = {
            "address": address,
            "jobs": self.jobs,
            "publishers": publishers(),
            "reviewers": reviewers,
            "token": TOKEN,
            "wheel": str(self.wheel),
        }
        (self.folder / "settings.json").write_text(json.dumps(settings))

    def arguments(self) -> list[str]:
        """Return act's command line."""
        runners = set(re.findall(r"\bubuntu-[\w.-]+", self.workflow.read_text()))
        return [
            *("--directory", str(self.origin), "--workflows", str(self.workflow)),
            *("--eventpath", str(self.folder / "event.json")),
            *("--action-cache-path", str(self.folder / "act")),
            *("--secret", f"GITHUB_TOKEN={TOKEN}"),
            *(f"--platform={runner}=-self-hosted" for runner in runners),
            *(f"--local-repository={use}={path}" for use, path in self.actions.items()),
            *("--action-offline-mode", "--no-skip-checkout", "--no-cache-server"),
        ]

    def environment(self) -> dict[str, str]:
        """Return the environment of all steps: without this project's tools, with other indexes."""
        home = Path.home()
        scripts = sysconfig.get_path("scripts")
        path = [p for p in os.environ["PATH"].split(os.pathsep) if p != scripts]
        return {
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "PYENV_ROOT": str(home / ".pyenv"),
            **{k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")},
            "HOME": str(self.folder / "home"),  # where twine looks for .pypirc
            "PATH": os.pathsep.join([str(self.folder / "bin"), *path]),
            SETTINGS: str(self.folder / "settings.json"),
        }

    def published(self, index: str) -> set[str]:
        """Return the names of the files that reached an index."""
        return {path.name for path in files(self.folder / index)}


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, without logging each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def publishers() -> list[list[str]]:
    """Return the trusted publishers that RELEASING.md tells the maintainer to set up."""
    text = (ROOT / ".github/RELEASING.md").read_text()
    rows = re.findall(r"^ *\| ((?:Test )?PyPI) \| `(.+)` \| `(.+)` \|$", text, re.MULTILINE)
    return [[name.replace(" ", "").lower(), *rest] for name, *rest in rows]
