"""Tests the public names, and the places from which programs for 2.x import them."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Literal, get_origin

import pytest
from programs import output

import pychrony

OF_VERSION_2 = {
    "pychrony.models": "LeapStatus RTCData Source SourceMode SourceState SourceStats "
    "TrackingStatus",
    "pychrony.exceptions": "ChronyConnectionError ChronyDataError ChronyError ChronyLibraryError "
    "ChronyPermissionError",
}
"""Names that programs for pychrony 2.x import from its modules."""

NAMES: list[str] = pychrony.__all__  # type: ignore[attr-defined]  # it is made at run time
MODULES = [import_module(f"pychrony.{name}") for name in vars(pychrony)["_MODULES"]]
STATIC = ast.parse(Path(pychrony.__file__).read_text())


def test_the_names_of_the_modules_are_those_of_the_package() -> None:
    listed = {name for module in MODULES for name in module.__all__}
    assert set(NAMES) == {*listed, "__version__"}
    assert set(NAMES) <= set(dir(pychrony))


def test_every_name_that_is_listed_exists_and_is_documented() -> None:
    named = {name: getattr(pychrony, name) for name in NAMES}
    bare = [name for name, value in named.items() if not value.__doc__]
    # The docstring of a type alias stands below it, where only editors and the manual see it.
    assert [name for name in bare if get_origin(named[name]) is not Literal] == []


def test_type_checkers_see_the_names_of_the_same_modules() -> None:
    seen = {
        node.module
        for node in ast.walk(STATIC)
        if isinstance(node, ast.ImportFrom) and node.level and node.names[0].name == "*"
    }
    assert seen == set(vars(pychrony)["_MODULES"])


def test_no_name_stands_in_two_modules() -> None:
    names = [name for module in MODULES for name in module.__all__]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("module", OF_VERSION_2)
def test_the_modules_of_version_2_have_their_names(module: str) -> None:
    assert set(OF_VERSION_2[module].split()) <= set(vars(import_module(module)))


def test_a_star_brings_every_name() -> None:
    program = "from pychrony import *; print(get_tracking.__name__, LeapStatus.NORMAL, __version__)"
    assert output(program) == f"get_tracking LeapStatus.NORMAL {pychrony.__version__}\n"


@pytest.mark.parametrize("name", ["get_trackng", "os", "_nothing", "__wrapped__"])
def test_a_name_that_is_not_there_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'pychrony' has no attribute '{name}'"):
        getattr(pychrony, name)
