"""Lists, downloads and uploads the files of this project on a package index.

An index has the name that twine uses: `testpypi`, `pypi`, or a section of a .pypirc.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urldefrag, urljoin

from artifacts import PROJECT, sha256, version_of
from patience import Patience
from problems import ReleaseError

PYPIRC = "~/.pypirc"


class Entry(NamedTuple):
    """One file, as the index lists it."""

    url: str
    sha256: str


class Links(HTMLParser):
    """The files on a project's page; their hashes follow a `#`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.page = page
        self.entries: dict[str, Entry] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the target of a link."""
        target = dict(attrs).get("href") if tag == "a" else None
        if target:
            url, fragment = urldefrag(urljoin(self.page, target))
            digest = fragment.removeprefix("sha256=")
            self.entries[url.rpartition("/")[2]] = Entry(url, digest)


class Index:
    """The files of this project on one index."""

    def __init__(self, name: str, pypirc: str, patience: Patience) -> None:
        """Resolve the name as twine does."""
        self.name = name
        self.pypirc = pypirc
        self.patience = patience
        self.simple = simple_address(upload_address(name, pypirc))

    def files(self, version: str) -> dict[str, Entry]:
        """Return the index's files of a version, by name."""
        page = f"{self.simple}{PROJECT}/"
        try:
            links = Links(page)
            links.feed(self._download(page).decode())
        except FileNotFoundError:  # the first release of the project there
            return {}
        return {name: e for name, e in links.entries.items() if version_of(name) == version}

    def fetch(self, version: str, folder: Path) -> list[Path]:
        """Download all files of a version, except those that are there already."""
        listed = self.files(version)
        if not listed:
            raise ReleaseError(
                f"{self.name} has no {PROJECT} {version}: check the version; "
                "it gets there when release.yml has run for its tag"
            )
        folder.mkdir(parents=True, exist_ok=True)
        return [self._fetch_file(folder / name, entry) for name, entry in listed.items()]

    def publish(self, files: Sequence[Path], version: str, attest: bool = False) -> None:
        """Upload the files that the index does not have yet, and wait until it lists them all."""
        missing = self._missing(files, version)
        for path in sorted(set(files) - set(missing)):
            print(f"{self.name} has {path.name} already, with the same hash")
        if missing:
            self._upload(missing, attest)
            self.wait_for(files, version)
        print(f"{self.name} has all {len(files)} files of {PROJECT} {version}")

    def wait_for(self, files: Sequence[Path], version: str) -> None:
        """Wait until the index lists the files: it may take a while after an upload."""
        while missing := self._missing(files, version):
            if not self.patience.lasts(pause := 2):
                raise ReleaseError(
                    f"{self.name} does not list {names(missing)} within {self.patience}: re-run "
                    "this job if the index took the files, else the one that publishes them"
                )
            time.sleep(pause)

    def _missing(self, files: Sequence[Path], version: str) -> list[Path]:
        listed = self.files(version)
        differing = [
            path
            for path in files
            if path.name in listed and listed[path.name].sha256 != sha256(path)
        ]
        if differing:
            raise ReleaseError(
                f"{self.name} has other files named {names(differing)}: an index never replaces a "
                f"file, so these cannot complete {PROJECT} {version}; release the next version"
            )
        foreign = sorted(set(listed) - {path.name for path in files})
        if foreign:
            raise ReleaseError(
                f"{self.name} has files of {PROJECT} {version} that are not among these: "
                f"{', '.join(foreign)}; release the next version"
            )
        return [path for path in files if path.name not in listed]

    def _upload(self, files: Sequence[Path], attest: bool) -> None:
        options = ["--repository", self.name, "--non-interactive", "--disable-progress-bar"]
        if self.pypirc != PYPIRC:
            options += ["--config-file", self.pypirc]
        uploads = [str(path) for path in files]
        if attest:
            self._run(["pypi_attestations", "sign", *uploads], "signing for")
            options.append("--attestations")
            uploads += [f"{path}.publish.attestation" for path in files]
        self._run(["twine", "--no-color", "upload", *options, *uploads], "uploading to")

    def _fetch_file(self, path: Path, entry: Entry) -> Path:
        if path.is_file() and sha256(path) == entry.sha256:
            return path
        content = self._download(entry.url)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise ReleaseError(
                f"{self.name} gave another {path.name} than it lists: sha256 "
                f"{hashlib.sha256(content).hexdigest()}, not {entry.sha256}; do not release it"
            )
        path.write_bytes(content)
        return path

    def _download(self, url: str) -> bytes:
        pause = 1.0
        while True:
            try:
                return download(url, self.patience)
            except FileNotFoundError:
                raise
            except (OSError, http.client.HTTPException) as error:
                if not self.patience.lasts(pause):
                    raise ReleaseError(
                        f"{self.name} does not answer ({error}): re-run this job when it does; "
                        "it goes on where it stopped"
                    ) from error
            time.sleep(pause)
            pause *= 2

    def _run(self, module: list[str], what: str) -> None:
        """Run a Python program; the last line of its output says why it failed."""
        try:
            done = subprocess.run(
                [sys.executable, "-m", *module],
                env={**os.environ, "COLUMNS": "1000", "NO_COLOR": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=self.patience.left(),
            )
        except subprocess.TimeoutExpired as error:
            print((error.stdout or b"").decode(errors="replace").rstrip(), flush=True)
            raise ReleaseError(
                f"{self.name} does not answer: {what} {self.name} did not end within "
                f"{self.patience}; re-run this job when it does; it goes on where it stopped"
            ) from error
        said, _, _ = done.stdout.partition("Traceback")
        print(said.rstrip(), flush=True)
        if done.returncode:
            raise ReleaseError(
                f"{what} {self.name} ended with status {done.returncode}: "
                f"{done.stdout.rstrip().splitlines()[-1]}; if the index did not answer or the "
                "upload broke off, re-run this job: it goes on where it stopped"
            )


def upload_address(name: str, pypirc: str) -> str:
    """Return where twine uploads to."""
    from twine.exceptions import TwineException
    from twine.utils import get_repository_from_config

    try:
        return get_repository_from_config(pypirc, name)["repository"] or ""
    except TwineException as error:
        raise ReleaseError(f"twine knows no index {name!r}: {error}") from error


def simple_address(upload: str) -> str:
    """Return where pip reads: beside `/legacy/`; PyPI has a separate host for uploads."""
    return upload.replace("//upload.", "//", 1).removesuffix("legacy/").rstrip("/") + "/simple/"


def download(url: str, patience: Patience) -> bytes:
    """Return the content of an address, bypassing caches; raise `FileNotFoundError` if missing."""
    request = urllib.request.Request(url, headers={"Cache-Control": "max-age=0"})
    content = bytearray()
    try:
        with urllib.request.urlopen(request, timeout=patience.left(at_most=15)) as response:
            while part := response.read1():
                content += part
                if not patience.lasts():
                    raise TimeoutError(f"{url} comes too slowly")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise FileNotFoundError(url) from error
        raise
    return bytes(content)


def names(files: Sequence[Path]) -> str:
    """Return the names of files, for a message."""
    return ", ".join(path.name for path in files)
