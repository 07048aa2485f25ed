"""Compiles `_shim` for the wheel: CFFI's script and hatchling's build hook in one; never imported.

CFFI reads `shim.h` and writes the C of the Python module; the C compiler makes one extension of
that and the C files beside this one. Nothing of libchrony is needed: the shim finds it at run time.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path(__file__).parent
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
EXTENSION = "_shim" + (sysconfig.get_config_var("EXT_SUFFIX") if FREE_THREADED else ".abi3.so")
OLDEST = (3, 10)  # the stable ABI of this version, and so its wheel for all later ones


def write_module(target: Path) -> None:
    """Let CFFI write the C source of the Python module."""
    from cffi import FFI  # only there when a wheel is built

    ffi = FFI()
    ffi.cdef((SOURCES / "shim.h").read_text())
    headers = ("<stddef.h>", "<stdint.h>", '"shim.h"')
    source = "\n".join(f"#include {header}" for header in headers)
    ffi.set_source("pychrony._engine._shim", source)
    ffi.emit_c_code(str(target))


def words(variable: str, default: str = "") -> list[str]:
    """Split a variable of the environment as a shell would."""
    return shlex.split(os.environ.get(variable, default))


def command(folder: Path, target: Path) -> list[str]:
    """Return the compiler's command line: the caller's flags come last, and win."""
    compiler = words("CC") or shlex.split(sysconfig.get_config_var("CC") or "cc")
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread"]
    flags.append("-fvisibility=hidden")  # of all but what Python looks for
    # Some compilers define it themselves, and warn of another value.
    fortify = ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    hardening = ["-fstack-protector-strong", *fortify, "-Wl,-z,relro,-z,now"]
    # The same bytes wherever the build happens.
    same = [f"-ffile-prefix-map={folder}=.", f"-ffile-prefix-map={SOURCES}=."]
    if not FREE_THREADED and "Py_LIMITED_API" not in os.environ.get("CPPFLAGS", ""):
        flags.append(f"-DPy_LIMITED_API=0x{OLDEST[0]:02X}{OLDEST[1]:02X}0000")
    include = [f"-I{SOURCES}", f"-I{sysconfig.get_path('include')}"]
    files = [str(folder / "module.c"), *map(str, sorted(SOURCES.glob("*.c")))]
    caller = [*words("CPPFLAGS"), *words("CFLAGS"), *words("LDFLAGS")]
    output = ["-o", str(target), "-ldl"]
    return [*compiler, *flags, *hardening, *same, *include, *caller, *files, *output]


def replace(target: Path, source: Path) -> None:
    """Put a file in another one's place, which may be in use and must not change then."""
    new = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy(source, new)
    new.replace(target)


class ShimBuildHook(BuildHookInterface[Any]):
    """Puts the compiled extension into the wheel, or beside the sources of an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling what came of it."""
        self.require_platform()
        # Goes away with the process, too, if the build stops before `finalize()`.
        self.scratch = tempfile.TemporaryDirectory(prefix="pychrony-build-")
        folder = Path(self.scratch.name)
        extension = folder / EXTENSION
        write_module(folder / "module.c")
        self.compile(command(folder, extension))
        if version == "editable":
            replace(SOURCES / EXTENSION, extension)
            return
        build_data["force_include"][str(extension)] = f"pychrony/_engine/{EXTENSION}"
        build_data["pure_python"] = False
        if FREE_THREADED:
            build_data["infer_tag"] = True
        else:
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"cp{OLDEST[0]}{OLDEST[1]}-abi3-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled."""
        self.scratch.cleanup()

    def require_platform(self) -> None:
        """Stop where the wheel could not work."""
        if sys.platform != "linux" or sys.maxsize < 2**32:
            self.app.abort(f"pychrony needs 64-bit Linux, as chronyd's clients do: {sys.platform}")
        if sys.implementation.name != "cpython":
            self.app.abort(f"pychrony is built for CPython, not {sys.implementation.name}")

    def compile(self, line: list[str]) -> None:
        """Run the compiler; its own words are the error."""
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
