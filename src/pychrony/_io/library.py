"""Finds and loads libchrony when a call first needs it."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

import _cffi_backend  # noqa: F401  # _shim imports it, which PyInstaller cannot see

from ..exceptions import ChronyLibraryError
from ._shim import ffi, lib

__all__ = ["library_path", "supported_reports"]

# CFFI makes its functions, and lists the fields of its structs, when they are first used. Without a
# GIL, two threads that do so at the same time end the process ("lost a struct/union"), and a child
# that is forked meanwhile waits for ever.
for _name in dir(lib):
    getattr(lib, _name)
for _name in ("shim_ask", "shim_batch", "shim_field", "shim_place", "shim_shape"):
    _ = ffi.typeof(_name).fields

SONAME = "libchrony.so.0"
VARIABLE = "PYCHRONY_LIBCHRONY"
HOW_TO_INSTALL = (
    "install it with 'dnf install libchrony' (Fedora, or EPEL for RHEL and its relatives); "
    "elsewhere, build it from https://gitlab.com/chrony/libchrony, and set "
    f"{VARIABLE} to the absolute path of a {SONAME}"
)


class Attempt(NamedTuple):
    """One attempt to load libchrony."""

    path: str
    reason: str
    """Why it cannot be used; empty if it can."""


_reports: dict[str, int] = {}  # libchrony's number of each report, once it is loaded


def reports() -> dict[str, int]:
    """Load libchrony if necessary; return its number of each report."""
    return _reports or _load()


def supported_reports() -> tuple[str, ...]:
    """Return the names of all reports that the loaded libchrony knows.

    Raises `ChronyLibraryError` if libchrony cannot be found or used.
    """
    return tuple(reports())


def library_path() -> str:
    """Load libchrony if necessary, and return its path.

    Raises `ChronyLibraryError` if libchrony cannot be found or used.
    """
    reports()
    return os.fsdecode(ffi.string(lib.shim_path()))


def search() -> list[Attempt]:
    """Try to load libchrony from each place in turn; only the last attempt can have succeeded."""
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


def _chosen() -> str | None:
    """Return the path that the user chose; if there is one, nothing else is tried.

    A program with more rights than its user does not trust the environment, like the dynamic loader
    with its own variables.
    """
    return None if lib.shim_is_secure() else os.environ.get(VARIABLE)


def _candidates() -> list[str]:
    """Return where else to look: where the dynamic loader does, then in Python's own folders.

    A conda environment keeps its libraries in the `lib` folder of Python's prefix.
    """
    prefixes = dict.fromkeys((sys.prefix, sys.base_prefix))
    return [SONAME, *(os.path.join(prefix, "lib", SONAME) for prefix in prefixes)]


def _try(path: str) -> str:
    """Load libchrony from `path`; return why that failed, or an empty text."""
    reason = ffi.new("char[]", 512)
    if lib.shim_load(os.fsencode(path), reason, 512) == 0:
        return ""
    words = ffi.string(reason).decode(errors="replace")
    return words.removeprefix("Error loading shared library ")  # musl's; glibc begins with the path


def _load() -> dict[str, int]:
    attempts = search()
    if attempts[-1].reason:
        raise _not_found(attempts)
    number = 0
    names: dict[str, int] = {}
    while (name := lib.shim_report(number)) != ffi.NULL:
        names[ffi.string(name).decode()] = number
        number += 1
    _reports.update(names)
    return _reports


def _not_found(attempts: list[Attempt]) -> ChronyLibraryError:
    tried = "; ".join(
        reason if path in reason else f"{path}: {reason}" for path, reason in attempts
    )
    if _chosen() is None:
        return ChronyLibraryError._compose("loading libchrony", "", tried, HOW_TO_INSTALL)
    advice = "correct the variable, or unset it"
    return ChronyLibraryError._compose("loading libchrony from", VARIABLE, tried, advice)
