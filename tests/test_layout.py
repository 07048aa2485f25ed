"""Tests which parts of the package use which."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pychrony

ROOT = Path(pychrony.__file__).parent
C = Path(__file__).parents[1] / "src/pychrony/_io"
"""The C files, which an installed package does not have."""
ROOMS = ("_model", "_io", "", "_testing", "_command")
"""From the bottom up: a module may import from its own part and from those before it."""
GROUND = {"exceptions", "_version"}
"""Modules that every room may use: they import nothing."""


def room(module: str) -> str:
    first = module.partition(".")[0]
    if first in ("testing", "__main__"):
        return {"testing": "_testing", "__main__": "_command"}[first]  # are made of these
    return first if first in ROOMS else ""


def imported(path: Path) -> Iterator[str]:
    """Name the modules of the package that a file imports when it is loaded or run."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            start = [*above, *(node.module or "").split(".")]
            yield ".".join(filter(None, start))


def test_imports_go_one_way() -> None:
    upward = []
    for path in ROOT.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        level = ROOMS.index(room(module))
        upward += [
            f"{module} imports {name}"
            for name in imported(path)
            if name not in GROUND and ROOMS.index(room(name)) > level
        ]
    assert upward == []


LAYERS = ("library.c", "records.c", "sockets.c", "exchange.c", "rounds.c", "batch.c", "loop.c")
"""The C files from the bottom up: each calls only itself and those before it."""
FUNCTION = re.compile(r"^(?!static)\w[\w *]*[ *](\w+)\([^;{]*\)\s*\{", re.M)
"""The definition of a function that other files can call."""


def code_of(name: str) -> str:
    """Return a C file without comments and strings."""
    text = (C / name).read_text()
    return re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', "", text, flags=re.S)


def test_c_calls_go_one_way() -> None:
    assert {path.name for path in C.glob("*.c")} == set(LAYERS)
    homes = {
        function: level
        for level, name in enumerate(LAYERS)
        for function in FUNCTION.findall(code_of(name))
    }
    assert {homes[name] for name in ("shim_load", "open_socket", "shim_run")} == {0, 2, 6}
    upward = [
        f"{name} calls {function}"
        for level, name in enumerate(LAYERS)
        for function in sorted(set(re.findall(r"(?<!chrony\.)\b\w+\b", code_of(name))))
        if homes.get(function, level) > level
    ]
    assert upward == []


def test_each_structure_is_used_only_from_its_layer_upwards() -> None:
    """A C file includes the header of its layer, which includes those of the layers below."""
    for level, name in enumerate(LAYERS):
        includes = set(re.findall(r'#include "(\w+)\.h"', (C / name).read_text()))
        own = {"library.c": "libchrony", "loop.c": "batch"}.get(name, name.removesuffix(".c"))
        assert includes == {own}, level
