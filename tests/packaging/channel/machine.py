"""Adds packages to a channel that refer to Python, the compiler and chronyd of this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from .packages import PLATFORM, Channel, Content

# What conda-forge's compiler does when its environment is activated, as far as it matters here.
ACTIVATE_COMPILER = """\
export CC={cc}
prefix=${{PREFIX:-$CONDA_PREFIX}}
export CFLAGS="${{CFLAGS:-}} -O2 -isystem $prefix/include"
export LDFLAGS="${{LDFLAGS:-}} -Wl,-rpath,$prefix/lib -L$prefix/lib"
"""
ACTIVATE_ABI3 = """\
export CPPFLAGS="${CPPFLAGS:-} -DPy_LIMITED_API=0x030B0000"
"""
RUN_ELSEWHERE = """\
#!/bin/sh
exec {program} "$@"
"""


class Interpreter(NamedTuple):
    """A Python of this machine."""

    path: Path
    version: str
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


def interpreter(path: str) -> Interpreter:
    """Ask a Python for its version and its folders."""
    script = (
        "import platform, sys, sysconfig;"
        "print(sys.executable, platform.python_version(), sysconfig.get_path('include'))"
    )
    executable, version, include = subprocess.check_output([path, "-c", script], text=True).split()
    return Interpreter(Path(executable), version, Path(include))


def add_compiler(channel: Channel) -> None:
    """Add the C compiler under conda-forge's names."""
    name = f"gcc_{PLATFORM}"
    script = ACTIVATE_COMPILER.format(cc=shutil.which("cc"))
    channel.add(name, "15.1.0", {f"etc/conda/activate.d/{name}.sh": script})
    channel.add(f"sysroot_{PLATFORM}", "2.17")


def add_python(channel: Channel, python: Interpreter) -> None:
    """Add a Python, which is linked into an environment as into a virtual environment."""
    files: dict[str, Content] = {
        "bin/python": Path(f"python{python.series}"),
        "bin/python3": Path(f"python{python.series}"),
        f"bin/python{python.series}": python.path,
        f"include/python{python.series}": python.include,
        "pyvenv.cfg": f"home = {python.path.parent}\nversion = {python.version}\n",
    }
    channel.add("python", python.version, files, build=python.build)
    channel.add("cpython", python.version, depends=[f"python {python.version}"])


def add_stable_abi(channel: Channel) -> None:
    """Add the packages that let a package for the oldest Python serve all later ones."""
    exports = {"weak": ["cpython >=3.11", "_python_abi3_support 1.*"]}
    files = {
        "etc/conda/activate.d/python-abi3.sh": ACTIVATE_ABI3,
        "info/run_exports.json": json.dumps(exports),
    }
    channel.add("python-abi3", "3.11", files, depends=["python 3.11.*", "_python_abi3_support"])
    channel.add("_python_abi3_support", "1.0", depends=["cpython"])


def add_chrony(channel: Channel, folder: Path) -> None:
    """Add chronyd and chronyc, where conda-forge's package has them."""
    programs = {"sbin/chronyd": folder / "chronyd", "bin/chronyc": folder / "chronyc"}
    scripts = {place: RUN_ELSEWHERE.format(program=path) for place, path in programs.items()}
    channel.add("chrony", "4.9", scripts)
