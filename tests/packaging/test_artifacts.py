"""Tests what is in the shipped files, and that a commit always results in the same files."""

from __future__ import annotations

import email
import io
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import artifacts
import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

BINARY = "pychrony/_io/_shim.abi3.so"
OUTSIDE_THE_SDIST = {".ci/run", ".git_archival.txt"}
GENERATED = {"PKG-INFO"}


def run(*command: str, cwd: Path = artifacts.ROOT) -> str:
    python = [sys.executable, "-m"] if command[0] != "git" else []
    done = subprocess.run([*python, *command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def elf(wheel: Path) -> ELFFile:
    with zipfile.ZipFile(wheel) as archive:
        return ELFFile(io.BytesIO(archive.read(BINARY)))


def needed(binary: ELFFile) -> set[str]:
    dynamic = binary.get_section_by_name(".dynamic")
    assert isinstance(dynamic, DynamicSection)
    return {getattr(tag, "needed") for tag in dynamic.iter_tags("DT_NEEDED")}  # noqa: B009


def test_one_wheel_serves_cpython_3_10_and_later_on_manylinux(wheel: Path) -> None:
    tags = parse_wheel_filename(wheel.name)[3]
    assert {(tag.interpreter, tag.abi) for tag in tags} == {("cp310", "abi3")}
    assert all(tag.platform.startswith("manylinux") for tag in tags)
    assert "manylinux_" in run("auditwheel", "show", str(wheel))


def test_a_wheel_for_aarch64_can_be_cross_compiled(aarch64_wheel: Path) -> None:
    assert artifacts.kind_of(aarch64_wheel.name) == "cp310-abi3-manylinux_aarch64"
    binary = elf(aarch64_wheel)
    assert (binary["e_machine"], binary.elfclass) == ("EM_AARCH64", 64)
    minor = [
        int(tag.platform.split("_")[2])
        for tag in parse_wheel_filename(aarch64_wheel.name)[3]
        if tag.platform.startswith("manylinux_")
    ]
    assert max(minor) <= 28


def test_it_compiles_for_musl(sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cross = artifacts.cross_compiler("x86_64")
    for variable, value in cross.items():
        monkeypatch.setenv(variable, value.replace("linux-gnu.2.28", "linux-musl"))
    wheel = artifacts.produce(artifacts.unpack(sdist, tmp_path), tmp_path / "raw", "--wheel", {})
    assert needed(elf(wheel)) == {"libc.so"}


@pytest.fixture(params=["wheel", "aarch64_wheel"])
def each(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def test_the_checkers_find_nothing_and_it_is_small(each: Path) -> None:
    run("check_wheel_contents", str(each))
    run("abi3audit", "--strict", str(each))
    run("twine", "check", "--strict", str(each))
    assert each.stat().st_size < artifacts.LARGEST_WHEEL


def test_a_wheel_neither_links_nor_contains_libchrony(each: Path) -> None:
    assert not any("chrony" in library for library in needed(elf(each)))
    assert not any("libchrony" in Path(name).name and ".so" in name for name in names(each))
    assert not any(name.startswith("pychrony.libs") for name in names(each))


def test_a_wheel_has_the_package_the_man_page_and_the_completions(each: Path) -> None:
    package = files_below(artifacts.ROOT / "src/pychrony")
    written_in_c = {name for name in package if name.endswith((".c", ".h"))}
    built = {"_io/_shim.abi3.so", "_version.py"}
    found = {name for name in names(each) if not name.endswith("/")}
    assert {name[9:] for name in found if name[:9] == "pychrony/"} == package - written_in_c | built
    share = files_below(artifacts.ROOT / "docs/share")
    places = {name.partition(".data/data/share/")[2] for name in found}
    assert places - {""} == share
    assert "man/man1/pychrony.1" in share


def files_below(folder: Path) -> set[str]:
    """Return the files in a folder that are no products of a compiler, nor hidden."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name[0] != "." and path.suffix not in (".so", ".pyc")
    }


def test_the_sdist_has_every_file_of_the_repository(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    files = {name for name in listed if (artifacts.ROOT / name).is_file()}
    assert found == files - OUTSIDE_THE_SDIST | GENERATED
    engine = {"build.py", "batch.c", "shim.h", "_shim.pyi"}
    assert {f"src/pychrony/_io/{name}" for name in engine} <= found
    run("twine", "check", "--strict", str(sdist))


def test_builds_of_a_commit_are_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = []
    origin = artifacts.ROOT
    for place in (tmp_path / "here", tmp_path / "elsewhere/with a longer path"):
        run("git", "clone", "--quiet", str(origin), str(place))
        origin = place  # the same commit, whatever is committed meanwhile
        date = run("git", "log", "-1", "--format=%ct", cwd=place).strip()
        monkeypatch.setenv("SOURCE_DATE_EPOCH", date)
        sdist = artifacts.build_sdist(place, place / "dist")
        artifacts.build_wheel(sdist, place / "dist")
        builds.append({path.name: path.read_bytes() for path in artifacts.files(place / "dist")})
    assert builds[0] == builds[1]
    assert len(builds[0]) == 2


def test_metadata_is_what_an_index_shows(wheel: Path) -> None:
    shown = metadata(wheel)
    assert shown["Metadata-Version"] == "2.4"
    assert shown["Name"] == "pychrony"
    assert shown["License-Expression"] == "MIT"
    assert shown["Requires-Python"] == ">=3.10"
    assert shown["Summary"]
    assert len(shown["Keywords"].split(",")) > 3
    assert shown["Description-Content-Type"] == "text/markdown"
    assert "Repository, https://github.com/arunderwood/pychrony" in shown.get_all("Project-URL", [])
    lines = shown.get_all("Requires-Dist", [])
    needed = [str(Requirement(line)) for line in lines if "extra ==" not in line]
    assert needed == ['cffi>=1.17; python_version < "3.14"', 'cffi>=2; python_version >= "3.14"']
    assert shown.get_payload(decode=True) == (artifacts.ROOT / "README.md").read_bytes()
    assert {
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: Free Threading",
        "Typing :: Typed",
    } <= {*shown.get_all("Classifier", [])}
