"""Writes the packages of a conda channel."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

from rattler.index import index_fs
from rattler_build import assemble_package

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
    ) -> None:
        """Make a package."""
        root = self.staging / f"{name}-{version}-{build}"
        root.mkdir(parents=True)
        for path, content in (files or {}).items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                target.symlink_to(content)
                continue
            target.write_bytes(content.encode() if isinstance(content, str) else content)
            if target.parent.name in {"bin", "sbin"}:
                target.chmod(0o755)
        assemble_package(
            *(name, version, PLATFORM, build, self.folder / PLATFORM),
            files_dir=root,
            depends=list(depends),
            compression_level=1,
        )

    def index(self) -> None:
        """Write the lists that installers read first."""
        asyncio.run(index_fs(self.folder))
