"""Stands in for `gh`: the commands that a release uses, on the records of the rehearsal."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from rehearse.stand_ins import require_permission, settings

Command = Callable[[argparse.Namespace], None]


def main() -> None:
    """Run the command; argparse refuses unknown ones."""
    if os.environ.get("GH_TOKEN") != settings()["token"]:
        sys.exit("gh: To use GitHub CLI in a GitHub Actions workflow, set the GH_TOKEN")
    # argparse does not support arguments that continue after options, such as the files here.
    options, rest = parser().parse_known_args()
    if any(word.startswith("-") for word in rest) or (rest and options.command not in WITH_FILES):
        sys.exit(f"gh: the stand-in does not know {rest}")
    options.files = [Path(word) for word in rest]
    options.command(options)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="gh", allow_abbrev=False)
    groups = top.add_subparsers(required=True)
    api = groups.add_parser("api")
    api.add_argument("path")
    api.set_defaults(command=ask)
    attestation = groups.add_parser("attestation").add_subparsers(required=True)
    verifying = attestation.add_parser("verify")
    verifying.add_argument("file", type=Path)
    for option in ("--repo", "--signer-workflow", "--source-ref"):
        verifying.add_argument(option)
    verifying.add_argument("--deny-self-hosted-runners", action="store_true")
    verifying.set_defaults(command=verify)
    release = groups.add_parser("release").add_subparsers(required=True)

    def step(name: str, command: Command) -> argparse.ArgumentParser:
        parser = release.add_parser(name)
        parser.add_argument("tag")
        parser.set_defaults(command=command)
        return parser

    step("view", view)
    creating = step("create", create)
    creating.add_argument("--verify-tag", action="store_true")
    creating.add_argument("--prerelease", action="store_true")
    creating.add_argument("--title")
    editing = step("edit", edit)
    uploading = step("upload", upload)
    uploading.add_argument("--clobber", action="store_true")
    for parser in (creating, editing):
        parser.add_argument("--notes-file", type=Path)
    return top


def ask(options: argparse.Namespace) -> None:
    """Print the result of CI for a commit, which the rehearsal decides."""
    require_permission("actions", "read")
    url = urlsplit(options.path)
    query = parse_qs(url.query)
    repository = os.environ["GITHUB_REPOSITORY"]
    if url.path != f"repos/{repository}/actions/workflows/ci.yml/runs":
        sys.exit(f"gh: Not Found (HTTP 404): {url.path}")
    runs = [
        run
        for run in settings()["ci"]
        if run["head_sha"] == query["head_sha"][0] and run["head_branch"] == query["branch"][0]
    ]
    print(json.dumps({"total_count": len(runs), "workflow_runs": runs}))


def verify(options: argparse.Namespace) -> None:
    """Compare the attestation of a file with the options."""
    require_permission("attestations", "read")
    digest = hashlib.sha256(options.file.read_bytes()).hexdigest()
    record = Path(settings()["attestations"], digest)
    if not record.is_file():
        sys.exit(f"Error: HTTP 404: no attestations found for sha256:{digest}")
    claims = json.loads(record.read_text())
    workflow = f"{options.repo}/.github/workflows/{claims['workflow']}"
    if options.repo != os.environ["GITHUB_REPOSITORY"] or options.signer_workflow != workflow:
        sys.exit(f"Error: {options.file.name} was signed by {workflow}")
    if options.source_ref and options.source_ref != claims["ref"]:
        sys.exit(f"Error: {options.file.name} was built from {claims['ref']}")
    if options.deny_self_hosted_runners and claims["runner_environment"] != "github-hosted":
        sys.exit(f"Error: {options.file.name} was built on a {claims['runner_environment']} runner")
    print(f"{options.file.name}: verified")


def folder(tag: str) -> Path:
    """Return where the release of a tag is."""
    return Path(settings()["releases"], tag)


def view(options: argparse.Namespace) -> None:
    """Tell whether there is a release."""
    if not folder(options.tag).is_dir():
        sys.exit("release not found")


def create(options: argparse.Namespace) -> None:
    """Make a release."""
    require_permission("contents", "write")
    if not Path(settings()["origin"], ".git/refs/tags", options.tag).exists():
        sys.exit(f"tag {options.tag} doesn't exist in the repo")
    folder(options.tag).mkdir(parents=True)
    edit(options)
    upload(options)


def edit(options: argparse.Namespace) -> None:
    """Write the notes of a release."""
    require_permission("contents", "write")
    shutil.copyfile(options.notes_file, folder(options.tag) / "NOTES")


def upload(options: argparse.Namespace) -> None:
    """Add files to a release."""
    require_permission("contents", "write")
    for file in options.files:
        shutil.copy(file, folder(options.tag))


WITH_FILES = (create, upload)

if __name__ == "__main__":
    main()
