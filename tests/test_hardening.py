"""Tests the hardening that compiler and linker add to the shim."""

from __future__ import annotations

import re
import subprocess

import pytest
from surroundings import GLIBC

from pychrony._io import _shim


def readelf(*options: str) -> str:
    try:
        done = subprocess.run(
            ["readelf", "--wide", *options, str(_shim.__file__)],
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no readelf (binutils)")
    return done.stdout


def test_the_hardened_module_is_bound_before_it_runs_and_read_only_then() -> None:
    assert "GNU_RELRO" in readelf("--program-headers")
    assert "BIND_NOW" in readelf("--dynamic")


def test_the_hardened_module_has_no_executable_stack_and_no_text_to_relocate() -> None:
    [stack] = [line for line in readelf("--program-headers").splitlines() if "GNU_STACK" in line]
    assert "RWE" not in stack
    assert "TEXTREL" not in readelf("--dynamic")


def test_the_hardened_module_guards_its_stack_and_its_buffers() -> None:
    symbols = readelf("--dyn-syms")
    assert "__stack_chk_fail" in symbols
    if GLIBC:  # musl has no such functions
        assert re.search("__v?snprintf_chk", symbols)  # zig's header calls the one with a `v`


def test_the_hardened_module_shows_its_entry_alone() -> None:
    exported = [
        line.split()[-1]
        for line in readelf("--dyn-syms").splitlines()
        if " FUNC " in line and " GLOBAL " in line and " UND " not in line
    ]
    # musl's start files export these two from every shared object.
    harmless = set() if GLIBC else {"_init", "_fini"}
    assert set(exported) - harmless == {"PyInit__shim"}
