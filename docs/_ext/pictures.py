"""Makes every picture of the manual during the build, from a real run on the stage.

`{picture} COMMAND` shows the output of a command in a terminal's window; with `:file: NAME`, it
shows the picture that the command wrote. The lines below the options run before, and are not shown.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from examples import essence
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from stage import Stage

COLUMNS = 60


class Pictures:
    """The stage, started for the first picture, and the pictures made on it."""

    def __init__(self) -> None:
        self.stage: Stage | None = None
        self.drawn: dict[tuple[object, ...], str] = {}

    def draw(self, command: str, before: str, file: str, title: str, columns: int) -> str:
        """Return the picture of a command, as SVG."""
        key = (command, before, file, columns)
        if key not in self.drawn:
            if self.stage is None:
                self.stage = Stage().__enter__()
            self.drawn[key] = self._draw(self.stage, command, before, file, title, columns)
        return self.drawn[key]

    def _draw(
        self, stage: Stage, command: str, before: str, file: str, title: str, columns: int
    ) -> str:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            done = stage.run(before, folder=folder)
            if done.code:
                raise RuntimeError(f"{before!r} ended with {done.code}: {done.text}")
            if not file:
                written = stage.run(command, folder=folder, terminal=(columns, 40)).text
                return window(f"$ {command}\n{written}", title, columns)
            done = stage.run(command, folder=folder)
            if done.code:
                raise RuntimeError(f"{command!r} ended with {done.code}: {done.text}")
            return (folder / file).read_text()

    def close(self, *ignored: object) -> None:
        """Leave the stage."""
        if self.stage is not None:
            self.stage.__exit__(None, None, None)
            self.stage = None


def window(written: str, title: str, columns: int) -> str:
    """Return text with escape sequences as the SVG of a terminal's window."""
    last = written.replace("\r", "").rpartition("\x1b[H")[2].rstrip()
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=columns, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(last), crop=False)
    name = "w" + hashlib.sha256(last.encode()).hexdigest()[:8]
    svg = console.export_svg(title=title, theme=MONOKAI, unique_id=name)
    # The fonts would come from the network.
    return re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)


class Picture(SphinxDirective):
    """`{picture} COMMAND`, with its alternative text."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar = {
        "alt": directives.unchanged_required,
        "file": directives.unchanged,
        "columns": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        """Draw it, and put it where Sphinx finds it."""
        command = self.arguments[0]
        program = shlex.split(command)[0]
        columns = self.options.get("columns", COLUMNS)
        svg = PICTURES.draw(
            command,
            "\n".join(self.content) or "true",
            self.options.get("file", ""),
            program,
            columns,
        )
        digest = hashlib.sha256(repr((command, self.options, self.content)).encode()).hexdigest()
        name = f"{re.sub(r'[^a-z0-9]+', '-', command)[:40].strip('-')}-{digest[:6]}"
        picture = place(self.env, name, svg, self.options["alt"])
        if "file" not in self.options:
            picture["width"] = f"{columns * 0.6:.0f}em"  # the letters are as large as the page's
        return [picture]


def place(env: BuildEnvironment, name: str, svg: str, alt: str) -> nodes.image:
    """Return the node of a picture, which is put where Sphinx finds it."""
    folder = Path(env.doctreedir) / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    path.write_text(svg)
    return nodes.image(uri="/" + os.path.relpath(path, env.srcdir), alt=alt)


PICTURES = Pictures()


def words(svg: str) -> list[str]:
    """Return the lines of a terminal that a picture shows."""
    rows: dict[str, list[str]] = {}
    for y, text in re.findall(r'<text [^>]*y="([\d.]+)"[^>]*>([^<]*)</text>', svg):
        rows.setdefault(y, []).append(html.unescape(text).replace("\xa0", " "))
    return ["".join(parts) for parts in rows.values()]


def keep(path: Path, command: str) -> None:
    """Write a picture for other pages, such as README, unless only numbers differ."""
    svg = PICTURES.draw(command, "true", "", shlex.split(command)[0], COLUMNS)
    if not path.exists() or essence_of(path.read_text()) != essence_of(svg):
        path.parent.mkdir(exist_ok=True)
        path.write_text(svg)


def essence_of(svg: str) -> list[str]:
    """Return what a picture shows, except for numbers."""
    return essence("\n".join(words(svg)))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("picture", Picture)
    app.connect("build-finished", PICTURES.close)
    return {"parallel_read_safe": False}


if __name__ == "__main__":
    try:
        keep(Path(sys.argv[1]), sys.argv[2])
    finally:
        PICTURES.close()
