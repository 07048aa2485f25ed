"""actions/upload-artifact: copies files into a folder of the rehearsal."""

from __future__ import annotations

import shutil
from pathlib import Path

from rehearse.stand_ins import fail, inputs, settings


def main() -> None:
    """Store what the path names, relative to it."""
    given = inputs()
    folder = Path(settings()["artifacts"], given["name"])
    pattern = Path(given["path"])
    if pattern.is_dir():
        base, found = pattern, [path for path in pattern.rglob("*") if path.is_file()]
    else:
        base, found = pattern.parent, [p for p in Path().glob(given["path"]) if p.is_file()]
    if not found and given["if-no-files-found"] == "error":
        fail(f"No files were found with the provided path: {pattern}")
    if folder.exists() and given["overwrite"] != "true":
        fail(f"an artifact with the name {given['name']} already exists on the workflow run")
    shutil.rmtree(folder, ignore_errors=True)
    for path in found:
        target = folder / path.relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    print(f"artifact {given['name']}: {len(found)} files")


if __name__ == "__main__":
    main()
