"""Tests that the examples on each page print what the page shows."""

from __future__ import annotations

from pathlib import Path

import examples
import pytest
from conftest import DOCS, ROOT
from stage import Stage

PAGES = [
    path
    for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    if any(block.language in examples.RUN for block in examples.blocks(path.read_text()))
]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_examples_of_a_page_print_what_it_shows(page: Path, stage: Stage) -> None:
    found = [str(difference) for difference in examples.differences(page.read_text(), stage)]
    assert not found, "\n".join(found) + "\n`tools/run examples` writes it into the page"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_could_be_run_is_run(page: Path) -> None:
    assert examples.foreign_commands(page.read_text()) == []


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("stratum  2", "stratum  3", True),
        ("offset +1.5 µs (clock fast)", "offset -20 ns (clock slow)", True),
        ("a\n...\nz", "a\nb\nc\nz", True),
        ("7F000001 (127.0.0.1)", "C0000201 (192.0.2.1)", True),
        ("at 2026-11-26T15:06:03.55Z", "at 2027-01-01T00:00:00.5Z", True),
        ("at Thu Nov 26 15:06:03 2026", "at Fri Jan  1 00:00:00 2027", True),
        ("stratum 2", "strata 2", False),
        ("a\nb", "a", False),
        ("", "a", False),
        ("selected", "falseticker", False),
    ],
)
def test_numbers_are_set_aside_and_words_are_not(shown: str, printed: str, same: bool) -> None:
    assert examples.is_same(shown, printed) is same


def test_a_wrong_example_is_found(stage: Stage) -> None:
    page = "```console\n$ pychrony activity\nno sources\n```\n\n```python\nprint(1 / 0)\n```\n"
    first, second = examples.differences(page, stage)
    assert "online sources" in first.printed
    assert "ZeroDivisionError" in second.printed
