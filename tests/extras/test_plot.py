"""Tests `pychrony plot`: what it draws for good, broken and mixed logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logbook import START, answered, failed, history, line, write
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from programs import Call, at, command, running

from pychrony import AllReports
from pychrony._command.logs.columns import History, in_order
from pychrony._command.logs.stretches import WITHOUT_LINES, Stretch
from pychrony._command.plot.curves import COLUMNS, clock_of, sources_of, spans, thin
from pychrony._command.plot.picture import MOST_SOURCES, draw
from pychrony.testing import PrivateChronyd, make_source, make_tracking

# Curves.


def missing(found: History) -> list[list[float]]:
    """Return the times at which the curves of the clock and of the sources are broken."""
    order = in_order(found)
    curves = [clock_of(found, order), *(rows for _, rows in sources_of(found, order))]
    return [[time - START for time, offset, *_ in rows if np.isnan(offset)] for rows in curves]


def test_no_curve_crosses_a_gap() -> None:
    lines = [answered(n) for n in (0, 1, 2, 3, 10, 11, 12, 13)]
    assert missing(history(lines)) == [[6.5], [6.5]]


def test_another_interval_is_no_gap() -> None:
    lines = [answered(n) for n in [*range(10), *range(10, 600, 60)]]
    assert missing(history(lines)) == [[], []]


def test_no_curve_crosses_an_error() -> None:
    lines = [answered(n) if n != 5 else failed(n) for n in range(10)]
    assert missing(history(lines)) == [[5], [5]]


def test_no_curve_crosses_a_step() -> None:
    lines = [*map(answered, range(10)), *(answered(n + 0.5) for n in range(5, 20))]
    assert missing(history(lines)) == [[7.25], [7.25]]
    lines = [answered(n if n < 10 else n + 100, uptime=n) for n in range(20)]
    assert missing(history(lines)) == [[59.5], [59.5]]


def test_a_curve_has_the_lines_that_say_something_about_it() -> None:
    reports = [answered(n)["answer"] for n in range(9)]
    clock = [line(n, report="tracking", answer=r["tracking"]) for n, r in enumerate(reports)]
    sources = [line(n, report="sources", answer=r["sources"]) for n, r in enumerate(reports)]
    assert missing(history(clock, [s for n, s in enumerate(sources) if n < 3 or n > 6])) == [
        [],
        [4.5],
    ]


def test_states_that_a_picture_cannot_part_are_joined() -> None:
    found = [Stretch(n, 0.5, WITHOUT_LINES if n != 5 else "") for n in range(10)]
    assert spans(found, 1)[WITHOUT_LINES] == [(0, 4.5), (6, 9.5)]
    assert len(spans(found, 0.4)[WITHOUT_LINES]) == 9


def test_thinning_keeps_every_extreme() -> None:
    time = np.arange(100_000.0)
    values = np.sin(time / 1000)
    values[40_321], values[77_777] = 25.0, -17.0
    thinned = thin(time, values, values)
    assert len(thinned.time) <= COLUMNS + 1
    assert float(np.nanmax(thinned.high)) == 25
    assert float(np.nanmin(thinned.low)) == -17
    assert abs(thinned.time[np.nanargmax(thinned.high)] - 40_321) <= 100_000 / COLUMNS


def test_thinning_keeps_a_single_missing_value_visible() -> None:
    time = np.arange(100_000.0)
    values = np.ones(100_000)
    values[50_000] = np.nan
    thinned = thin(time, values, values)
    (missing,) = np.isnan(thinned.low).nonzero()
    assert len(missing) == 1
    assert abs(thinned.time[missing[0]] - 50_000) <= 2 * 100_000 / COLUMNS


def test_few_values_are_all_drawn() -> None:
    time = np.arange(100.0)
    assert thin(time, time, time).time is time


# Pictures.


def texts(found: History) -> str:
    figure = draw(found, "title", ["a note"])
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_a_picture_has_a_panel_for_each_thing() -> None:
    words = texts(history([*map(answered, range(10))]))
    for title in ("inside the bound of its error", "enlarged", "Frequency", "Skew", "192.0.2.1"):
        assert title in words
    for axis in ("time (UTC)", "ppm", "+ ahead", "+ fast", "Reachability"):
        assert axis in words


def test_gaps_errors_and_loss_of_synchronisation_are_in_the_legend() -> None:
    idle = answered(11, reference_id=0, stratum=0)
    lines = [*map(answered, range(10)), failed(10), idle, *map(answered, range(100, 110))]
    words = texts(history(lines))
    assert "no lines" in words
    assert "error instead of an answer" in words
    assert "not synchronised" in words
    assert "ChronyTimeoutError: 1 lines" in words


def test_a_peak_that_leaves_its_panel_is_marked() -> None:
    lines = [answered(n, offset=1e-6 * (n % 3)) for n in range(300)]
    lines[150] = answered(150, offset=-0.25)
    assert "to 250 ms" in texts(history(lines))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_few_lines_are_enough(number: int) -> None:
    assert "enlarged" in texts(history([*map(answered, range(number))]))


def test_no_colour_is_used() -> None:
    lines = [*map(answered, range(10)), failed(10), *map(answered, range(100, 110))]
    figure = draw(history(lines), "title", [])
    for artist in figure.findobj():
        for name in ("get_color", "get_facecolor", "get_edgecolor"):
            found: Any = getattr(artist, name, lambda: ())()
            for colour in found if np.ndim(found) == 2 else [found] if len(found) else []:
                red, green, blue = to_rgb(colour)
                assert red == green == blue, artist


# The command.


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    lines = [answered(n) if n % 10 else failed(n) for n in range(60)]
    return write(tmp_path_factory.mktemp("log") / "clock.log", *lines)


@pytest.mark.parametrize(
    ("kind", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")]
)
def test_a_picture_is_written_in_the_format_of_its_name(
    kind: str, start: bytes, log: str, tmp_path: Path, call: Call
) -> None:
    picture = tmp_path / f"clock.{kind}"
    assert call("plot", log, "-o", str(picture)) == (0, "", "")
    assert picture.read_bytes().startswith(start)


def test_several_logs_make_the_same_file_as_one(tmp_path: Path, call: Call) -> None:
    one = write(tmp_path / "1.log", *map(answered, range(10)))
    two = write(tmp_path / "2.log", *map(answered, range(10, 20)))
    together = write(tmp_path / "12.log", *map(answered, range(20)))
    assert call("plot", two, one, "-o", f"{tmp_path}/parts.svg").code == 0
    assert call("plot", together, "-o", f"{tmp_path}/whole.svg").code == 0
    assert (tmp_path / "parts.svg").read_bytes() == (tmp_path / "whole.svg").read_bytes()


def test_one_of_several_chronyds_is_chosen(tmp_path: Path, call: Call) -> None:
    lines = [answered(n) | {"address": f"192.0.2.{n % 2}:323"} for n in range(10)]
    plot = "plot", write(tmp_path / "two.log", *lines), "-o", f"{tmp_path}/clock.svg"
    done = call(*plot)
    assert done.code == 2
    assert "choose one with --address" in done.err
    assert call(*plot, "--address", "192.0.2.1:323").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["/nowhere/clock.log", "-o", "clock.svg"], 1, "reading /nowhere/clock.log: No such file"),
        (["/", "-o", "clock.svg"], 1, "reading /: Is a directory"),
        (["LOG", "-o", "/nowhere/clock.svg"], 1, "writing /nowhere/clock.svg: No such file"),
        (["/dev/null", "-o", "clock.svg"], 4, "nothing to draw"),
    ],
)
def test_what_cannot_be_read_or_written_gets_one_clear_line_and_its_code(
    arguments: list[str], code: int, words: str, log: str, call: Call
) -> None:
    done = call("plot", *(log if argument == "LOG" else argument for argument in arguments))
    assert done.code == code
    assert done.err.startswith("pychrony: ")
    assert words in done.err
    assert done.err.count("\n") == 1


def test_a_real_chronyds_log_is_drawn_from_stdin(server: PrivateChronyd, tmp_path: Path) -> None:
    with (
        PrivateChronyd(server.as_source()) as chronyd,
        running("all", "--json", "--watch", "0.1", *at(chronyd)) as watching,
    ):
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(10)]
        chronyd.restart(crash=True)
        lines += [watching.stdout.readline() for _ in range(10)]
    picture = tmp_path / "clock.svg"
    drawn = command("plot", "-", "-o", str(picture), stdin="".join(lines))
    assert drawn.returncode == 0, drawn.stderr
    assert picture.stat().st_size > 10_000


def test_a_hundred_thousand_lines_make_a_small_picture(tmp_path: Path, call: Call) -> None:
    entry = json.dumps(line(0, report="tracking", answer=make_tracking().to_dict()))
    before, after = entry.split(line(0)["time"])
    log, picture = tmp_path / "long.log", tmp_path / "long.svg"
    log.write_text("".join(f"{before}{line(n)['time']}{after}\n" for n in range(100_000)))
    assert call("plot", str(log), "-o", str(picture)).code == 0
    assert picture.stat().st_size < 3_000_000


def test_of_very_many_sources_the_first_are_drawn_and_the_rest_is_told() -> None:
    sources = [make_source(address=f"192.0.2.{n}") for n in range(1, 101)]
    words = texts(history([line(0, answer=AllReports(sources=sources).to_dict())]))
    assert words.count("Offset from") == MOST_SOURCES
    assert f"offsets of the first {MOST_SOURCES} of 100 sources" in words
    assert "192.0.2.100" in words  # its reachability


def test_a_picture_of_any_number_of_sources_fits_into_a_file(tmp_path: Path, call: Call) -> None:
    sources = [make_source(address=f"ntp{n}{'-long' * 30}.example.net") for n in range(1000)]
    log = write(tmp_path / "x.log", line(0, answer=AllReports(sources=sources).to_dict()))
    assert call("plot", log, "-o", f"{tmp_path}/clock.png").code == 0
    words = texts(history([line(0, answer=AllReports(sources=sources[:3]).to_dict())]))
    assert "ntp2-long-long...g.example.net" in words
    assert max(map(len, words.splitlines())) < 110


def test_a_clock_that_was_set_is_marked() -> None:
    lines = [*map(answered, range(100)), *(answered(n + 0.5) for n in range(50, 200))]
    words = texts(history(lines))
    assert "the clock was set\n" in f"{words}\n"
    assert "2026-09-21 14:14:59: the clock was set back by 48.5 s" in words
    assert "no lines" not in words


def test_lines_from_before_the_clock_was_set_are_left_out(tmp_path: Path, call: Call) -> None:
    log = write(tmp_path / "x.log", *(answered(n - START) for n in range(3)), answered(0))
    plot = "plot", log, "-o", f"{tmp_path}/clock.svg"
    told = "pychrony: 3 lines from before 2000 left out: see --since 1970-01-01\n"
    assert call(*plot) == (0, "", told)
    assert call(*plot, "--since", "1970-01-01") == (0, "", "")


NEVER_SYNCHRONISED = AllReports(tracking=make_tracking(reference_id=0)).to_dict()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([failed(n) | {"address": None} for n in range(7)], "all 7 lines are errors (ChronyTime"),
        ([line(0, answer=NEVER_SYNCHRONISED)], "in 1 lines, the clock is never synchronised"),
        ([], "a log comes from"),
    ],
)
def test_a_log_without_anything_to_draw_is_named_for_what_it_is(
    lines: list[dict[str, Any]], words: str, tmp_path: Path, call: Call
) -> None:
    done = call("plot", write(tmp_path / "x.log", *lines), "-o", f"{tmp_path}/clock.svg")
    assert done.code == 4
    assert f"nothing to draw: {words}" in done.err
