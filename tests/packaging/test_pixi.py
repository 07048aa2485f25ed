"""Tests the pixi workspace, as far as that is possible without pixi and its channels.

Its tasks are commands of `tools/run`, which the gate and CI run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from artifacts import ROOT
from installed import toml
from rattler import MatchSpec

SCHEMA = ROOT.parent / "shared" / "pixi-schema.json"
MANIFESTS = ("pixi.toml", "recipe/libchrony/pixi.toml")
PIXI = toml(ROOT / "pixi.toml")
TABLES = {"": PIXI} | PIXI["feature"]
TASKS: dict[str, dict[str, Any]] = {
    name: task for table in TABLES.values() for name, task in table.get("tasks", {}).items()
}
COMMANDS: dict[str, str] = {name: task["cmd"] for name, task in TASKS.items() if "cmd" in task}


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_manifest_is_valid_by_pixis_own_schema(manifest: str) -> None:
    if not SCHEMA.exists():
        pytest.skip("pixi's schema is not beside this checkout")
    check = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(SCHEMA), manifest]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("feature", TABLES)
def test_every_dependency_is_a_valid_match_spec(feature: str) -> None:
    for name, spec in TABLES[feature].get("dependencies", {}).items():
        if isinstance(spec, str):
            MatchSpec(f"{name} {spec}", strict=True)
        else:
            assert (ROOT / spec["path"] / "recipe.yaml").is_file()


def test_a_dependency_stands_in_one_place_and_features_share_it() -> None:
    names = [name for table in TABLES.values() for name in table.get("dependencies", {})]
    assert sorted({name for name in names if names.count(name) > 1}) == ["python"]


def test_the_package_is_compiled_by_the_environment_it_is_installed_in() -> None:
    assert PIXI["pypi-dependencies"]["pychrony"] == {"path": ".", "editable": True}
    assert PIXI["pypi-options"]["no-build-isolation"] == ["pychrony"]
    assert {"c-compiler", "cffi", "hatch-vcs", "hatchling"} <= PIXI["dependencies"].keys()


def test_linting_runs_where_there_is_neither(tmp_path: Path) -> None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for name in ("bash", "dirname", "env", "ruff", "sh", "shellcheck"):
        (tmp_path / name).symlink_to(shutil.which(name, path=places) or name)
    ready = PIXI["feature"]["lint"]["activation"]["env"]
    run(COMMANDS["lint"], ROOT, {**os.environ, **ready, "PATH": str(tmp_path)})


def test_activation_puts_the_folder_of_daemons_on_the_path() -> None:
    (script,) = PIXI["activation"]["scripts"]
    command = ["sh", "-c", f'. ./{script}; echo "$PATH"']
    environment = {"CONDA_PREFIX": "/conda", "PATH": os.defpath}
    path = subprocess.check_output(command, cwd=ROOT, env=environment, text=True)
    assert path == f"/conda/sbin:{os.defpath}\n"


# ---- Tasks ----


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_does_and_names_only_what_there_is(name: str) -> None:
    task = TASKS[name]
    assert task["description"]
    assert task.get("default-environment", "default") in PIXI["environments"]
    for step in task.get("depends-on", []):
        assert step["task"] in TASKS
        assert step["environment"] in PIXI["environments"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_means_the_same_to_any_shell(name: str) -> None:
    # pixi's own shell is not bash.
    assert re.fullmatch(r"(env -u LDFLAGS )?tools/run [a-z-]+", COMMANDS[name])


def test_the_tasks_are_tasks_of_tools_run() -> None:
    listed = subprocess.check_output([ROOT / "tools" / "run"], text=True)
    theirs = {line.split()[0] for line in listed.splitlines()}
    ours = {command.split()[-1] for command in COMMANDS.values()}
    assert ours <= theirs
    assert {task for task in theirs if task.startswith("test")} - {"test-on"} <= ours


def test_a_wheel_does_not_keep_the_path_of_condas_environment(tmp_path: Path) -> None:
    tree = tmp_path / "pychrony"
    subprocess.run(["git", "clone", "--quiet", ROOT, tree], check=True)
    conda = {"LDFLAGS": "-Wl,-rpath,/conda/lib", **PIXI["activation"]["env"]}
    places = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run(COMMANDS["build-wheel"], tree, {**os.environ, **conda, "PATH": places})
    (wheel,) = (tree / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (extension,) = (name for name in archive.namelist() if name.endswith(".so"))
        assert b"/conda" not in archive.read(extension)


def run(command: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a command as pixi does, in the project's folder."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
