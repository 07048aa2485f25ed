"""Finds and loads libchrony when a call first needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

from ..exceptions import ChronyLibraryError
from ._shim import ffi, lib

__all__ = ["library_path", "supported_reports"]

SONAME = "libchrony.so.0"
VARIABLE = "PYCHRONY_LIBCHRONY"
UPSTREAM = "https://gitlab.com/chrony/libchrony"


class Attempt(NamedTuple):
    """One place where libchrony was looked for."""

    path: str
    reason: str
    """Why it cannot be used; empty if it can."""


_reports: dict[str, int] = {}  # libchrony's number of each report, once it is loaded


def reports() -> dict[str, int]:
    """Load libchrony unless that was done; return its number of each report."""
    return _reports or _load()


def supported_reports() -> tuple[str, ...]:
    """Return the names of all reports that the loaded libchrony knows.

    Raises `ChronyLibraryError` without libchrony.
    """
    return tuple(reports())


def library_path() -> str:
    """Return the path of the libchrony in use, after loading it.

    Raises `ChronyLibraryError` without libchrony.
    """
    reports()
    return os.fsdecode(ffi.string(lib.shim_path()))


def search() -> list[Attempt]:
    """Look for libchrony where `reports()` does; the last attempt may have succeeded."""
    chosen = _chosen()
    if chosen is not None:
        relative = "" if os.path.isabs(chosen) else f"{chosen!r} is not an absolute path"
        return [Attempt(chosen, relative or _try(chosen))]
    attempts: list[Attempt] = []
    for path in _candidates():
        attempts.append(Attempt(path, _try(path)))
        if not attempts[-1].reason:
            break
    return attempts


def how_to_install(release: Mapping[str, str]) -> str:
    """Return how to install libchrony on the distribution that `release` (os-release) describes."""
    system = release.get("ID", "")
    families = {system, *release.get("ID_LIKE", "").split()}
    otherwise = f"set {VARIABLE} to the absolute path of a {SONAME}"
    if families & {"rhel", "centos", "ol"}:
        return f"install it with 'dnf install libchrony' (it is in EPEL), or {otherwise}"
    if "fedora" in families and system != "amzn":  # Amazon Linux has neither's packages
        return f"install it with 'dnf install libchrony', or {otherwise}"
    name = release.get("PRETTY_NAME") or release.get("NAME") or "this system"
    return f"{name} does not package it: build it from {UPSTREAM}, and {otherwise}"


def _chosen() -> str | None:
    """Return what the user chose, which alone is tried then."""
    return None if _set_uid() else os.environ.get(VARIABLE)


def _candidates() -> list[str]:
    """Where to look otherwise: as the loader does, then in Python's own folders.

    A conda environment keeps its libraries in the `lib` folder of Python's prefix.
    """
    prefixes = dict.fromkeys((sys.prefix, sys.base_prefix))
    return [SONAME, *(os.path.join(prefix, "lib", SONAME) for prefix in prefixes)]


def _set_uid() -> bool:
    """Whether the caller's environment must not choose what this process loads."""
    return os.getuid() != os.geteuid() or os.getgid() != os.getegid()


def _try(path: str) -> str:
    """Load libchrony from `path`; return why that failed, or nothing."""
    reason = ffi.new("char[]", 512)
    if lib.shim_load(os.fsencode(path), reason, 512) == 0:
        return ""
    words = ffi.string(reason).decode(errors="replace")
    return words.removeprefix("Error loading shared library ")  # musl's; glibc begins with the path


def _load() -> dict[str, int]:
    attempts = search()
    if attempts[-1].reason:
        raise ChronyLibraryError(_explain(attempts))
    number = 0
    names: dict[str, int] = {}
    while (name := lib.shim_report(number)) != ffi.NULL:
        names[ffi.string(name).decode()] = number
        number += 1
    _reports.update(names)
    return _reports


def _explain(attempts: list[Attempt]) -> str:
    import platform  # only for this error

    tried = "; ".join(
        reason if path in reason else f"{path}: {reason}" for path, reason in attempts
    )
    if _chosen() is not None:
        return f"loading libchrony from {VARIABLE}: {tried}; correct the variable, or unset it"
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return f"loading libchrony: {tried}; {how_to_install(release)}"
