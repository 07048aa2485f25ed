"""Tests which parts of the package import which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pychrony

ROOT = Path(pychrony.__file__).parent
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
