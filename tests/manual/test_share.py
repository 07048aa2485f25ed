"""Tests that the man page and the completions in the wheel match the parser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import command
import pytest
from conftest import DOCS, ROOT

SHARE = DOCS / "share"
STALE = "{} is stale: `tools/run docs` writes it anew"


@pytest.mark.parametrize("shell", command.COMPLETIONS)
def test_the_completions_are_those_of_the_parser(shell: str) -> None:
    place = command.COMPLETIONS[shell]
    assert (SHARE / place).read_text() == command.completion(shell), STALE.format(place)


def words(page: Path) -> list[str]:
    """Return what is written between the requests, which differ between versions of docutils."""
    lines = [line for line in page.read_text().splitlines() if line[:1] not in (".", "'")]
    return re.sub(r"\\f.|\\\((.*?)\)", "", " ".join(lines)).split()


def test_the_man_page_is_that_of_the_manual(site: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "--no-color", "--builder=man"]
    read = f"--doctree-dir={site.parent}/doctrees"  # what the site was made from
    command = [*build, read, str(DOCS), str(tmp_path)]
    said = subprocess.check_output(command, cwd=ROOT, text=True)
    assert "updating environment: 0 added, 0 changed" in said  # reading it takes a minute
    page = SHARE / "man/man1/pychrony.1"
    assert words(page) == words(tmp_path / "pychrony.1"), STALE.format("man1/pychrony.1")


def test_man_shows_the_page_without_complaint() -> None:
    man = ["man", "--warnings", "--local-file", str(SHARE / "man/man1/pychrony.1")]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(man, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "SYNOPSIS" in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pychrony trac", "tracking"),
        ("pychrony tracking --js", "--json"),
        ("pychrony fleet --from /etc/passw", "/etc/passwd"),
        ("pychrony plot /etc/passw", "/etc/passwd"),
    ],
)
def test_bash_completes_commands_options_and_files(line: str, expected: str) -> None:
    script = SHARE / command.COMPLETIONS["bash"]
    typed = line.split()
    ask = (
        f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(typed) - 1}; "
        "$(complete -p pychrony | sed 's/.*-F \\([^ ]*\\).*/\\1/') pychrony "
        f'{typed[-1]} {typed[-2]}; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True)
    assert expected in done.stdout.split(), done.stderr


def test_a_completion_says_what_the_help_says_of_a_command() -> None:
    about = command.summaries(command.whole_parser())
    fish = unquoted((SHARE / command.COMPLETIONS["fish"]).read_text())
    assert [text for text in map(unquoted, about.values()) if text not in fish] == []


def unquoted(text: str) -> str:
    return re.sub(r"[\\'\"]", "", text)
