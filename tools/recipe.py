#!/usr/bin/env python3
"""The conda recipes: build them here, or make the submission to conda-forge.

    recipe.py build               both packages from this working tree, and test them
    recipe.py submission SDIST    the recipe for the release of this sdist

Building needs the dependency group `recipes`, and a channel with everything else.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rattler_build import RenderConfig, RenderedVariant

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipe"
RELEASES = "https://github.com/arunderwood/pychrony/releases/download"
# Lines about the working tree, and their replacements in a release.
WORKING_TREE = {
    r"^# Builds the working tree.*\n": "",
    r'^  version: "0\.0\.0"\n': '  version: "{version}"\n',
    r"^  script:\n    env:.*\n.*\n    content: ": "  script: ",
    r"^  path: \.\./\.\.\n": "  url: {url}\n  sha256: {sha256}\n",
}


def main() -> None:
    """Do what the command line says."""
    options = parse_arguments()
    if options.task == "build":
        build(options.channel or ["conda-forge"], options.output)
        return
    try:
        print(submit(options.sdist, options.output))
    except (ValueError, OSError) as error:
        sys.exit(f"recipe.py: {error}")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = parser.add_subparsers(dest="task", required=True)
    task = tasks.add_parser("build", help="build and test both packages")
    task.add_argument("--channel", action="append", help="instead of conda-forge; can be repeated")
    task.add_argument("--output", type=Path, default=ROOT / "build" / "conda", metavar="DIR")
    task = tasks.add_parser("submission", help="write the recipe of a release")
    task.add_argument("sdist", type=Path, help="the file that is on the GitHub release")
    place = ROOT / "build" / "staged-recipes"
    task.add_argument("--output", type=Path, default=place, metavar="DIR")
    return parser.parse_args()


def build(channels: list[str], output: Path) -> None:
    """Build both packages for this machine, and run their tests."""
    from rattler_build import ToolConfiguration
    from rattler_build.progress import SimpleProgressCallback

    for name in ("libchrony", "pychrony"):  # its tests need the first package
        for variant in variants(RECIPES / name / "recipe.yaml"):
            variant.run_build(
                ToolConfiguration(test_strategy="native"),
                output_dir=output,
                channels=channels,
                progress_callback=SimpleProgressCallback(),
            )


def variants(recipe: Path, config: RenderConfig | None = None) -> list[RenderedVariant]:
    """Render a recipe for conda-forge's variants, except those that it skips."""
    from rattler_build import Stage0Recipe, VariantConfig

    known = VariantConfig.from_file(RECIPES / "variants.yaml")
    rendered = Stage0Recipe.from_file(recipe).render(known, config)
    # Rendering leaves `skip` to its caller.
    return [variant for variant in rendered if variant.variant.get("is_python_min", True)]


def submit(sdist: Path, output: Path) -> Path:
    """Write the recipe of a release as conda-forge/staged-recipes wants it, and return its path."""
    name = re.fullmatch(r"pychrony-(\d+(\.\d+)*)\.tar\.gz", sdist.name)
    if name is None:
        raise ValueError(f"{sdist.name}: not the sdist of a release, such as pychrony-1.2.3.tar.gz")
    values = {
        "version": name[1],
        # With the version as a variable, so that conda-forge's bot finds the next release.
        "url": RELEASES + "/v${{ version }}/pychrony-${{ version }}.tar.gz",
        "sha256": hashlib.sha256(sdist.read_bytes()).hexdigest(),
    }
    text = (RECIPES / "pychrony" / "recipe.yaml").read_text()
    for pattern, replacement in WORKING_TREE.items():
        text, count = re.subn(pattern, replacement.format(**values), text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"recipe/pychrony/recipe.yaml has {count} lines {pattern!r}, not one")
    recipe = output / "recipes" / "pychrony" / "recipe.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(text)
    return recipe


if __name__ == "__main__":
    main()
