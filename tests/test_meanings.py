"""Tests the descriptions of the fields of reports."""

from __future__ import annotations

import inspect
import os
import pydoc
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import NoneType
from typing import get_args

import pytest

import pychrony
from pychrony._command.cli import main
from pychrony._model.fields import FieldContent as C
from pychrony._model.fields import Report, origins
from pychrony._model.meanings import meanings
from pychrony.models import MODELS

each_model = pytest.mark.parametrize("model", MODELS.values())

UNITS = {
    C.TIME: r"seconds since 1970",
    C.INTERVAL_LOG2_SECONDS: r"as a power of two, in seconds",
    C.INTERVAL_SECONDS: r"in seconds",
    C.OFFSET_SECONDS: r"in seconds",
    C.MEASURE_SECONDS: r"in seconds",
    C.OFFSET_PPM: r"in ppm",
    C.MEASURE_PPM: r"in ppm",
    C.OFFSET_PPM_PER_SECOND: r"in ppm per second",
    C.LENGTH_BITS: r"in bits",
    C.LENGTH_BYTES: r"in bytes",
    C.RATIO: r"ratio|score",
    C.COUNT: r"^Number of|^Stratum of|^NTP version",
}


@each_model
def test_each_field_is_described_in_whole_sentences(model: type[Report]) -> None:
    for name, meaning in meanings(model).items():
        assert re.fullmatch(r"[A-Z`].{20,}[.)]", meaning.text), name
        beginning = r"(Of|In|That|Whose|Between|Until|Since|From) "
        assert not re.match(beginning, meaning.text), name


@each_model
def test_each_description_has_the_unit(model: type[Report]) -> None:
    for name, origin in origins(model).items():
        assert re.search(UNITS.get(origin.content, ""), meanings(model)[name].text), name


@each_model
def test_each_description_says_what_positive_means(model: type[Report]) -> None:
    for name, origin in origins(model).items():
        if origin.content in (C.OFFSET_SECONDS, C.OFFSET_PPM):
            assert origin.positive, name
        if origin.positive:
            assert f"Positive when the {origin.positive}" in meanings(model)[name].text, name


@each_model
def test_each_description_says_when_the_field_is_none(model: type[Report]) -> None:
    kinds = inspect.get_annotations(model)
    for name in origins(model):
        text, _, origin = meanings(model)[name]
        assert (NoneType in get_args(kinds[name])) == ("`None` " in text), name
        assert not origin.since or f"`None` before chronyd {origin.since}" in text, name


def test_the_tables_say_which_chronyd_was_the_first_to_send_a_field() -> None:
    first = {origin.since for model in MODELS.values() for origin in origins(model).values()}
    assert first == {"", "4.0", "4.2", "4.3", "4.4", "4.6"}


def words(text: str) -> str:
    return " ".join(text.replace("|", " ").split())


@each_model
def test_help_shows_what_each_field_means(model: type[Report]) -> None:
    shown = words(pydoc.plain(pydoc.render_doc(model)))
    for name, meaning in meanings(model).items():
        assert f"{name}{f' ({meaning.unit})' if meaning.unit else ''} {meaning.text}" in shown


@pytest.mark.parametrize("report", MODELS)
def test_the_help_of_the_command_shows_what_each_field_means(
    report: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([report, "--help"])
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    for meaning in meanings(MODELS[report]).values():
        assert meaning.text in words(output)


@pytest.fixture(scope="module")
def without_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of the package that has no source files."""
    folder = tmp_path_factory.mktemp("compiled")
    shutil.copytree(Path(pychrony.__file__).parent, folder / "pychrony")
    command = [sys.executable, "-OO", "-m", "compileall", "-b", "-q", "pychrony"]
    subprocess.run(command, check=True, cwd=folder)
    for source in folder.rglob("*.py"):
        source.unlink()
    return folder


@pytest.mark.parametrize("report", ["", *MODELS])
def test_without_docstrings_and_sources_the_help_is_the_same(
    report: str, without_sources: Path
) -> None:
    arguments = ["-m", "pychrony", *filter(None, [report]), "--help"]
    here, there = (
        subprocess.run(
            [sys.executable, *options, *arguments],
            env={**os.environ, "COLUMNS": "80"},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        for folder, options in ((None, []), (without_sources, ["-OO"]))
    )
    assert (there.stderr, there.stdout) == ("", here.stdout)
    assert here.returncode == there.returncode == 0
