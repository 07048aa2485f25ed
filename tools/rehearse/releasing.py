"""Reads RELEASING.md: whom the indexes trust, and which errors it explains."""

from __future__ import annotations

import re

from artifacts import ROOT


def text() -> str:
    """Return the page."""
    return (ROOT / ".github/RELEASING.md").read_text()


def publishers() -> dict[str, dict[str, str]]:
    """Return the trusted publishers that the page tells the maintainer to set up, by index."""
    rows = re.findall(r"^ *\| (?:Test )?PyPI \| `(.+)` \| `(.+)` \|$", text(), flags=re.MULTILINE)
    return {
        environment: {"workflow": workflow, "environment": environment}
        for workflow, environment in rows
    }


def messages() -> list[str]:
    """Return the parts of error messages that the page explains, up to a name."""
    rows = re.findall(r"^\| (.+?) \| .+ \|$", text().partition("## When it fails")[2], re.MULTILINE)
    parts = [part.partition("…")[0].strip(" `") for row in rows[1:] for part in row.split(";")]
    return [part for part in parts if set(part) != {"-"}]
