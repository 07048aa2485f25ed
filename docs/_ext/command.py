"""Generates descriptions of the `pychrony` command: for the site, the man page and shells.

As a program, `command.py FOLDER` writes the completions that a wheel installs below `share`, where
shells look for them; Sphinx writes the man page.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import shtab
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pychrony._command import cli, reports

PROGRAM = "pychrony"
COMPLETIONS = {
    "bash": f"bash-completion/completions/{PROGRAM}",
    "zsh": f"zsh/site-functions/_{PROGRAM}",
    "fish": f"fish/vendor_completions.d/{PROGRAM}.fish",
}
"""Where each shell looks for completions, below `share`."""

FILES = ("FILE", "LOG")
"""The names of arguments that take the path of a file."""


def whole_parser() -> argparse.ArgumentParser:
    """Return the parser of the reports, with that of each other subcommand in its place."""
    parser = reports._parser(cli.COMMANDS, explain=False)
    for name in cli.COMMANDS:
        subcommands(parser)[name] = import_module(f"{cli.__package__}.{name}")._parser()
    return parser


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each subcommand."""
    return next(a.choices for a in parser._actions if isinstance(a.choices, dict))


def summaries(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the line of `--help` about each subcommand."""
    action = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {choice.dest: choice.help or "" for choice in action._choices_actions}


class Command(SphinxDirective):
    """`{command}`: the synopsis, the subcommands with their options, and the exit codes."""

    def run(self) -> list[nodes.Node]:
        """Write it as Markdown."""
        lines = describe(whole_parser())
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def describe(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Describe the parser; subcommands with the same options share a description."""
    about = summaries(parser)
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, subparser in subcommands(parser).items():
        alike.setdefault(tuple(options(subparser)), []).append(name)
    for lines, names in alike.items():
        yield from ("", f"### {names[0] if len(names) == 1 else 'Reports'}", "")
        if len(names) == 1:
            yield from single(subcommands(parser)[names[0]], names[0], lines)
        else:
            yield from (f"`{PROGRAM} {name}`\n: {sentence(about[name])}\n" for name in names)
            yield from ("", f"```{{program}} {PROGRAM}", "```", "", *lines)
    yield from ("", "## Examples and exit codes", "", *prose(parser.epilog or ""))


def single(parser: argparse.ArgumentParser, name: str, lines: tuple[str, ...]) -> Iterator[str]:
    """Return the description of one subcommand."""
    yield from (parser.description or "", "", "```text")
    yield from (parser.format_usage().removeprefix("usage: ").rstrip(), "```", "")
    yield from (f"```{{program}} {PROGRAM} {name}", "```", "", *lines, *prose(parser.epilog or ""))


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Return the arguments of a parser, each as an entry that can be referred to."""
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
            continue
        if action.help == argparse.SUPPRESS:
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        takes = "" if action.nargs == 0 else f" {metavar}"
        names = ", ".join(f"{name}{takes}" for name in action.option_strings) or metavar
        values = {**vars(action), "prog": parser.prog}
        yield from (
            f"::::{{option}} {names}",
            "",
            sentence((action.help or "") % values),
            "::::",
            "",
        )


def prose(epilog: str) -> Iterator[str]:
    """Return the text after the options: each heading with a colon, and its indented lines."""
    for part in re.split(r"\n\s*\n", epilog.strip()):
        title, _, body = part.partition("\n")
        if not title.endswith(":") or not body:
            yield from (part, "")
            continue
        yield from (f"**{sentence(title.rstrip(':')).rstrip('.')}**", "")
        codes = re.findall(r"^ +(\d+) +(.*(?:\n {6,}\D.*)*)", body, re.MULTILINE)
        if len(codes) == len([line for line in body.splitlines() if re.match(r" +\d+ ", line)]) > 0:
            for code, text in codes:
                yield from (f"{code}\n: {sentence(' '.join(text.split()))}", "")
        else:
            yield from ("```text", *(line[2:] for line in body.splitlines()), "```", "")


def sentence(text: str) -> str:
    """Return a line of help as a sentence; names between quotes become code."""
    marked = re.sub(r"(?<!\w)'([^']+)'(?!\w)", r"`\1`", text.strip())
    marked = re.sub(r"(?<![`\w-])(--[a-z][\w-]*)(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"`\1`", marked)
    first = marked[:1] if marked.startswith(("chronyd", "libchrony")) else marked[:1].upper()
    return first + marked[1:].rstrip(".") + "." if marked else ""


def completion(shell: str) -> str:
    """Return the completions for a shell."""
    parser = whole_parser()
    about = summaries(parser)
    for name, subparser in subcommands(parser).items():
        subparser.description = about[name]  # the whole one would be cut at the end of its line
    for each in (parser, *subcommands(parser).values()):
        for action in each._actions:
            if action.metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell)).rstrip() + "\n"


def write_completions(share: Path) -> None:
    """Write the completions to their places below `share`."""
    for shell, place in COMPLETIONS.items():
        target = share / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(completion(shell))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("command", Command)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    write_completions(Path(sys.argv[1]))
