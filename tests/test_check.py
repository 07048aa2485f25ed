"""Tests `pychrony check` as a monitoring plug-in: line, performance data and exit codes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest
from limits import wait_until
from programs import EASY, Call, command
from scripted import ScriptedChronyd, script
from scripted.wire import Command, Status, ntp_source, source, tracking, unresolved_source

import pychrony
from pychrony import State
from pychrony.testing import PrivateChronyd

VALUE = r"(-?\d+(\.\d+)?(s)?|U)"
RANGE = r"(@?(\d+(\.\d+)?|~)?:?(\d+(\.\d+)?)?)"
MEASURED = rf"\w+={VALUE}(;{RANGE}(;{RANGE}(;\d+(;\d+)?)?)?)?"
LINE = re.compile(
    rf"CHRONY (OK|WARNING|CRITICAL|UNKNOWN): [^|\n]+( \| {MEASURED}( {MEASURED})*)?\n"
)
"""The form that the guidelines of the Monitoring Plugins project require."""


@pytest.fixture
def scripted() -> Iterator[ScriptedChronyd]:
    with ScriptedChronyd() as chronyd:
        yield chronyd


Check = Callable[..., str]


@pytest.fixture
def check(call: Call) -> Check:
    """Run the plug-in, check the form of what it prints, and return that."""

    def check(*arguments: str) -> str:
        code, out, err = call("check", "--timeout", "20", *arguments)
        assert LINE.fullmatch(out)
        assert err == ""
        state = out.split()[1].rstrip(":")
        assert State[state].value == code
        return out.removeprefix("CHRONY ").rstrip("\n")

    return check


@pytest.mark.parametrize(("option", "place"), [("--address", "address"), ("-H", "command_address")])
def test_a_good_clock_is_ok(option: str, place: str, check: Check, chronyd: PrivateChronyd) -> None:
    line = check(option, getattr(chronyd, place), *EASY)
    assert re.match(r"OK: error bound .*, stratum 6, reference 127\.0\.0\.1, 1 of 1 sources", line)
    assert re.search(r" error_bound=0\.\d+s;10;20;0 offset=.* usable_sources=1;1:;;0;1$", line)


def test_a_clock_that_is_not_synchronized_is_critical(check: Check) -> None:
    with PrivateChronyd("server 127.0.0.1 port 9 offline") as chronyd:
        line = check("--address", chronyd.address)
    assert line.startswith("CRITICAL: the clock is not synchronised; no source is reachable; ")
    assert " | error_bound=U;0.1;1;0 usable_sources=0;1:;;0;1" in line


@pytest.mark.parametrize("local", ["local stratum 5", "local stratum 5 orphan"])
def test_its_own_reference_is_critical_unless_allowed(local: str, check: Check) -> None:
    with PrivateChronyd(local) as chronyd:
        chronyd.wait_until_synchronized()
        line = check("--address", chronyd.address)
        assert line.startswith("CRITICAL: chronyd is its own reference, without a source")
        line = check("--address", chronyd.address, "--local-ok")
        assert line.startswith("OK: its own reference, stratum 5, ")
        line = check("--address", chronyd.address, "--local-ok", "--stratum", "4")
        assert line.startswith("WARNING: stratum 5 is above 4 | ")


def test_a_clock_whose_sources_have_gone_is_critical(check: Check) -> None:
    with (
        PrivateChronyd("local stratum 5") as server,
        PrivateChronyd(server.as_source()) as chronyd,
    ):
        chronyd.wait_until_synchronized()
        server.stop()
        wait_until(lambda: not pychrony.get_sources(chronyd.address)[0].is_reachable())
        assert pychrony.get_tracking(chronyd.address).is_synchronized()
        line = check("--address", chronyd.address, *EASY)
    assert line.startswith("CRITICAL: no source is reachable; 0 of 1 sources usable, 1 required")


def test_a_chronyd_that_hangs_or_was_stopped_is_critical(check: Check) -> None:
    with PrivateChronyd("local stratum 5") as chronyd:
        chronyd.pause()
        line = check("--address", chronyd.command_address, "--timeout", "0.3")
        chronyd.resume()
        assert line.startswith("CRITICAL: ")
        assert "no answer within 0.3 s" in line
        chronyd.stop()
        line = check("--address", chronyd.address)
        assert line.startswith(f"CRITICAL: connecting to {chronyd.address}: ")
        line = check("--address", chronyd.command_address)
        assert line.startswith(f"CRITICAL: reading tracking from {chronyd.command_address}: ")


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ([], "OK: error bound 7.56 ms, stratum 3, reference 192.0.2.1, 3 of 3 sources usable |"),
        (["-w", "7.5ms"], "WARNING: error bound 7.56 ms is above 7.50 ms |"),
        (["-c", "7500us"], "CRITICAL: error bound 7.56 ms is above 7.50 ms |"),
        (["-w", "8ms", "-c", "8ms"], "OK: "),
        (["-w", "2s"], "OK: "),
        (["-w", "0:0.0075"], "WARNING: error bound 7.56 ms is above 7.50 ms |"),
        (["-w", "8ms:9ms"], "WARNING: error bound 7.56 ms is below 8.00 ms |"),
        (["-w", "@1ms:8ms"], "WARNING: error bound 7.56 ms is between 1.00 ms and 8.00 ms |"),
        (["-c", "8ms:"], "CRITICAL: error bound 7.56 ms is below 8.00 ms |"),
        (["-w", "~:8ms", "-c", "@10:20"], "OK: "),
        (["-t", "5s", "--timeout", "1m"], "OK: "),
        (["--sources", "4"], "WARNING: 3 of 3 sources usable, 4 required |"),
        (["--sources", "0"], "OK: "),
        (["--stratum", "2"], "WARNING: stratum 3 is above 2 |"),
    ],
)
def test_each_limit_counts(
    options: list[str], start: str, check: Check, scripted: ScriptedChronyd
) -> None:
    now = tracking(reference_time=time.time_ns())
    scripted.script = script([ntp_source(f"192.0.2.{n}") for n in (1, 2, 3)], now)
    assert check("--address", scripted.address, *options).startswith(start)


def test_ranges_are_in_the_performance_data(check: Check, scripted: ScriptedChronyd) -> None:
    scripted.script = script(None, tracking(reference_time=time.time_ns()))
    line = check("--address", scripted.address, "-w", "1us:", "-c", "@10:20")
    assert " error_bound=0.0075625s;0.000001:;@10:20;0 " in line


def test_verbose_says_more(scripted: ScriptedChronyd, call: Call) -> None:
    known = [ntp_source(f"192.0.2.{n}", source(state=2 if n > 1 else 0)) for n in (1, 2)]
    scripted.script = script(known, tracking(reference_time=time.time_ns()))
    command = ["check", "--address", scripted.address, "--sources", "2"]
    start = (
        "CHRONY WARNING: 1 of 2 sources usable, 2 required; "
        "error bound 7.56 ms, stratum 3, reference 192.0.2.1, 1 of 2 sources"
    )
    done = call(*command, "-v")
    assert (done.code, done.out.count("\n")) == (1, 1)
    assert done.out.startswith(start)
    done = call(*command, "-vv")
    assert done.code == 1
    first, *rest = done.out.splitlines()
    assert first.startswith(start)
    assert any(line.startswith("root dispersion ") for line in rest)
    assert any("x falseticker" in line for line in rest)
    assert not any("|" in line or "µ" in line for line in rest)


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_shown(option: str, call: Call) -> None:
    assert call("check", option) == (0, f"pychrony {pychrony.__version__}\n", "")


def test_a_leap_second_is_said_and_is_no_alarm(check: Check, scripted: ScriptedChronyd) -> None:
    scripted.script = script(None, tracking(reference_time=time.time_ns(), leap_status=1))
    line = check("--address", scripted.address)
    assert line.startswith("OK: ")
    assert "usable; a leap second is inserted at the end of the day (UTC) |" in line


def test_an_update_in_the_future_is_critical(check: Check, scripted: ScriptedChronyd) -> None:
    scripted.script = script(None, tracking(reference_time=time.time_ns() + 3590 * 10**9))
    line = check("--address", scripted.address)
    assert re.match(r"CRITICAL: this clock and chronyd's report disagree by 59m\d\ds \|", line)
    assert re.search(r" last_update=-35\d\ds ", line)


def test_unresolved_sources_do_not_count(check: Check, scripted: ScriptedChronyd) -> None:
    now = tracking(reference_time=time.time_ns())
    scripted.script = script([ntp_source(), unresolved_source(1), unresolved_source(2)], now)
    line = check("--address", scripted.address)
    assert ", 1 of 1 sources usable | " in line
    assert line.endswith(" usable_sources=1;1:;;0;1")


def test_a_report_that_is_denied_is_unknown(check: Check, scripted: ScriptedChronyd) -> None:
    scripted.script = {**scripted.script, Command.SOURCES: Status.UNAUTH}
    assert check("--address", scripted.address).startswith("UNKNOWN: reading sources from ")
    scripted.script = {**scripted.script, Command.TRACKING: Status.UNAUTH}
    assert check("--address", scripted.address).startswith("UNKNOWN: reading tracking from ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bogus"],
        ["extra"],
        ["--warning", "soon"],
        ["--warning", "-1ms"],
        ["--warning", "nan"],
        ["--warning", "2s", "--critical", "1s"],
        ["--warning", "2s:1s"],
        ["--warning", "@"],
        ["--warning", "1s:2s:3s"],
        ["--sources", "many"],
        ["--stratum", "-1"],
        ["--timeout", "0"],
        ["--address", "relative/path"],
        ["--address", "bad|bar"],
    ],
)
def test_wrong_options_are_unknown_in_one_line(arguments: list[str], check: Check) -> None:
    assert check(*arguments).startswith("UNKNOWN: ")


def test_a_missing_libchrony_is_unknown() -> None:
    done = command("check", PYCHRONY_LIBCHRONY="/nowhere/libchrony.so.0")
    assert done.returncode == 3
    assert LINE.fullmatch(done.stdout)
    assert done.stdout.startswith("CHRONY UNKNOWN: loading libchrony from PYCHRONY_LIBCHRONY: ")
