"""Writes the packages of a conda channel, and the lists that installers read first."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

from rattler_build import Package, assemble_package

PLATFORM = "linux-aarch64" if platform.machine() == "aarch64" else "linux-64"

Content = str | bytes | Path
"""The content of a file: its text, its bytes, or the path it links to."""


class Channel:
    """A channel in a folder; `url` is for those who install from it."""

    def __init__(self, folder: Path) -> None:
        """Start with an empty channel."""
        self.folder = folder / "channel"
        self.staging = folder / "staging"
        self.url = self.folder.as_uri()
        for subdir in (PLATFORM, "noarch"):
            (self.folder / subdir).mkdir(parents=True)

    def add(
        self,
        name: str,
        version: str,
        files: Mapping[str, Content] | None = None,
        *,
        depends: Iterable[str] = (),
        build: str = "0",
        noarch: bool = False,
    ) -> None:
        """Make a package, unless it exists: several Pythons may share a wheel."""
        root = self.staging / f"{name}-{version}-{build}"
        if root.exists():
            return
        root.mkdir(parents=True)
        for path, content in (files or {}).items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                target.symlink_to(content)
                continue
            target.write_bytes(content.encode() if isinstance(content, str) else content)
            if target.parent.name in {"bin", "sbin", "python-scripts"}:
                target.chmod(0o755)
        subdir = "noarch" if noarch else PLATFORM
        assemble_package(
            name,
            version,
            subdir,
            build,
            self.folder / subdir,
            files_dir=root,
            depends=list(depends),
            noarch="python" if noarch else None,
            compression_level=1,
        )

    def index(self) -> None:
        """Write the lists that installers read first."""
        for folder in (self.folder / PLATFORM, self.folder / "noarch"):
            packages = {path.name: describe(path) for path in sorted(folder.glob("*.conda"))}
            lists = {"info": {"subdir": folder.name}, "packages": {}, "packages.conda": packages}
            (folder / "repodata.json").write_text(json.dumps(lists))


def describe(path: Path) -> dict[str, object]:
    """Return what a channel's list says about a package."""
    package = Package.from_file(path)
    described: dict[str, object] = {
        "name": package.name,
        "version": package.version,
        "build": package.build_string,
        "build_number": package.build_number,
        "depends": package.depends,
        "subdir": package.subdir,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size": path.stat().st_size,
    }
    return described | ({"noarch": package.noarch} if package.noarch else {})
