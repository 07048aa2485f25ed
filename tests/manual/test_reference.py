"""Tests that everything users can import, read or type has an entry in the reference."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
from pathlib import Path

import command
import docstrings
import pytest
from sphinx.util.inventory import InventoryFile

from pychrony.models import MODELS


@pytest.fixture(scope="module")
def entries(site: Path) -> set[str]:
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    return {name for names in inventory.data.values() for name in names}


@pytest.mark.parametrize("module", docstrings.MODULES)
def test_every_public_name_and_member_has_an_entry(module: str, entries: set[str]) -> None:
    wanted = set(docstrings.public_names(module))
    for name in [*wanted]:
        value = getattr(importlib.import_module(module), name)
        if inspect.isclass(value):
            wanted |= {f"{name}.{member}" for member in vars(value) if member[0] != "_"}
        if dataclasses.is_dataclass(value):
            wanted |= {f"{name}.{field.name}" for field in dataclasses.fields(value)}
    assert {f"{module}.{name}" for name in wanted} - entries == set()


@pytest.mark.parametrize("report", MODELS)
def test_every_field_has_an_entry_with_its_meaning(report: str, site: Path) -> None:
    page = (site / "reference/reports.html").read_text()
    for field in dataclasses.fields(MODELS[report]):
        name = f"pychrony.{MODELS[report].__name__}.{field.name}"
        entry = page.partition(f'id="{name}"')[2].partition("</dl>")[0]
        assert "libchrony" in entry, f"{name} has no entry"
        assert len(entry.partition("<dd>")[2].partition("libchrony")[0]) > 30, (
            f"{name} has no meaning"
        )


def test_every_option_of_every_command_has_an_entry(entries: set[str]) -> None:
    parser = command.whole_parser()
    for name, subparser in command.subcommands(parser).items():
        for action in (a for a in subparser._actions if a.help != argparse.SUPPRESS):
            for option in action.option_strings:
                places = {f"pychrony.{option}", f"pychrony-{name}.{option}"}
                assert option in ("-h", "--help") or places & entries, f"{name} {option}"
