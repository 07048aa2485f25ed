"""Tests how libchrony is found and loaded, and the errors if that fails."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import pytest
from surroundings import GLIBC

import pychrony

# All of libchrony that the package uses. An installed package comes without its C sources.
HEADER = Path(__file__).parents[1] / "src" / "pychrony" / "_io" / "libchrony.h"
FUNCTIONS = re.findall(r"X\([^,]+, (\w+), \(", HEADER.read_text())

Python = Callable[..., str]


@pytest.fixture(scope="module")
def libchrony() -> Path:
    """The libchrony that the tests use."""
    return Path(pychrony.library_path()).resolve()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the loader looks first for libchrony; a system's own is out of its sight."""
    folder = tmp_path / "loader"
    folder.mkdir()
    (folder / "libchrony.so.0").write_text("This is no library.\n" * 100)
    return folder


def give_loader(folder: Path, libchrony: Path) -> None:
    (folder / "libchrony.so.0").unlink()
    (folder / "libchrony.so.0").symlink_to(libchrony)


@pytest.fixture
def python(folder: Path, tmp_path: Path) -> Python:
    """Run a program in a new process, and return its output."""

    def run(*code: str, variable: str | Path | None = None, program: str | Path = "") -> str:
        environment = os.environ | {"LD_LIBRARY_PATH": str(folder)}
        environment.pop("PYCHRONY_LIBCHRONY", None)
        if variable is not None:
            environment["PYCHRONY_LIBCHRONY"] = str(variable)
        done = subprocess.run(
            [program or sys.executable, "-W", "error", "-c", "\n".join(map(dedent, code))],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == ""
        return done.stdout.rstrip("\n")

    return run


def compiled(target: Path, functions: list[str]) -> Path:
    """A library that has these functions of libchrony, by name."""
    source = target.with_suffix(".c")
    source.write_text("".join(f"int chrony_{name}(void) {{ return 0; }}\n" for name in functions))
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run([*compiler, "-shared", "-fPIC", "-o", target, source], check=True)
    return target


def environment(folder: Path) -> tuple[Path, Path]:
    """Make a virtual environment with pychrony; return its Python, and where libchrony may be."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = [entry for entry in sys.path if entry.endswith(("site-packages", "/src"))]
    (packages / "ours.pth").write_text("\n".join(ours))
    return folder / "bin" / "python", folder / "lib" / "libchrony.so.0"


SAY_WHY = """
    import pychrony
    try:
        print("found", pychrony.library_path())
    except pychrony.ChronyLibraryError as error:
        assert (error.message, error.error_code, error.errno) == (str(error), None, None)
        print(error)
    """

WITHOUT_PREFIX = """
    import sys
    sys.prefix = sys.base_prefix = "/nowhere"
    """


def test_only_a_call_loads_libchrony(python: Python, libchrony: Path) -> None:
    said = python(
        f"""
        from pathlib import Path
        import pychrony, pychrony.aio
        loaded = lambda: {str(libchrony)!r} in Path("/proc/self/maps").read_text()
        pychrony.ChronyConnection()
        print(loaded())
        pychrony.supported_reports()
        print(loaded())
        """,
        variable=libchrony,
    )
    assert said.split() == ["False", "True"]


@pytest.mark.parametrize(
    "call",
    [
        "pychrony.get_tracking()",
        "pychrony.get_report('tracking', '127.0.0.1')",
        "pychrony.ChronyConnection('/nowhere').__enter__()",
        "pychrony.supported_reports()",
        "pychrony.library_path()",
    ],
)
def test_without_libchrony_a_call_says_where_it_was_sought_and_what_to_do(
    python: Python, folder: Path, call: str
) -> None:
    said = python(
        WITHOUT_PREFIX,
        f"""
        import pychrony
        try:
            {call}
        except pychrony.ChronyLibraryError as error:
            print(error)
        """,
    )
    assert said.startswith("loading libchrony: ")
    # What the loader found; musl's says only what it was asked for.
    found = f"{folder}/libchrony.so.0" if GLIBC else "libchrony.so.0: Exec format error"
    assert found in said
    assert "/nowhere/lib/libchrony.so.0: " in said
    assert "; install it with 'dnf install libchrony' " in said
    assert re.search(r"; .*PYCHRONY_LIBCHRONY to the absolute path of a libchrony\.so\.0$", said)
    assert "\n" not in said


def test_a_callers_mistake_comes_before_a_missing_libchrony(python: Python) -> None:
    said = python(
        """
        import pychrony
        for arguments in ({"address": "local host"}, {"timeout": 0}):
            try:
                pychrony.get_tracking(**arguments)
            except ValueError as error:
                print(error)
        """,
        variable="/nowhere",
    )
    assert re.fullmatch(r"address .*\ntimeout .*", said)


def test_the_loader_is_asked_first(python: Python, folder: Path, libchrony: Path) -> None:
    give_loader(folder, libchrony)
    assert python(SAY_WHY) == f"found {folder}/libchrony.so.0"


def test_the_variable_comes_before_the_loader(
    python: Python, folder: Path, libchrony: Path, tmp_path: Path
) -> None:
    give_loader(folder, libchrony)
    chosen = tmp_path / "übrig.so"
    shutil.copy(libchrony, chosen)
    assert python(SAY_WHY, variable=chosen) == f"found {chosen}"


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ("libchrony.so.0", "'libchrony.so.0' is not an absolute path"),
        ("loader/good.so", "'loader/good.so' is not an absolute path"),
        ("", "'' is not an absolute path"),
        ("/nowhere/libchrony.so.0", "/nowhere/libchrony.so.0: "),
        ("{folder}", "{folder}: "),
        ("{folder}/text.so", "{folder}/text.so: "),
        ("{folder}/empty.so", "{folder}/empty.so: "),
    ],
)
def test_a_variable_that_is_of_no_use_is_the_error(
    python: Python, folder: Path, libchrony: Path, chosen: str, reason: str
) -> None:
    """Even if the loader would find a good one."""
    give_loader(folder, libchrony)
    (folder / "good.so").symlink_to(libchrony)
    (folder / "text.so").write_text("This is no library.\n" * 100)
    (folder / "empty.so").write_text("")
    said = python(SAY_WHY, variable=chosen.format(folder=folder))
    assert said.startswith("loading libchrony from PYCHRONY_LIBCHRONY: ")
    assert reason.format(folder=folder) in said
    assert said.endswith("; correct the variable, or unset it")


@pytest.mark.parametrize("missing", ["open_socket", "get_field_constant_name"])
def test_a_function_that_libchrony_lacks_is_named(
    python: Python, tmp_path: Path, missing: str
) -> None:
    library = compiled(tmp_path / "old.so", [name for name in FUNCTIONS if name != missing])
    said = python(SAY_WHY, variable=library)
    assert f"{library}: it is not libchrony, or too old: it has no chrony_{missing};" in said


def test_all_functions_of_the_interface_are_enough(python: Python, tmp_path: Path) -> None:
    library = compiled(tmp_path / "whole.so", FUNCTIONS)
    code = "from pychrony._io.library import search; print(search())"
    assert python(code, variable=library) == f"[Attempt(path='{library}', reason='')]"


@pytest.mark.parametrize("found", ["text", "old"])
def test_the_environment_that_python_runs_in_is_searched_last(
    python: Python, folder: Path, libchrony: Path, tmp_path: Path, found: str
) -> None:
    """A virtual environment, as a conda one, keeps libraries in its folder `lib`."""
    if found == "old":
        compiled(folder / "libchrony.so.0", FUNCTIONS[:-1])
    program, link = environment(tmp_path / "environment")
    link.symlink_to(libchrony)
    assert python(SAY_WHY, program=program) == f"found {link}"


def test_what_a_virtual_environment_is_based_on_is_searched_too(
    python: Python, libchrony: Path, tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libchrony.so.0").symlink_to(libchrony)
    said = python(
        f"import sys; sys.prefix, sys.base_prefix = '/nowhere', {str(tmp_path)!r}", SAY_WHY
    )
    assert said == f"found {tmp_path}/lib/libchrony.so.0"


@pytest.fixture
def privileged() -> Iterator[tuple[Path, Path]]:
    """A Python with a file capability, which nobody may run; and where libchrony may be."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        program, library = environment(Path(folder))
        program.unlink()
        shutil.copy(Path(sys.executable).resolve(), program)
        # CAP_DAC_OVERRIDE, with which nobody may read the standard library wherever it is
        version_2, effective, dac_override = 0x02000000, 1, 1 << 1
        capability = struct.pack("<5I", version_2 | effective, dac_override, 0, 0, 0)
        os.setxattr(program, "security.capability", capability)
        yield program, library


@pytest.mark.skipif(
    os.geteuid() != 0 or not hasattr(os, "setxattr"),
    reason="only root can give a program a capability, with a Python that has os.setxattr()",
)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_program_with_more_rights_than_its_user_ignores_the_variable(
    privileged: tuple[Path, Path], libchrony: Path, is_there: bool
) -> None:
    program, library = privileged
    if is_there:
        shutil.copy(libchrony, library)
    said = subprocess.run(
        [program, "-c", dedent(SAY_WHY)],
        user="nobody",
        cwd="/",
        env={"PYCHRONY_LIBCHRONY": "/elsewhere"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert said.startswith("found /" if is_there else ("found /", "loading libchrony: "))
    assert "/elsewhere" not in said


def test_libchrony_can_be_brought_after_a_failure(python: Python, libchrony: Path) -> None:
    said = python(
        SAY_WHY,
        f"import os; os.environ['PYCHRONY_LIBCHRONY'] = {str(libchrony)!r}",
        SAY_WHY,
        variable="/nowhere",
    )
    assert said.splitlines()[1] == f"found {libchrony}"


def test_a_libchrony_in_use_stays(python: Python, libchrony: Path) -> None:
    said = python(
        SAY_WHY,
        "import os; os.environ['PYCHRONY_LIBCHRONY'] = '/nowhere'",
        SAY_WHY,
        variable=libchrony,
    )
    assert said.splitlines() == [f"found {libchrony}"] * 2
