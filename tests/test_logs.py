"""Tests how logs of `--json --watch` are read: good, broken and mixed lines, order and steps."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from logbook import SOURCE, START, answered, encoded, failed, history, line, only, read, write

from pychrony import AllReports, LeapStatus, SourceState
from pychrony._command.logs import LONGEST, Log, columns
from pychrony._command.logs import read as read_files
from pychrony._command.logs.columns import History, in_order
from pychrony._command.logs.lines import Clock, parse
from pychrony._command.logs.stretches import Step, steps
from pychrony.testing import make_activity, make_source, make_source_stats, make_tracking


def seconds(found: History) -> list[float]:
    """Return the times of all lines in order, in seconds after the start."""
    return [found.time[number] - START for number in in_order(found)]


def clocks(found: History) -> list[Clock]:
    """Return what all lines say about the clock."""
    return [Clock(*found.clock[at : at + 4]) for at in range(0, len(found.clock), 4)]


def settings(found: History) -> list[Step]:
    """Return when the clock was set."""
    return list(steps(found, in_order(found)).values())


# Lines.


def test_the_clock_has_its_offset_its_bound_its_frequency_and_its_skew() -> None:
    tracking = make_tracking(offset=-3e-6, frequency=-12.5, skew=0.25)
    found = history([line(1.5, answer=AllReports(tracking=tracking).to_dict())])
    assert found.time[0] == START + 1.5
    assert clocks(found) == [pytest.approx((3e-6, tracking.error_bound, -12.5, 0.25))]
    assert found.bound(0) == clocks(found)[0].bound


def test_an_older_log_is_read_as_well() -> None:
    now, older = answered(0), answered(0)
    for name in ("is_synchronized", "error_bound"):
        del older["answer"]["tracking"][name]
    assert parse(*encoded(older)) == parse(*encoded(now))


def test_a_source_has_its_offset_its_error_and_its_reachability() -> None:
    source = make_source(
        latest_meas=5e-6, latest_meas_err=2e-5, reachability=0b0101, state=SourceState.SELECTED
    )
    found = history([line(0, answer=AllReports(sources=[source]).to_dict())])
    samples = found.sources[source.address]
    assert list(samples.numbers) == pytest.approx([5e-6, 2e-5, 2, 1])


def test_a_source_that_was_never_sampled_has_no_offset() -> None:
    source = make_source(last_sample_ago=None)
    found = history([line(0, answer=AllReports(sources=[source]).to_dict())])
    assert math.isnan(found.sources[source.address].numbers[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"reference_id": 0, "stratum": 0, "leap_status": LeapStatus.UNSYNC},
        {"stratum": 16},
        {"reference_id": 0x7F7F0101},  # its own reference
    ],
)
def test_a_clock_without_a_source_has_no_bound(changes: dict[str, Any]) -> None:
    found = history([answered(0, **changes)])
    assert math.isnan(found.bound(0))
    assert found.flags[0] == columns.ASKED | columns.CLOCK | columns.SOURCES


@pytest.mark.parametrize("report", ["tracking", "sources"])
def test_a_log_of_one_report_is_enough(report: str) -> None:
    found = history([line(0, report=report, answer=answered(0)["answer"][report])])
    assert found.bound(0) > 0 or found.sources


def test_a_line_of_all_reports_is_read_without_those_that_are_not_needed() -> None:
    reports = AllReports(
        tracking=make_tracking(),
        sources=[make_source(address="a")],
        sourcestats=[make_source_stats()],
        activity=make_activity(),
    )
    whole = line(3, uptime=7.25, answer=reports.to_dict())
    (quick,) = encoded(whole)
    other = json.dumps(whole, separators=(",", ":")).encode() + b"\n"
    assert parse(quick) == parse(other)
    damaged = quick.replace(b'"activity": {', b'"activity": {{{')
    assert parse(damaged) == parse(quick)  # what was not needed is not looked at


@pytest.mark.parametrize(
    ("foreign", "reason"),
    [
        (b"hello\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b'{"time": "2026-', "cut off"),
        (encoded(answered(0))[0][:-40], "cut off"),
        (b"\n", "not JSON"),
        (b"[]\n", "not from --json --watch"),
        (b"17\n", "not from --json --watch"),
        (b'{"offset": 1}\n', "not from --json --watch"),
        (line(0), "not from --json --watch"),
        (line(0, answer=None), "not from --json --watch"),
        (line(0, error="no"), "not from --json --watch"),
        (line(0, report="tracking", answer={"stratum": 1}), "not from --json --watch"),
        (answered(0) | {"time": "now"}, "not from --json --watch"),
        (answered(0) | {"time": 1e300}, "not from --json --watch"),
        (answered(0) | {"address": []}, "not from --json --watch"),
        (answered(0) | {"uptime": "long"}, "not from --json --watch"),
        (answered(0, skew=float("nan")), "not from --json --watch"),
        (line(0, report="activity", answer={}), "of activity, which has neither the clock nor"),
    ],
)
def test_a_foreign_line_is_counted_and_named(foreign: bytes | dict[str, Any], reason: str) -> None:
    log = read(answered(0), foreign, answered(1))
    ((found, number),) = log.unusable.items()
    assert found.startswith(reason)
    assert (number, log.first[found]) == (1, "x.log:2")
    assert len(only(log).time) == 2


def test_a_missing_field_is_named_and_the_others_are_read() -> None:
    lines = [answered(n) for n in range(3)]
    for entry in lines[1:]:
        del entry["answer"]["tracking"]["skew"]
        del entry["answer"]["sources"][0]["latest_meas_err"]
    log = read(*lines)
    assert log.notes() == ["2 lines lack skew", "2 lines lack latest_meas_err"]
    found = only(log)
    assert [math.isnan(clock.skew) for clock in clocks(found)] == [False, True, True]
    assert len({clock.bound for clock in clocks(found)}) == 1


# Files.


def test_a_compressed_log_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = gzip.compress(b"".join(encoded(*map(answered, range(100)))))
    paths = [tmp_path / "clock.log.1.gz", tmp_path / "cut.log.gz"]
    paths[0].write_bytes(whole)
    paths[1].write_bytes(whole[:-20])
    log = Log()
    assert read_files(log, [str(paths[0])])
    assert log.lines == 100
    assert capsys.readouterr().err == ""
    assert read_files(log, [str(paths[1])])
    assert "cut off inside a compressed file" in capsys.readouterr().err


def test_a_line_without_end_is_not_kept_in_memory(tmp_path: Path) -> None:
    log, endless = Log(), b"x" * (2 * LONGEST + 9)
    assert read_files(log, [write(tmp_path / "x.log", answered(0), endless, b"\n", answered(1))])
    assert log.unusable == {"cut off": 2, "not JSON": 1}
    assert seconds(only(log)) == [0, 1]


def test_lines_are_chosen_by_time() -> None:
    log = Log(since=START + 2, until=START + 5)
    log.read("x.log", encoded(*map(answered, range(10))))
    assert seconds(only(log)) == [2, 3, 4]
    assert (log.lines, log.early) == (10, 2)


# Order.


def test_lines_and_files_are_put_in_order() -> None:
    parts = [[answered(n, uptime=n) for n in range(start, start + 3)] for start in (3, 6, 0)]
    assert seconds(history(*parts)) == list(range(9))
    together = [*parts[0], *parts[1], *parts[2]]  # as `cat` does
    assert seconds(history(together)) == list(range(9))


def test_lines_that_are_there_twice_count_once() -> None:
    lines = [failed(n) if n == 7 else answered(n) for n in range(20)]
    for files in ([lines, lines], [lines + lines], [lines[:15], lines[5:]]):
        found = history(*files)
        assert seconds(found) == list(range(20))
        assert settings(found) == []


def test_two_logs_of_the_same_time_are_one() -> None:
    clock = [line(n, report="tracking", answer=answered(n)["answer"]["tracking"]) for n in range(5)]
    sources = [
        line(n + d, report="sources", answer=answered(n)["answer"]["sources"])
        for n in range(5)
        for d in (0, 0.5)
    ]
    found = history(clock, sources)
    assert seconds(found) == [0, 0, 0.5, 1, 1, 1.5, 2, 2, 2.5, 3, 3, 3.5, 4, 4, 4.5]
    assert settings(found) == []


def test_a_clock_that_was_set_back_keeps_its_order() -> None:
    lines = [*map(answered, range(100)), *(answered(n + 0.5) for n in range(50, 200))]
    found = history([answered(n) for n in range(-10, 0)], lines)
    assert seconds(found) == [*range(-10, 100), *(n + 0.5 for n in range(50, 200))]
    ((before, shift),) = settings(found)
    assert (found.time[before] - START, shift) == (99, -48.5)


def test_what_follows_a_clock_that_was_set_back_stays_behind_it() -> None:
    lines = [answered(n, uptime=n) for n in range(100)]
    lines += [answered(n - 80, uptime=n) for n in range(100, 300)]
    kept = [*range(100), *range(20, 220)]
    for first, second in [(lines[:250], lines[250:]), (lines[:250], lines[200:])]:
        assert seconds(history(first, second)) == seconds(history(second, first)) == kept
    found = history(lines, [answered(n + 0.5, uptime=n + 0.5) for n in range(50)])
    assert sorted(seconds(found)[:150]) == seconds(found)[:150]
    assert [round(step.seconds, 3) for step in settings(found)] == [-80]


def test_a_boot_into_the_past_keeps_its_order() -> None:
    first = [answered(n, uptime=1000 + n) for n in range(5)]
    second = [answered(n - START, uptime=n) for n in range(5, 10)]
    second += [answered(n, uptime=n) for n in range(10, 15)]
    found = history(first + second)
    assert seconds(found) == [*range(5), *(n - START for n in range(5, 10)), *range(10, 15)]


def test_the_time_since_boot_shows_each_step() -> None:
    lines = [
        *(answered(n, uptime=1000 + n) for n in range(10)),
        *(answered(n - 86400, uptime=1000 + n) for n in range(10, 20)),  # back
        *(answered(n + 0.5, uptime=1000 + n) for n in range(20, 30)),  # forward
        *(answered(n + 0.5 + n / 10_000, uptime=1000 + n) for n in range(30, 40)),  # read later
        *(answered(n + 100, uptime=n) for n in range(40, 50)),  # another boot
    ]
    found = history(lines)
    assert [(before, round(shift, 3)) for before, shift in settings(found)] == [
        (9, -86400),
        (19, 86400.5),
    ]


def test_a_clock_that_was_set_back_may_show_the_same_time_again() -> None:
    lines = [
        *(answered(n, uptime=1000 + n) for n in range(10)),
        *(answered(n - 5, uptime=1000 + n) for n in range(10, 20)),
    ]
    assert seconds(history(lines, lines)) == [*range(10), *range(5, 15)]


def test_errors_before_the_address_is_known_belong_to_the_only_one() -> None:
    found = history([failed(0) | {"address": None}, answered(1)])
    assert seconds(found) == [0, 1]
    assert list(found.errors.values()) == ["ChronyTimeoutError"]


def test_a_name_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log()
    assert read_files(log, [write(tmp_path / "x.log", answered(0), b"no\n")])
    assert SOURCE in only(log).sources
    assert capsys.readouterr().err == (
        f"pychrony: 1 of 2 lines left out: not JSON (first: {tmp_path}/x.log:2)\n"
    )
