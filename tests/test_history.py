"""Tests `pychrony history`: percentiles, times that count against the clock, steps, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from logbook import START, answered, failed, line, write
from programs import Call, at, output, running

from pychrony import AllReports
from pychrony.testing import PrivateChronyd, make_source

MIDNIGHT = 35_200  # seconds from the start to the end of its day


def bounded(number: float, bound: float, *, uptime: float | None = None) -> dict[str, Any]:
    """Return a line with this error bound."""
    changes = {"offset": 0.0, "root_delay": 0.0, "root_dispersion": bound}
    return answered(number, uptime=uptime, **changes)


Summed = Callable[..., Any]


@pytest.fixture
def summed(call: Call, tmp_path: Path) -> Summed:
    """Sum up a log with these lines as JSON."""

    def summed(lines: Sequence[dict[str, Any]], *options: str, code: int = 0) -> Any:
        done = call("history", "--json", write(tmp_path / "x.log", *lines), *options)
        assert (done.code, done.err) == (code, "")
        return json.loads(done.out)

    return summed


def test_percentiles_are_of_each_day_and_of_all(summed: Summed) -> None:
    first = [bounded(n, 1e-6 * (n + 1)) for n in range(100)]
    second = [bounded(MIDNIGHT + n, 2e-6) for n in range(100)]
    (found,) = summed([*first, *second])
    assert [day["day"] for day in found["days"]] == ["2026-09-21", "2026-09-22"]
    one, two = (day["error_bound"] for day in found["days"])
    assert one == pytest.approx({"50": 50e-6, "95": 95e-6, "99": 99e-6, "100": 100e-6})
    assert set(two.values()) == {2e-6}
    assert found["all"]["error_bound"]["100"] == pytest.approx(100e-6)
    assert found["all"]["error_bound"]["50"] == pytest.approx(2e-6)
    assert [day["lines"] for day in [*found["days"], found["all"]]] == [100, 100, 200]
    assert found["limit"] is found["all"]["seconds"]["above_limit"] is None


def test_each_line_lasts_until_the_next_one_also_over_midnight(summed: Summed) -> None:
    lines: list[dict[str, Any]] = [bounded(60 * n, 1e-6) for n in range(1, 586)]
    lines += [bounded(60 * n, 1e-3) for n in range(586, 596)]  # 586 is 40 s before midnight
    lines += [failed(60 * n) for n in range(596, 599)]
    lines += [answered(60 * n, reference_id=0, stratum=0) for n in range(599, 604)]
    lines += [answered(60 * n, reference_id=0x7F7F0101) for n in range(604, 606)]
    lines += [
        line(60 * n, answer=AllReports(sources=[make_source()]).to_dict()) for n in (606, 607)
    ]
    lines += [bounded(60 * n, 1e-6) for n in range(700, 800)]
    (found,) = summed(lines, "--limit", "100us", code=1)
    today, tomorrow = (day["seconds"] for day in found["days"])
    assert today == {
        "above_limit": 40.0,
        "unsynchronised": 0.0,
        "unanswered": 0.0,
        "without_lines": 0.0,
    }
    assert tomorrow == {
        "above_limit": 560.0,
        "unsynchronised": 420.0,
        "unanswered": 300.0,
        "without_lines": 60.0 * 92,
    }
    assert found["all"]["seconds"]["above_limit"] == 600.0


def test_steps_are_listed_and_are_no_gaps(summed: Summed, tmp_path: Path, call: Call) -> None:
    lines = [
        *(bounded(n, 1e-6, uptime=n) for n in range(10)),
        *(bounded(n + 3600, 1e-6, uptime=n) for n in range(10, 20)),
    ]
    (found,) = summed(lines)
    assert found["all"]["steps"] == [{"time": "2026-09-21T15:13:30Z", "seconds": 3600.0}]
    assert not any(found["all"]["seconds"][key] for key in ("without_lines", "unanswered"))
    shown = call("history", str(tmp_path / "x.log")).out
    assert "2026-09-21T15:13:30Z: the clock was set forward by 1h00m\n" in shown


def test_a_clock_that_begins_in_1970_was_set_and_has_no_gap_of_decades(summed: Summed) -> None:
    lines = [bounded(n - START, 1e-6) for n in range(5)] + [bounded(n, 1e-6) for n in range(5)]
    (found,) = summed(lines)
    assert [day["day"] for day in found["days"]] == ["1970-01-01", "2026-09-21"]
    assert found["all"]["seconds"]["without_lines"] == 0
    assert [step["time"] for step in found["all"]["steps"]] == ["2026-09-21T14:13:20Z"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 0),
        (["--limit", "1ms"], 0),
        (["--limit", "0.9ms"], 1),
        (["--limit", "0.9ms", "--until", "2026-09-21T14:13:24"], 0),
        (["--limit", "0.9ms", "--since", "2026-09-21T14:13:24Z"], 1),
        (["--limit", "1ms", "--since", "2026-09-21T14:13:29Z"], 1),
        (["--since", "2026-09-21T14:13:29Z"], 0),
        (["--since", "2027-01-01"], 4),
    ],
)
def test_a_broken_limit_is_code_1(
    options: list[str], code: int, tmp_path: Path, call: Call
) -> None:
    lines = [bounded(n, 1e-3 if n == 5 else 1e-4) for n in range(9)]
    lines += [answered(n, stratum=16) for n in range(9, 12)] if "14:13:29Z" in str(options) else []
    assert call("history", write(tmp_path / "x.log", *lines), *options).code == code


def test_the_table_has_a_row_for_each_day(tmp_path: Path, call: Call) -> None:
    lines = [*(bounded(n, 5e-5) for n in range(9)), failed(9), bounded(MIDNIGHT, 2e-4)]
    done = call("history", write(tmp_path / "x.log", *lines), "--limit", "100us")
    assert done.code == 1
    about, percentiles, _, *table = done.out.splitlines()
    assert about == (
        "chronyd at /run/chrony/chronyd.sock, 2026-09-21T14:13:20Z to 2026-09-22T00:00:00Z"
    )
    assert percentiles == "percentiles of the error bound, and how long it was above 100 µs"
    rows = [[cell.strip() for cell in row.split("  ") if cell] for row in table]
    assert rows[0] == [
        *("day", "lines", "50 %", "95 %", "99 %", "100 %"),
        *("above", "not synchronised", "no answer", "no lines", "steps"),
    ]
    bounds = ["50.0 µs"] * 4
    assert rows[1] == ["2026-09-21", "10", *bounds, "-", "-", "1.0 s", "9h46m", "-"]
    assert rows[2][:6] == ["2026-09-22", "1", *["200 µs"] * 4]
    assert rows[3][:6] == ["all", "11", "50.0 µs", *["200 µs"] * 3]


def test_several_chronyds_have_a_table_each(summed: Summed, tmp_path: Path, call: Call) -> None:
    lines = [bounded(n, 1e-6) | {"address": f"192.0.2.{n % 2}:323"} for n in range(10)]
    assert [f["address"] for f in summed(lines)] == ["192.0.2.0:323", "192.0.2.1:323"]
    (one,) = summed(lines, "--address", "192.0.2.1:323")
    assert (one["address"], one["all"]["lines"]) == ("192.0.2.1:323", 5)
    done = call("history", str(tmp_path / "x.log"), "--address", "192.0.2.7:323")
    assert "no line is about 192.0.2.7:323" in done.err


@pytest.mark.parametrize(
    ("log", "code", "words"),
    [
        ("/nowhere/clock.log", 2, "reading /nowhere/clock.log: No such file"),
        ("/dev/null", 4, "no lines about the clock"),
    ],
)
def test_a_log_that_cannot_be_summed_up_gets_one_clear_line_and_its_code(
    log: str, code: int, words: str, call: Call
) -> None:
    done = call("history", log)
    assert done.code == code
    assert done.err.startswith(f"pychrony: {words}")
    assert done.err.count("\n") == 1


def test_a_log_of_a_real_chronyd_needs_neither_matplotlib_nor_numpy(
    chronyd: PrivateChronyd, tmp_path: Path
) -> None:
    log = tmp_path / "clock.log"
    with running("all", "--json", "--watch", "0.05", *at(chronyd)) as watching:
        assert watching.stdout is not None
        log.write_text("".join(watching.stdout.readline() for _ in range(20)))
    (found,) = json.loads(
        output(
            """
            import sys
            sys.modules.update(numpy=None, matplotlib=None)
            from pychrony._command.cli import main
            main(["history", "--json", sys.argv[1]])
            """,
            str(log),
        )
    )
    assert found["address"] == chronyd.address
    assert found["all"]["lines"] == 20
    assert 0 < found["all"]["error_bound"]["100"] < 10
    assert found["all"]["steps"] == []
