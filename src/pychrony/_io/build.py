"""Makes the generated files of a wheel, as a build hook of hatchling.

These are the compiled extension module `_shim`, the docstrings of the reports as data, and the
version. Where a wheel could not work, the build stops with an error.

CFFI reads `shim.h` and generates the C source of the Python module; the C compiler links that and
the C files in this folder into one extension. libchrony is not needed: the shim loads it at run
time. The installed package never imports this module.
"""

from __future__ import annotations  # so that older Pythons get as far as the message

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path(__file__).parent
PACKAGE = SOURCES.parent
OLDEST = (3, 10)  # a wheel for its stable ABI serves all later versions, too
FREE_THREADED = (3, 15)  # the first with a stable ABI for free-threaded Pythons (PEP 803)


class StableABI(NamedTuple):
    """A stable ABI of CPython, to compile for."""

    name: str
    since: tuple[int, int]
    macro: str

    @property
    def tag(self) -> str:
        """The wheel's tag."""
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        return f"cp{self.since[0]}{self.since[1]}-{self.name}-{platform}"

    @property
    def definition(self) -> str:
        """The compiler option that selects it in Python's headers."""
        return f"-D{self.macro}=0x{self.since[0]:02X}{self.since[1]:02X}0000"


def stable_abi() -> StableABI | None:
    """Return the stable ABI; `None` for a free-threaded Python before 3.15, which has none."""
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    if "Py_TARGET_ABI3T" in os.environ.get("CPPFLAGS", ""):
        free_threaded = True  # cross-compiling: the Python that runs this need not be free-threaded
    if not free_threaded:
        return StableABI("abi3", OLDEST, "Py_LIMITED_API")
    if sys.version_info >= FREE_THREADED:
        return StableABI("abi3t", FREE_THREADED, "Py_TARGET_ABI3T")
    return None


def write_module(target: Path) -> None:
    """Let CFFI write the C source of the Python module."""
    from cffi import FFI  # installed when a wheel is built

    ffi = FFI()
    ffi.cdef((SOURCES / "shim.h").read_text())
    headers = ("<stddef.h>", "<stdint.h>", '"shim.h"')
    source = "\n".join(f"#include {header}" for header in headers)
    ffi.set_source("pychrony._io._shim", source)
    ffi.emit_c_code(str(target))


def describe(models: str) -> str:
    """Return a module with the docstrings of the reports and of their members, by name.

    Python discards docstrings below fields, and with `-OO` all of them.
    """
    reports = {
        node.name: {"": ast.get_docstring(node) or ""} | dict(members(node))
        for node in ast.parse(models).body
        if isinstance(node, ast.ClassDef)
        and any("Report" in ast.unparse(base) for base in node.bases)
    }
    return f"DESCRIPTIONS: dict[str, dict[str, str]] = {json.dumps(reports, indent=4)}\n"


def members(report: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the name and the docstring of each field, property and method, each as one line."""
    # Old syntax on purpose: older Pythons must read this file before it refuses them.
    for member, below in zip_longest(report.body, report.body[1:]):
        if isinstance(member, ast.FunctionDef):
            yield member.name, " ".join((ast.get_docstring(member) or "").split())
        elif (
            isinstance(member, ast.AnnAssign)
            and isinstance(member.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            yield member.target.id, " ".join(below.value.value.split())


def words(variable: str, default: str = "") -> list[str]:
    """Split a variable of the environment as a shell would."""
    return shlex.split(os.environ.get(variable, default))


def command(folder: Path, extension: Path, abi: StableABI | None) -> list[str]:
    """Return the compiler's command line; the caller's flags come last and take precedence."""
    compiler = words("CC") or shlex.split(sysconfig.get_config_var("CC") or "cc")
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread"]
    flags.append("-fvisibility=hidden")  # of everything except the module's entry point
    hardening = ["-fstack-protector-strong", "-Wl,-z,relro,-z,now"]
    caller = [*words("CPPFLAGS"), *words("CFLAGS"), *words("LDFLAGS")]
    if not any("_FORTIFY_SOURCE" in flag for flag in caller):
        # Some compilers define it themselves, and warn about another value.
        hardening += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    # Produce the same bytes in whichever folder the build runs.
    same = [f"-ffile-prefix-map={folder}=.", f"-ffile-prefix-map={SOURCES}=."]
    if abi and abi.macro not in os.environ.get("CPPFLAGS", ""):
        flags.append(abi.definition)
    include = [f"-I{SOURCES}", f"-I{sysconfig.get_path('include')}"]
    files = [str(folder / "module.c"), *map(str, sorted(SOURCES.glob("*.c")))]
    output = ["-o", str(extension), "-ldl"]
    return [*compiler, *flags, *hardening, *same, *include, *caller, *files, *output]


class ShimBuildHook(BuildHookInterface[Any]):
    """Puts what it makes into the wheel, or beside the sources of an editable install."""

    def dependencies(self) -> list[str]:
        """Stop here if the build cannot work; it needs no further packages."""
        self.require_platform()
        return []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files, and tell hatchling where they are."""
        self.require_version()
        if self.target_name != "wheel":
            return
        self.require_platform()
        # It is removed even if the build stops before `finalize()`.
        self.scratch = tempfile.TemporaryDirectory(prefix="pychrony-build-")
        folder = Path(self.scratch.name)
        abi = stable_abi()
        suffix = f".{abi.name}.so" if abi else sysconfig.get_config_var("EXT_SUFFIX")
        extension = folder / f"_shim{suffix}"
        write_module(folder / "module.c")
        self.compile(command(folder, extension, abi))
        descriptions = folder / "_descriptions.py"
        descriptions.write_text(describe((PACKAGE / "models.py").read_text()))
        version_file = folder / "_version.py"
        version_file.write_text(f'__version__ = "{self.metadata.version}"\n')
        made = {
            version_file: version_file.name,
            extension: f"_io/{extension.name}",
            descriptions: f"_model/{descriptions.name}",
        }
        if version == "editable":
            for source, target in made.items():
                self.place(source, PACKAGE / target)
            return
        for source, target in made.items():  # the source tree may be read-only
            build_data["force_include"][str(source)] = f"pychrony/{target}"
        build_data["pure_python"] = False
        if abi:
            build_data["tag"] = abi.tag
        else:
            build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the files, which are in the wheel by now."""
        if self.target_name == "wheel":
            self.scratch.cleanup()

    def require_platform(self) -> None:
        """Stop on a platform where the wheel could not work."""
        if self.target_name != "wheel":
            return
        if sys.version_info < OLDEST:
            self.app.abort(
                f"pychrony needs Python {OLDEST[0]}.{OLDEST[1]} or later; "
                f"this is {sys.version_info[0]}.{sys.version_info[1]}"
            )
        if sys.platform != "linux":
            self.app.abort(f"pychrony needs Linux, where chronyd runs; this is {sys.platform}")
        if sys.maxsize < 2**32:
            self.app.abort("pychrony needs a 64-bit Python; this one is 32-bit")
        if sys.implementation.name != "cpython":
            self.app.abort(f"pychrony is built for CPython, not {sys.implementation.name}")

    def require_version(self) -> None:
        """Stop where the version would silently be wrong: a shallow clone may lack all tags."""
        is_clone = Path(self.root, ".git").exists()  # with git, which gave the version
        shallow = ["git", "-C", self.root, "rev-parse", "--is-shallow-repository"]
        if (
            self.metadata.version.startswith("0.0.")
            and is_clone
            and subprocess.check_output(shallow) == b"true\n"
        ):
            self.app.abort(
                "pychrony's version comes from git's tags, and this shallow clone has none: run "
                "'git fetch --unshallow --tags', or clone a tag: --depth 1 --branch v3.0.0"
            )

    def place(self, source: Path, target: Path) -> None:
        """Put a file of an editable install into the source tree, even if the old one is in use."""
        new = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            shutil.copy(source, new)
            new.replace(target)
        except OSError as error:
            self.app.abort(
                f"pychrony cannot be installed as editable from a folder that it may not write to: "
                f"{error}"
            )

    def compile(self, line: list[str]) -> None:
        """Run the compiler, which prints its own messages."""
        try:
            subprocess.run(line, check=True)
        except FileNotFoundError:
            self.app.abort(
                f"pychrony needs a C compiler to build, and {line[0]!r} is not there: "
                "install gcc (or set CC), and the headers of Python (python3-dev)"
            )
        except subprocess.CalledProcessError as error:
            self.app.abort(
                f"pychrony was not compiled: {line[0]!r} ended with status {error.returncode}; "
                "its messages are above. If Python.h is missing, install python3-dev"
            )
