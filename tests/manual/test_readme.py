"""Tests that README is short and true, and that its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import ROOT
from pictures import COLUMNS, essence_of, window
from stage import Stage

TEXT = (ROOT / "README.md").read_text()
SITE = "https://arunderwood.github.io/pychrony/"
FILES = {
    "https://raw.githubusercontent.com/arunderwood/pychrony/main/",
    "https://github.com/arunderwood/pychrony/blob/main/",
}


def test_it_is_shorter_than_120_lines() -> None:
    assert len(TEXT.splitlines()) < 120


def test_its_links_work_on_a_package_index_and_lead_to_what_there_is(site: Path) -> None:
    links = re.findall(r"^\[[^]]+\]: (\S+)$|\]\(([^)]+)\)", TEXT, re.MULTILINE)
    assert len(links) > 4
    for link in (first or second for first, second in links):
        assert link.startswith("https://")
        if link.startswith(SITE):
            assert (site / link.removeprefix(SITE)).is_file(), link
        for place in FILES:
            if link.startswith(place):
                assert (ROOT / link.removeprefix(place)).is_file(), link


def test_its_picture_is_of_this_version(stage: Stage) -> None:
    command = "pychrony sources"
    shown = stage.run(command, terminal=(COLUMNS, 40)).text
    picture = (ROOT / "docs/pictures/sources.svg").read_text()
    same = essence_of(picture) == essence_of(window(f"$ {command}\n{shown}", "pychrony", COLUMNS))
    assert same, "docs/pictures/sources.svg is stale: `tools/run examples` draws it anew"
