#!/usr/bin/env python3
"""Play a release and its promotion against two package indexes on this machine.

Builds the sdist and the manylinux wheels for both machines from a clone of the last commit, with a
tag, and takes them with the tools of the workflows through publishing, verifying and promoting, and
through what can go wrong on the way. Nothing leaves the loopback interface, except pip's downloads.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifacts import PROJECT, ROOT, SUMS, files, sha256
from installed import pythons
from problems import ReleaseError, reported

VERSION = "999.0.0"
TAG = f"v{VERSION}"
NOT_HERE = ("cp314-cp314t-*", "cp315-abi3t-*", "*-musllinux_*")  # these take CI's containers
PYPIRC = """\
[distutils]
index-servers = testpypi pypi
[testpypi]
repository = {testpypi.url}
username = rehearsal
password = rehearsal
[pypi]
repository = {pypi.url}
username = rehearsal
password = rehearsal
"""


class Server:
    """A package index on the loopback interface."""

    def __init__(self, name: str, folder: Path) -> None:
        """Choose a free port; it stays the same over restarts."""
        self.folder = folder / name
        self.folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        address = ["--interface", "127.0.0.1", "--port", str(self.port)]
        access = ["--passwords", ".", "--authenticate", ".", "--disable-fallback"]
        options = [*address, *access, "--hash-algo", "sha256", "--server", "wsgiref"]
        command = [sys.executable, "-m", "pypiserver", "run", *options, str(self.folder)]
        with self.folder.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise ReleaseError(f"{self.url} did not start; see {self.folder.with_suffix('.log')}")

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def names(self) -> list[str]:
        """Return what was uploaded."""
        return sorted(path.name for path in files(self.folder))

    @contextmanager
    def breaking_off(self) -> Iterator[None]:
        """Let it die when it has taken one file."""

        def watch() -> None:
            while not self.names():
                time.sleep(0.001)
            self.stop()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        yield
        watcher.join(10)


class Rehearsal:
    """A clone with a tag, two indexes, and the commands of the workflows."""

    def __init__(self, folder: Path) -> None:
        """Prepare the stage."""
        self.clone = folder / "clone"
        self.dist = self.clone / "dist"
        self.testpypi = Server("testpypi", folder)
        self.pypi = Server("pypi", folder)
        self.pypirc = folder / "pypirc"
        self.pypirc.write_text(PYPIRC.format(testpypi=self.testpypi, pypi=self.pypi))

    def tool(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a tool of the clone."""
        command = [sys.executable, str(self.clone / "tools" / name), *arguments]
        environment = {k: v for k, v in os.environ.items() if k != "GITHUB_ACTIONS"}
        return subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def release(
        self, *arguments: str, fails: str = "", dist: Path | None = None, patience: float = 60
    ) -> None:
        """Run a step of the release; if it has to fail, the message holds these words."""
        expect(
            self.tool(
                "release.py",
                *("--dist", str(dist or self.dist), "--pypirc", str(self.pypirc)),
                *("--patience", str(patience)),
                *arguments,
            ),
            " ".join(["release.py", *arguments]),
            fails,
        )

    def check(self, version: str, *without: str, fails: str = "") -> None:
        """Check that all artifacts are there."""
        missing = [f"--without={pattern}" for pattern in (*NOT_HERE, *without)]
        arguments = ["--dist", str(self.dist), "check", version, *missing]
        expect(self.tool("artifacts.py", *arguments), f"artifacts.py check {version}", fails)


def expect(done: subprocess.CompletedProcess[str], what: str, fails: str) -> None:
    """Print a step and its last words; stop unless it ended as it should."""
    lines = done.stdout.strip().splitlines()[-2:]
    print("\n    ".join([f"+ {what}{' # has to be refused' * bool(fails)}", *lines]), flush=True)
    if fails and (done.returncode == 0 or fails not in done.stdout or "Traceback" in done.stdout):
        raise ReleaseError(f"{what} should have failed with {fails!r}, but said:\n{done.stdout}")
    if not fails and done.returncode:
        raise ReleaseError(f"{what} ended with status {done.returncode}:\n{done.stdout}")


def git(folder: Path, *arguments: str) -> None:
    """Run git, as somebody."""
    somebody = ["-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost"]
    command = ["git", "-C", str(folder), *somebody, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{shlex.join(command)}: {done.stderr}")


def cut_release(play: Rehearsal) -> None:
    """Do what the maintainer does: write the section of the changelog, commit, tag."""
    git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(play.clone))
    changelog = play.clone / "CHANGELOG.md"
    section = f"## {VERSION}\n\nA rehearsal.\n\n"
    changelog.write_text(changelog.read_text().replace("## ", f"{section}## ", 1))
    git(play.clone, "commit", "--quiet", "--all", "-m", f"Release {VERSION}")
    git(play.clone, "tag", TAG)


def build(play: Rehearsal) -> None:
    """Build, and refuse tags and artifacts that do not fit together."""
    for tag, complaint in {
        "v1.0.0-final": "is no version",
        "v1.0": "has no section",
        "v1.00": "is not how files will be named",
        VERSION: "lacks the v",
    }.items():
        play.release("check-tag", tag, "testpypi", "pypi", fails=complaint)
    play.release("check-tag", TAG, "testpypi", "pypi")
    expect(play.tool("artifacts.py", "build", "x86_64", "aarch64"), "artifacts.py build", "")
    play.check("1.0.0", fails="is not pychrony 1.0.0")
    sdist = next(play.dist.glob("*.tar.gz"))
    aside = sdist.rename(play.clone / sdist.name)
    play.check(VERSION, fails="lacks sdist")
    aside.rename(sdist)
    play.check(VERSION)
    play.release("sums")


def publish(play: Rehearsal, pythons: list[str]) -> None:
    """Publish to Test PyPI: it is down, then breaks off, then takes the rest."""
    play.testpypi.stop()
    play.release("publish", TAG, "testpypi", patience=2, fails="testpypi does not answer")
    play.testpypi.start()
    with play.testpypi.breaking_off():
        play.release("publish", TAG, "testpypi", fails="it goes on where it stopped")
    print(f"    testpypi has {len(play.testpypi.names())} of {len(files(play.dist))} files")
    if len(play.testpypi.names()) == len(files(play.dist)):
        raise ReleaseError("the upload was to break off, and did not")
    play.testpypi.start()
    play.release("verify", TAG, "testpypi", *pythons, patience=2, fails="does not list")
    play.release("publish", TAG, "testpypi")
    play.release("publish", TAG, "testpypi")  # all there: nothing to do, and no error
    play.release("verify", TAG, "testpypi", *pythons)


def promote(play: Rehearsal, pythons: list[str]) -> None:
    """Promote the same bytes to PyPI, and nothing else."""
    fetched = play.clone / "fetched"
    play.release("fetch", "v998.0.0", "testpypi", dist=fetched, fails="has no pychrony 998.0.0")
    play.release("fetch", TAG, "testpypi", dist=fetched)
    if (fetched / SUMS).read_text() != (play.dist / SUMS).read_text():
        raise ReleaseError("what was fetched is not what was built")
    spoilt = shutil.copytree(fetched, play.clone / "spoilt")
    with next(spoilt.glob("*.tar.gz")).open("ab") as sdist:
        sdist.write(b"\0")
    play.release("publish", TAG, "pypi", dist=spoilt, fails="publish nothing of it")
    play.release("publish", TAG, "pypi", dist=fetched)
    play.release("verify", TAG, "pypi", *pythons, dist=fetched)
    for name in play.pypi.names():
        if sha256(play.pypi.folder / name) != sha256(play.dist / name):
            raise ReleaseError(f"{name} on pypi is not what was built")
    play.release("sums", dist=spoilt)
    play.release("publish", TAG, "pypi", dist=spoilt, fails="an index never replaces a file")
    play.release("check-tag", TAG, "pypi", fails="has pychrony 999.0.0 already")


def main() -> None:
    """Play the release."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    ends = [*pythons()[:1], *pythons()[-1:]]
    options = [f"--python={python}" for python in ends]
    with reported("rehearse.py"), tempfile.TemporaryDirectory() as scratch:
        play = Rehearsal(Path(scratch))
        try:
            cut_release(play)
            play.testpypi.start()
            play.pypi.start()
            build(play)
            publish(play, options)
            promote(play, options)
        finally:
            play.testpypi.stop()
            play.pypi.stop()
        print(f"the rehearsal of {PROJECT} {VERSION} succeeded")


if __name__ == "__main__":
    main()
