"""Runs the examples of a page, and compares what they print with what the page shows.

A `console` block has commands after `$`, and their output. A `python` block runs in the same
process as the Python blocks above it; a `text` block right below it is its output. A block with a
caption is a file of that name for the blocks below. An `sh` block is for other machines and is not
run: it may call only the programs in `ELSEWHERE`.

As a program, `examples.py PAGE...` writes the output of the examples into the pages;
`examples.py --modules FOLDER PAGE...` writes each page's Python into modules for type checkers.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from stage import Stage

ELSEWHERE = {"pip", "pipx", "dnf", "apt", "conda", "docker", "kubectl", "systemctl", "usermod"}
ELSEWHERE |= {"python3", ".", "git", "export", "/opt/pychrony/bin/pip"}
"""Programs that change a machine, or need something missing here: they are not run."""

RUN = {"console", "python"}
SHOWN = {"text", "toml", "yaml", "json", "ini", "sh", "c", "dockerfile", "promql", "xml"}

ASIDE = (
    (r"\b\d{4}-\d\d-\d\dT[\d:.]+Z", "0"),  # times, as we and chronyc write them
    (r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d \d{4}\b", "0"),
    (r"\b[0-9A-F]{8}\b", "0"),  # reference IDs
    (r"\[ +", "["),  # numbers that chronyc pads
    (r"(?<![A-Za-z])[+-]?\d[\d.,:]*(e[+-]?\d+)?", "0"),
    (r"(?<=0) ?[nµmu]?s\b", " s"),
    (r"\b(fast|slow|ahead|behind)\b", "ahead"),
    # Which good sources are combined with the best one.
    (r"(?<![^\s^])[+-](?= (combined|selectable|distant|large distance)\b)", "+"),
    (r"(?<=\^)[+-]", "+"),
    (r"\b(combined|selectable)\b", "combined"),
    (r"\b(UNSELECTED|SELECTABLE)\b", "SELECTABLE"),
    (r"-{2,}", "--"),  # the line under a heading is as wide as its column
)
"""Patterns of what differs between runs, and what is compared instead."""

# One process runs all Python blocks of a page; each line of its input is a block, in JSON.
SHELL = """
import contextlib, io, json, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        try:
            exec(compile(json.loads(line), "<example>", "exec"), names)
        except Exception:
            traceback.print_exc()
    print(json.dumps(written.getvalue()), flush=True)
"""


class Block(NamedTuple):
    """A fenced block of a page, with the first line of its content and the line after the last."""

    language: str
    caption: str
    content: str
    start: int
    end: int


class Difference(NamedTuple):
    """The output of an example that differs from what the page shows in these lines."""

    start: int
    end: int
    command: str
    shown: str
    printed: str

    def __str__(self) -> str:
        return (
            f"line {self.start + 1}: the page shows\n{self.shown}\nbut {self.command!r} prints\n"
            f"{self.printed}"
        )


def blocks(text: str) -> Iterator[Block]:
    """Find the fenced blocks of a page."""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type != "fence" or token.map is None:
            continue
        words, caption = token.info.split(), ""
        options = (
            re.match(r"(?::[\w-]+:.*\n)+\n?", token.content)
            if words[:1] == ["{code-block}"]
            else None
        )
        head = options[0] if options else ""
        if match := re.search(r":caption: (.*)", head):
            caption = match[1].strip("`")
        start = token.map[0] + 1 + head.count("\n")
        language = words[-1] if words else ""
        yield Block(language, caption, token.content[len(head) :], start, token.map[1] - 1)


def differences(text: str, stage: Stage) -> Iterator[Difference]:
    """Run the examples of a page in their own folder; yield what differs from the page."""
    found = [block for block in blocks(text) if block.language in RUN | SHOWN or block.caption]
    with tempfile.TemporaryDirectory() as name, Shell(stage, Path(name)) as shell:
        folder = Path(name)
        for block, following in zip_longest(found, found[1:]):
            if block.caption:
                (folder / block.caption).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.caption).write_text(block.content)
            elif block.language == "python":
                printed = shell.run(block.content)
                below = following and following.language == "text" and not following.caption
                adjacent = below and following and following.start - block.end <= 4
                shown = following if adjacent else None
                place = (shown.start, shown.end) if shown else (block.end + 1, block.end + 1)
                content = shown.content if shown else ""
                if not is_same(content, printed):
                    first = block.content.strip().splitlines()[0]
                    yield Difference(*place, first, content, printed)
            elif block.language == "console":
                for command, shown_text, start, end in commands(block):
                    if command.endswith(" &"):
                        printed = shell.start(command.removesuffix(" &"))
                    else:
                        printed = stage.run(command, folder=folder).text
                    if not is_same(shown_text, printed):
                        yield Difference(start, end, command, shown_text, printed)


def commands(block: Block) -> Iterator[tuple[str, str, int, int]]:
    """Return each command of a block, the output that it shows, and its lines."""
    lines = block.content.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("$ ")]
    for start, following in zip(starts, [*starts[1:], len(lines)], strict=True):
        command, behind = lines[start][2:], start + 1
        while command.endswith("\\"):
            command += "\n" + lines[behind]
            behind += 1
        shown = "".join(f"{line}\n" for line in lines[behind:following])
        yield command, shown, block.start + behind, block.start + following


class Shell:
    """Runs Python blocks one after the other in one process on the machine."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._stage = stage
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._background: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process:
            self._process.communicate(timeout=30)
        for process in self._background:
            process.terminate()
            process.communicate(timeout=30)

    def start(self, command: str) -> str:
        """Start a command in the background; return the first line of its output."""
        process = subprocess.Popen(
            self._stage.inside(self._folder, "sh", "-c", f"exec {command}"),
            env=self._stage.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._background.append(process)
        assert process.stdout is not None
        return process.stdout.readline()

    def run(self, source: str) -> str:
        """Run a block, and return what it printed."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._stage.inside(self._folder, sys.executable, "-c", SHELL),
                cwd=self._folder,
                env=self._stage.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(source) + "\n")
        self._process.stdin.flush()
        return str(json.loads(self._process.stdout.readline()))


def is_same(shown: str, printed: str) -> bool:
    """Compare two outputs except for numbers; a line `...` in the first stands for any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() in ("...", "…") else re.escape(line) + r"\n"
        for line in essence(shown)
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in essence(printed))) is not None


def essence(text: str) -> list[str]:
    """Return the lines of an output without what differs from run to run."""
    for pattern, replacement in ASIDE:
        text = re.sub(pattern, replacement, text)
    lines: list[str] = []
    for line in (" ".join(line.split()) for line in text.splitlines()):
        lines.append(line)
        if set(line) == {"-", " "}:  # where a heading is broken depends on the width of its column
            top = max((i for i, above in enumerate(lines) if not above), default=-1) + 1
            lines[top:] = [" ".join(sorted(" ".join(lines[top:]).split()))]
    return [line for line in lines if line]


def foreign_commands(text: str) -> list[str]:
    """Return the programs that a page's `sh` blocks call, although they could run here."""
    return [
        line
        for block in blocks(text)
        if block.language == "sh" and not block.caption
        for line in block.content.splitlines()
        if line and line[0] not in " #" and line.removeprefix("sudo ").split()[0] not in ELSEWHERE
    ]


def rewrite(page: Path, stage: Stage) -> int:
    """Write what the examples print into a page; return how much was changed."""
    text = page.read_text()
    lines = text.splitlines(keepends=True)
    found = list(differences(text, stage))
    for difference in reversed(found):
        new = [f"{line.rstrip()}\n" for line in difference.printed.splitlines()]
        if lines[difference.start - 1].strip() == "```":  # the end of Python that shows nothing
            new = ["\n", "```text\n", *new, "```\n"]
        lines[difference.start : difference.end] = new
    page.write_text("".join(lines))
    return len(found)


def write_modules(page: Path, folder: Path) -> None:
    """Write the Python of a page into a module, at the same lines, and its files beside it."""
    lines: list[str] = []
    for block in blocks(page.read_text()):
        if block.caption.endswith(".py"):
            (folder / f"{page.stem}_{block.caption}").write_text(block.content)
        elif block.language == "python":
            lines += [""] * (block.start - len(lines)) + block.content.splitlines()
    name = f"page_{page.stem}.py".replace("-", "_")
    (folder / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "--modules":
        for path in map(Path, sys.argv[3:]):
            write_modules(path, Path(sys.argv[2]))
        sys.exit()
    with Stage() as machine:
        for path in map(Path, sys.argv[1:]):
            print(f"{path}: {rewrite(path, machine)} outputs changed")
