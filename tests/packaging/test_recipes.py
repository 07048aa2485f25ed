"""Tests the conda recipes: renders them for each platform, and builds them from a local channel."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import artifacts
import pytest
from channel import PLATFORM, Channel, interpreter, make_channel
from installed import pythons
from rattler.package_streaming import extract
from rattler_build import (
    BuildError,
    Package,
    PlatformConfig,
    RenderConfig,
    RenderedVariant,
    Stage0Recipe,
    ToolConfiguration,
    VariantConfig,
)
from rattler_build.progress import SimpleProgressCallback

from recipe import RECIPES, ROOT, submit, variants

PLATFORMS = ("linux-64", "linux-aarch64")
SERIES = ["3.11", "3.12", "3.13", "3.14", "3.15"]


def render(recipe: Path, platform: str, build_platform: str | None = None) -> list[RenderedVariant]:
    known = VariantConfig.from_file(RECIPES / "variants.yaml")
    return Stage0Recipe.from_file(recipe).render(known, on(platform, build_platform))


def on(platform: str, build_platform: str | None = None) -> RenderConfig:
    return RenderConfig(
        platform=PlatformConfig(
            target_platform=platform,
            host_platform=platform,
            build_platform=build_platform or platform,
        )
    )


# ---- Rendered ----


@pytest.mark.parametrize("platform", PLATFORMS)
def test_pychrony_renders_for_every_python_and_is_built_on_the_oldest(platform: str) -> None:
    recipe = RECIPES / "pychrony" / "recipe.yaml"
    rendered = render(recipe, platform)
    assert sorted(v.variant["python"].split(".*")[0] for v in rendered) == SERIES
    for variant in rendered:
        requirements = variant.recipe.requirements.to_dict()
        assert requirements["build"] == [f"gcc_{platform}", f"sysroot_{platform} 2.17.*"]
        assert "python-abi3" in requirements["host"]
        assert requirements["run"] == ["python", "cffi >=1.17", "libchrony >=0.1,<1"]
    (built,) = variants(recipe, on(platform))
    assert built.variant["python"].startswith("3.11.")


def test_a_cross_build_of_pychrony_brings_a_python_for_each_machine() -> None:
    for variant in render(RECIPES / "pychrony" / "recipe.yaml", "linux-aarch64", "linux-64"):
        build = variant.recipe.requirements.to_dict()["build"]
        assert build[:3] == ["python", "cross-python_linux-aarch64", "cffi"]


def test_a_free_threaded_python_would_get_a_build_of_its_own() -> None:
    known = VariantConfig.from_yaml(
        "{is_abi3: [false], is_python_min: [false], python: [3.14.* *_cp314t],"
        " python_min: ['3.11'], c_stdlib: [sysroot], c_stdlib_version: ['2.17']}"
    )
    recipe = Stage0Recipe.from_file(RECIPES / "pychrony" / "recipe.yaml")
    (variant,) = recipe.render(known, on("linux-64"))
    assert "python-abi3" not in variant.recipe.requirements.to_dict()["host"]


@pytest.mark.parametrize("name", ["libchrony", "pychrony"])
def test_a_recipe_is_for_linux_alone(name: str) -> None:
    skip = Stage0Recipe.from_file(RECIPES / name / "recipe.yaml").to_dict()["build"]["skip"]
    assert "not linux" in skip


# ---- Built ----


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Channel:
    here = [interpreter(python) for python in pythons()]
    machine = [python for python in here if python.series in SERIES]
    if not machine or machine[0].series != SERIES[0]:
        pytest.fail(f"the recipes are built on Python {SERIES[0]}, which is not on this machine")
    chronyd = subprocess.check_output([ROOT / "tools" / "chronyd.sh"], text=True)
    # The oldest and the newest: the two that the recipe's tests ask for.
    both = machine[:: max(1, len(machine) - 1)]
    return make_channel(tmp_path_factory.mktemp("conda"), both, Path(chronyd.strip()))


@pytest.fixture(scope="module", autouse=True)
def _separate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let rattler unpack packages apart from the user's real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATTLER_CACHE_DIR", str(tmp_path_factory.mktemp("rattler")))
        yield


class Built(NamedTuple):
    """The packages of both recipes, and the output of building them."""

    folder: Path
    log: str

    def package(self, name: str) -> Package:
        (path,) = self.folder.glob(f"{PLATFORM}/{name}-*.conda")
        return Package.from_file(path)


@pytest.fixture(scope="module")
def built(channel: Channel, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("packages")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYCHRONY_ENV": "ready",
    }
    done = subprocess.run(
        ["tools/run", "recipes", "--channel", channel.url, "--output", folder],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-20000:]
    return Built(folder, done.stdout)


def test_both_packages_pass_the_tests_of_their_recipes(built: Built) -> None:
    assert built.log.count("all tests passed!") >= 2
    assert "libchrony has all 22 functions" in built.log
    assert "./linked" in built.log
    assert built.log.count("python imports test passed!") == 2
    assert "0 ABI violations found" in built.log
    assert re.search(r"= (\d\d+) passed", built.log)
    assert "+ test 'pychrony 0.0.0' = 'pychrony 0.0.0'" in built.log
    assert re.search(r"\+ test (\S+/lib/libchrony\.so\.0) = \1\n", built.log)


def test_one_package_of_pychrony_is_for_all_pythons_from_the_oldest_on(built: Built) -> None:
    package = built.package("pychrony")
    assert {"cpython >=3.11", "cffi >=1.17", "libchrony >=0.1,<1", "python"} <= set(package.depends)
    extras = "aiohttp", "bcrypt", "matplotlib-base", "prometheus_client", "pyyaml"
    assert {constraint.split()[0] for constraint in package.constrains} == set(extras)
    assert "site-packages/pychrony/_io/_shim.abi3.so" in package.files
    assert not [path for path in package.files if "libchrony.so" in path]


def test_the_package_of_libchrony_holds_the_library_and_its_licence_alone(built: Built) -> None:
    package = built.package("libchrony")
    files = [path for path in package.files if not path.startswith("etc/conda/test-files/")]
    assert files == ["lib/libchrony.so.0"]
    assert package.license == "LGPL-2.1-or-later"
    assert "info/licenses/LGPL-2.1-or-later.txt" in built.log
    assert re.search(r"libchrony +┆ >=0\.2,<1\.0a0", built.log)  # its run_exports


def test_libchrony_is_packaged_for_the_other_platform_too(channel: Channel, tmp_path: Path) -> None:
    (other,) = {*PLATFORMS} - {PLATFORM}
    (variant,) = variants(RECIPES / "libchrony" / "recipe.yaml", on(other, PLATFORM))
    result = variant.run_build(channels=[channel.url], output_dir=tmp_path)
    assert result.platform == other
    extract(result.packages[0], tmp_path / "files")
    header = (tmp_path / "files" / "lib" / "libchrony.so.0").read_bytes()[:20]
    machine = {"linux-64": 62, "linux-aarch64": 183}[other]  # as the ELF format numbers them
    assert int.from_bytes(header[18:20], "little") == machine


def test_a_library_with_the_wheels_own_soname_fails_the_recipes_test(
    channel: Channel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recipe" / "libchrony"
    folder.mkdir(parents=True)
    for path in (RECIPES / "libchrony").iterdir():
        text = path.read_text().replace("../../", f"{ROOT}/")
        (folder / path.name).write_text(re.sub(r"\n.*patchelf --set-soname.*", "", text))
    (variant,) = variants(folder / "recipe.yaml")
    with pytest.raises(BuildError, match="Test failed"):
        variant.run_build(
            ToolConfiguration(test_strategy="native"),
            channels=[channel.url],
            output_dir=tmp_path / "out",
            progress_callback=SimpleProgressCallback(),
        )
    # By what is linked to it, which asks for a file that nobody has.
    assert re.search(r"\./linked: .* libchrony-\S+: cannot open", capsys.readouterr().out)


# ---- Submitted ----


@pytest.fixture
def release(sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tree = artifacts.unpack(sdist, tmp_path)  # the working tree would take the version for its own
    (tree / "PKG-INFO").unlink()  # which has another one
    monkeypatch.setenv("SETUPTOOLS_SCM_PRETEND_VERSION", "1.2.3")
    return artifacts.build_sdist(tree, tmp_path)


def test_the_submission_names_the_sdist_on_the_release(release: Path, tmp_path: Path) -> None:
    recipe = submit(release, tmp_path)
    assert recipe == tmp_path / "recipes" / "pychrony" / "recipe.yaml"
    (variant,) = variants(recipe)
    assert variant.recipe.package.version == "1.2.3"
    (source,) = variant.recipe.to_dict()["source"]
    assert source["url"] == (
        "https://github.com/arunderwood/pychrony/releases/download/v1.2.3/pychrony-1.2.3.tar.gz"
    )
    assert source["sha256"] == hashlib.sha256(release.read_bytes()).hexdigest()


def test_nothing_of_the_working_tree_is_in_the_submission(release: Path, tmp_path: Path) -> None:
    text = submit(release, tmp_path).read_text()
    for trace in ("..", "working tree", "0.0.0", "SETUPTOOLS_SCM"):
        assert trace not in text


def test_the_submission_builds_the_sdist(release: Path, channel: Channel, tmp_path: Path) -> None:
    recipe = submit(release, tmp_path)
    recipe.write_text(re.sub(r"url: https://.*", f"url: {release.as_uri()}", recipe.read_text()))
    (variant,) = variants(recipe)
    result = variant.run_build(channels=[channel.url], output_dir=tmp_path / "out")
    package = Package.from_file(result.packages[0])
    assert package.version == "1.2.3"
    assert "site-packages/pychrony-1.2.3.dist-info/METADATA" in package.files


@pytest.mark.parametrize("name", ["pychrony-1.2.3.dev4.tar.gz", "pychrony-1.2.3-py3-none-any.whl"])
def test_only_a_release_can_be_submitted(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the sdist of a release"):
        submit(tmp_path / name, tmp_path)
