#!/usr/bin/env python3
"""Find a libchrony for tests, and print its path.

It is the system's if the dynamic loader finds one. Otherwise, since Debian and Ubuntu have no
package of libchrony, it is the shared object from the wheel of pychrony 2.0.3, which included one.
The wheel is downloaded once, into $XDG_CACHE_HOME/pychrony or ~/.cache/pychrony. Any option selects
the wheel's library.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

SONAME = "libchrony.so.0"
REQUIREMENT = "pychrony==2.0.3"
TAGS = {"glibc": "manylinux_2_28", "musl": "musllinux_1_2"}
ARCHITECTURES = ("x86_64", "aarch64")
SHA256 = {
    "manylinux_2_28_x86_64": "03b8bdfbd5a5b0f701b751c45f2aa8d27ba7bb48b11bb2a147383342e1a9d1ce",
    "manylinux_2_28_aarch64": "acc4123ad03c9879b69aa268f93eb902f93f595f2f92772e23e6592a893e80ec",
    "musllinux_1_2_x86_64": "1ed2737dd91e3e352299c51ab9ea88e3746c9ff935a4b5583d5301a5fcf0355b",
    "musllinux_1_2_aarch64": "45da18095cde9e93c4bdee5d4a4cd9592985a24a30475ada2a51234986b92aac",
}
# What is taken from the wheel: the library, and its licence, which must accompany it.
MEMBERS = {
    "pychrony.libs/libchrony-*.so.0.0.1": SONAME,
    "*.dist-info/licenses/LICENSES/LGPL-2.1-or-later.txt": "LGPL-2.1-or-later.txt",
}
WAY_OUT = "install libchrony, or set PYCHRONY_LIBCHRONY to the path of one"


class UnavailableError(Exception):
    """There is no libchrony; the message says why, and what to do."""


def main() -> None:
    """Print the path of a libchrony."""
    options = parse_arguments()
    try:
        print(find(options.arch, options.libc, options.output, options.ignore_system))
    except (UnavailableError, OSError) as error:
        sys.exit(f"libchrony.py: {error}")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", choices=ARCHITECTURES, help="instead of this machine's")
    parser.add_argument("--libc", choices=TAGS, help="instead of this Python's")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="put the library and its licence there"
    )
    parser.add_argument("--ignore-system", action="store_true", help="even if the system has one")
    return parser.parse_args()


def find(arch: str | None, libc: str | None, output: Path | None, ignore_system: bool) -> Path:
    """Return the path of a suitable library."""
    if not (arch or libc or output or ignore_system):
        system = system_library()
        if system:
            return system
    wheel = cached_wheel(f"{TAGS[libc or this_libc()]}_{arch or platform.machine()}")
    return extract(wheel, (output or wheel.parent).absolute())


def system_library() -> Path | None:
    """Return the path of the file that the dynamic loader loads as `libchrony.so.0`."""
    try:
        import ctypes  # a Python built without libffi has no ctypes

        ctypes.CDLL(SONAME)
    except (ImportError, OSError):
        return None
    # The loader does not report the path, but the kernel lists all files mapped into this process.
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        if path.name.startswith("libchrony.so"):
            return path
    return None


def this_libc() -> str:
    """Return the name of the C library that this Python uses."""
    return "glibc" if platform.libc_ver()[0] == "glibc" else "musl"


def cached_wheel(tag: str) -> Path:
    """Return the wheel for a platform tag; download it if necessary."""
    if tag not in SHA256:
        raise UnavailableError(f"no wheel of {REQUIREMENT} is for {tag}; {WAY_OUT}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "pychrony" / "libchrony" / tag
    wheel = folder / "pychrony.whl"
    if not (wheel.is_file() and sha256(wheel) == SHA256[tag]):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fetch(tag, Path(scratch)).replace(wheel)
    return wheel


def fetch(tag: str, folder: Path) -> Path:
    """Download the wheel for a platform tag, and refuse any but the pinned one."""
    options = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    target = ["--python-version", "3.11", "--implementation", "cp", "--platform", tag]
    command = [python_with_pip(), "-m", "pip", "download", *options, *target, REQUIREMENT]
    # Also outside a virtual environment, whatever the user's pip settings are.
    environment = os.environ | {"PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip = subprocess.run(command, env=environment, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        raise UnavailableError(
            f"{' '.join(command)} ended with status {pip.returncode}:\n{pip.stderr.rstrip()}\n"
            f"check that pip reaches its package index; else {WAY_OUT}"
        )
    found = sha256(wheels[0])
    if found != SHA256[tag]:
        raise UnavailableError(
            f"{wheels[0].name} is not the published file: sha256 {found}, not {SHA256[tag]}; "
            f"check the package index that pip is set to use, else {WAY_OUT}"
        )
    return wheels[0]


def python_with_pip() -> str:
    """Return a Python that has pip: this one if possible, but many have none."""
    others = [
        shutil.which("python3", path=f"{sys.base_prefix}/bin"),  # not the virtual environment's
        shutil.which("python3"),
        shutil.which("python3", path=os.defpath),
    ]
    for python in filter(None, [sys.executable, *others]):
        check = [python, "-c", "import pip, ssl"]
        if subprocess.run(check, capture_output=True).returncode == 0:
            if python != sys.executable:
                lacks = f"{sys.executable} has no pip or no ssl, using {python}"
                print(f"libchrony.py: {lacks}", file=sys.stderr)
            return python
    raise UnavailableError(
        f"no pip that can fetch {REQUIREMENT}, neither {sys.executable}'s nor another python3's; "
        f"run this with the python of a virtual environment, else {WAY_OUT}"
    )


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def extract(wheel: Path, folder: Path) -> Path:
    """Put the library and its licence into a folder, and return the library's path."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            for pattern, name in MEMBERS.items():
                if fnmatch(member, pattern):
                    write(folder / name, archive.read(member))
    return folder / SONAME


def write(path: Path, content: bytes) -> None:
    """Write a file atomically, so that nobody sees it half-written."""
    if path.is_file() and path.read_bytes() == content:
        return
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    scratch.replace(path)


if __name__ == "__main__":
    main()
