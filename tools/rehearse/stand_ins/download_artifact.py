"""actions/download-artifact: copies what upload_artifact.py stored."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path

from rehearse.stand_ins import fail, inputs, settings


def main() -> None:
    """Copy one artifact, or all whose names match."""
    given = inputs()
    stored = Path(settings()["artifacts"])
    target = Path(given["path"])
    if given["name"]:
        if not (stored / given["name"]).is_dir():
            fail(f"Unable to download artifact(s): Artifact not found for name: {given['name']}")
        copy(stored / given["name"], target)
        return
    for folder in sorted(stored.iterdir()):
        if fnmatch(folder.name, given["pattern"]):
            copy(folder, target if given["merge-multiple"] == "true" else target / folder.name)


def copy(folder: Path, target: Path) -> None:
    """Copy all that is in a folder."""
    shutil.copytree(folder, target, dirs_exist_ok=True)
    print(f"{folder.name} to {target}")


if __name__ == "__main__":
    main()
