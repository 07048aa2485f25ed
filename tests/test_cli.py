"""Tests the `pychrony` command: output, options, exit codes and `--watch`."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from limits import PATIENCE, wait_until
from programs import Call, Terminal, at, command, running
from scripted import OPEN_COMMANDS, ScriptedChronyd, script
from scripted.wire import Command, Status, ntp_source, tracking, unresolved_source

import pychrony
from pychrony import AllReports, ChronyConnectionError
from pychrony._command import cli, grid, render, reports
from pychrony.models import MODELS
from pychrony.testing import PrivateChronyd


@pytest.fixture
def remote() -> Iterator[ScriptedChronyd]:
    """A chronyd that serves the same reports over its command port as a real one."""
    with ScriptedChronyd(opencommands=OPEN_COMMANDS) as chronyd:
        yield chronyd


@pytest.mark.parametrize("report", MODELS)
def test_a_report_has_the_values_that_the_library_returns(
    report: str, scripted: ScriptedChronyd, call: Call
) -> None:
    done = call(report, "--json", *at(scripted))
    assert done.code == 0
    answer = json.loads(done.out)
    expected = getattr(pychrony.get_all(address=scripted.address), report)
    if MODELS[report]._per_source:
        answer, expected = answer[0], expected[0]
    assert list(answer) == list(expected.to_dict())
    numbers = {key: value for key, value in vars(expected).items() if type(value) in (int, float)}
    assert {key: answer[key] for key in numbers} == numbers


def test_options_stand_before_or_behind_the_report(scripted: ScriptedChronyd, call: Call) -> None:
    options = [*at(scripted), "--json"]
    before = call(*options, "tracking")
    assert before.code == 0
    assert call("tracking", *options) == before
    assert call(*options[:2], "tracking", *options[2:]) == before


def test_all_reports_come_under_their_names(scripted: ScriptedChronyd, call: Call) -> None:
    shown = call("all", *at(scripted)).out
    assert re.findall(r"^([A-Z]+)  ", shown, re.MULTILINE) == [name.upper() for name in MODELS]


def test_all_says_why_a_report_is_missing_and_succeeds(remote: ScriptedChronyd, call: Call) -> None:
    remote.script = {**script(), Command.SMOOTHING: Status.NOTENABLED}
    done = call("all", *at(remote))
    assert done.code == 0
    assert done.out.count("\nnot available: not authorized; ") == 4
    assert "\noff: chronyd does not smooth" in done.out
    assert done.err == ""


def test_the_json_of_all_says_what_is_missing(remote: ScriptedChronyd, call: Call) -> None:
    done = call("all", "--json", *at(remote))
    assert done.code == 0
    answer = json.loads(done.out)
    assert list(answer) == [f.name for f in fields(AllReports)]
    assert answer["tracking"]["stratum"] == 3
    assert answer["ntpdata"] is None
    assert list(answer["missing"]) == ["selectdata", "authdata", "ntpdata", "serverstats"]
    assert answer["missing"]["ntpdata"]["error"] == "ChronyPermissionError"


@pytest.mark.parametrize(
    ("report", "status"), [("rtcdata", Status.NORTC), ("smoothing", Status.NOTENABLED)]
)
def test_what_chronyd_does_not_keep_is_an_answer(
    report: str, status: Status, scripted: ScriptedChronyd, call: Call
) -> None:
    scripted.script = {Command[report.upper()]: status}
    done = call(report, *at(scripted))
    assert done.code == 0
    assert done.out.startswith("off: chronyd ")
    assert call(report, "--json", *at(scripted)) == (0, "null\n", "")


@pytest.mark.parametrize("report", ["sources", "sourcestats", "selectdata", "authdata"])
def test_sources_whose_name_is_not_resolved_are_counted_as_chronyc_does(
    report: str, scripted: ScriptedChronyd, call: Call
) -> None:
    scripted.script = script([ntp_source("192.0.2.1"), unresolved_source(1), unresolved_source(2)])
    shown = call(report, *at(scripted)).out
    assert "192.0.2.1" in shown
    assert "ID#" not in shown
    assert shown.endswith("\n\n2 more whose name is not resolved: -a shows them\n")
    for everything in ("-a", "--all", "--json"):
        assert "ID#0000000002" in call(report, *at(scripted), everything).out
    scripted.script = script([unresolved_source(1)])
    none = "none; 1 more whose name is not resolved: -a shows them\n"
    assert call(report, *at(scripted)) == (0, none, "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trackin", "invalid choice: 'trackin'"),
        ("tracking --addr 127.0.0.1", "unrecognized arguments: --addr"),
        ("tracking --address relative/path", "'relative/path'"),
        ("tracking --address ''", "address is empty; leave it out"),
        ("tracking --address http://ntp.example.net/", "'http://ntp.example.net/'"),
        ("tracking --timeout 0", "is not above 0 and at most 1000000 s"),
        ("tracking --timeout soon", "'soon' is not a duration such as"),
        ("tracking --watch 0", "is not above 0"),
        ("tracking --watch nan", "'nan' is not a duration"),
        ("tracking --json --output clock.log", "add --json and --watch"),
        ("sources --json --resolve", "--resolve is for text"),
        ("doctor --watch 1", "unrecognized arguments: --watch"),
        ("demo --address 127.0.0.1", "unrecognized arguments: --address"),
        ("--json doctor", "the options of 'doctor' come after it"),
        ("--timeout 1 check", "the options of 'check' come after it"),
        # What only chronyc takes.
        ("-c tracking", "here it is '--json'"),
        ("sources -c", "here it is '--json'"),
        ("-p 1323 tracking", "here it is '--address HOST:PORT'"),
        ("-N sources", "libchrony does not give the names that were configured"),
        ("sources -N", "libchrony does not give the names that were configured"),
        ("clients", "libchrony does not offer it"),
        ("waitsync 60", "here it is 'pychrony wait'"),
        ("makestep", "pychrony only reads reports"),
        ("-h ::1 tracking", "'-h ::1' is how chronyc names a host; here it is '--address ::1'"),
        ("tracking -h ntp1", "here it is '--address ntp1', and -h shows the help"),
        ("fleet -h ntp1", "here it is 'pychrony fleet ntp1', and"),
        ("exporter --timeout 1 -h ntp1", "here it is '--address ntp1', and"),
        ("demo -h ntp1", "none is needed, and"),
        # The options of other commands.
        ("wait --bogus", "unrecognized arguments: --bogus"),
        ("wait --timeout -1", "timeout"),
        ("wait --timeout 1e300", "timeout must be from 0 to"),
        ("wait --address relative/path", "'relative/path'"),
        ("fleet", "no hosts given; name them"),
        ("fleet --from /nowhere/hosts", "reading the hosts from '/nowhere/hosts': no such file"),
        ("fleet --from /", "reading the hosts from '/': is a directory"),
        ("fleet --from /dev/null", "no hosts in '/dev/null'"),
        ("fleet ntp1 --watch 0", "is not above 0"),
        ("fleet ntp1 --output fleet.log", "add --json"),
        ("fleet ntp1 --warning 2s --critical 1s", "--warning must not be above --critical"),
        ("exporter --listen ::1:9123", "'::1:9123' is neither host, host:port"),
        ("exporter --listen ''", "'' is neither host"),
        ("exporter --listen a..b:9123", "'a..b' is not a host name that can be looked up"),
        ("exporter --listen 127.0.0.1:99999", "'127.0.0.1:99999' is neither host"),
        ("exporter --allow 10.0.0.1/8", "host bits set"),
        ("exporter --allow []", "neither a network nor a host name"),
        ("exporter --allow '10.*'", "neither a network nor a host name"),
        ("exporter --allow ''", "neither a network nor a host name"),
        ("exporter --allow 10.0.0.0/8:0", "has a port that is not from 1 to 65535"),
        ("exporter --reports tracking,clients", "unknown report 'clients'"),
        ("exporter --timeout 0", "is not above 0"),
        ("exporter --address chronyd.sock/", "'chronyd.sock/'"),
        ("exporter --output chrony.prom", "--output needs --once"),
        ("exporter tracking", "unrecognized arguments: tracking"),
        ("plot clock.log -o clock.gif", "'clock.gif' must end in .svg, .png, .pdf"),
        ("plot clock.log -o clock", "'clock' must end in .svg, .png, .pdf"),
        ("plot clock.log", "the following arguments are required: -o"),
        ("plot -o clock.svg", "the following arguments are required: LOG"),
        ("plot clock.log -o clock.svg --since soon", "'soon' is not a time such as"),
        ("history", "the following arguments are required: LOG"),
    ],
)
def test_a_wrong_command_line_is_code_2_and_says_why(line: str, words: str, call: Call) -> None:
    arguments = shlex.split(line)
    done = call(*arguments)
    assert (done.code, done.out) == (2, "")
    said, help_ = done.err.splitlines()
    assert said.startswith("pychrony: ")
    assert words in said
    assert "None" not in said
    named = [word for word in arguments if word in (*MODELS, *cli.COMMANDS)]
    assert help_ == f"see '{' '.join(['pychrony', *named[:1]])} --help'"


@pytest.mark.parametrize("line", ["-h", "-h tracking", "tracking -h", "fleet -h", "demo -h"])
def test_h_without_a_host_shows_the_help(line: str, call: Call) -> None:
    done = call(*line.split())
    assert done.code == 0
    assert done.out.startswith("usage: pychrony")


@pytest.mark.parametrize("name", ["check", "wait", "fleet", "exporter", "plot", "history"])
def test_the_help_has_examples_that_fit_a_terminal(name: str, call: Call) -> None:
    done = call(name, "--help")
    assert done.code == 0
    _, examples = done.out.split("examples:\n")
    assert f"  pychrony {name} " in examples
    assert max(map(len, examples.splitlines())) <= 100


@pytest.mark.parametrize("name", ["doctor", "demo"])
def test_the_help_of_a_command_offers_only_what_it_takes(name: str, call: Call) -> None:
    offered = set(re.findall(r"--\w+", call(name, "--help").out)) - {"--help"}
    assert offered == ({"--json"} if name == "demo" else {"--address", "--timeout", "--json"})


def test_every_duration_is_of_the_same_kind() -> None:
    parsers = [import_module(f"pychrony._command.{name}")._parser() for name in cli.COMMANDS]
    found = {
        (parser.prog, action.dest): (action.type("2m"), action.type("5s"))
        for parser in [*parsers, reports._parser({}, explain=False)]
        for action in parser._actions
        if action.dest in ("timeout", "watch", "max_error", "limit")
    }
    assert len(found) >= 8
    assert set(found.values()) == {(120.0, 5.0)}


def test_without_a_report_the_commands_are_shown(call: Call) -> None:
    done = call()
    assert (done.code, done.out) == (2, "")
    assert {*MODELS, *cli.COMMANDS} <= {*done.err.split()}


def test_chronycs_n_and_v_do_the_same(scripted: ScriptedChronyd, call: Call) -> None:
    assert call("-v").out == call("--version").out == f"pychrony {pychrony.__version__}\n"
    plain = call("sources", *at(scripted)).out
    assert call("-n", "sources", *at(scripted)).out == plain
    assert call("-v", "sources").out.startswith("pychrony ")  # as chronyc does
    start, _, explained = call("sources", "-v", *at(scripted)).out.partition("\n\nstate: ")
    assert plain.startswith(start)
    assert "poll: Polling interval\n" in explained
    assert "source: Address, or a reference clock's ID\n" in explained
    assert "reach: Register of the last eight polls\n" in explained
    assert call("tracking", "-v", *at(scripted)).code == 0
    shown = call("sources", "-v", "--json", *at(scripted)).out
    assert json.loads(shown)[0]["address"] == "192.0.2.1"


def test_a_long_message_is_not_broken_inside_a_word() -> None:
    path = "/some-where/with-hyphens/and-more-of-them/chronyd.sock"
    error = ChronyConnectionError(f"reading tracking from {path}: it is not-at-all there")
    shown = render.text(MODELS["tracking"], error, 30)
    assert {"not-at-all", "available:"} <= set(shown.split())
    assert path in grid.wrapped(error.message, 30)


@pytest.mark.parametrize("line", ["tracking", "fleet 127.0.0.1:9", "demo"])
def test_a_missing_libchrony_is_code_5(line: str) -> None:
    done = command(*line.split(), PYCHRONY_LIBCHRONY="/nowhere/libchrony.so.0")
    assert done.returncode == 5
    assert done.stderr.startswith("pychrony: loading libchrony from PYCHRONY_LIBCHRONY: /nowhere/")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("report", ["", *MODELS])
def test_the_help_has_the_exit_codes_or_the_keys(report: str, call: Call) -> None:
    done = call(*filter(None, [report]), "--help")
    assert done.code == 0
    wanted = [f.name for f in fields(MODELS[report])] if report else ["exit codes:", *MODELS]
    wanted += [] if report else [f" {code}  " for code in (0, 1, 2, 3, 4, 5, 130, 141)]
    assert all(word in done.out for word in wanted)


@pytest.mark.parametrize(
    ("environment", "unit"),
    [
        ({"PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"}, " µs"),
        ({"LC_ALL": "C"}, " us"),
        ({"PYTHONIOENCODING": "ascii"}, " us"),
    ],
)
def test_where_there_is_no_micro_sign_there_is_a_u(
    environment: dict[str, str], unit: str, scripted: ScriptedChronyd
) -> None:
    done = command("tracking", *at(scripted), **environment)
    assert done.returncode == 0
    assert unit in done.stdout


def test_a_reader_that_leaves_early_is_no_error_to_be_told(scripted: ScriptedChronyd) -> None:
    scripted.script = script([ntp_source(f"192.0.2.{number}") for number in range(200)])
    with running("all", *at(scripted)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE) == 128 + signal.SIGPIPE


def test_ctrl_c_ends_a_wait_without_a_traceback(scripted: ScriptedChronyd) -> None:
    scripted.script = {Command.TRACKING: None}
    with running("tracking", *at(scripted), "--timeout", "none") as process:
        wait_until(lambda: scripted.requests)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 130


def read_lines(process: subprocess.Popen[str], count: int) -> list[Any]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def read_until(process: subprocess.Popen[str], key: str) -> Any:
    """Return the first line that has an answer, or an error."""
    while key not in (line := read_lines(process, 1)[0]):
        pass
    return line


def test_watching_gives_a_line_of_json_each_time_until_ctrl_c(scripted: ScriptedChronyd) -> None:
    with running("--watch", "0.05", "all", "--json", *at(scripted)) as process:
        lines = read_lines(process, 3)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stderr is not None
        # communicate() would lose what readline() has read beyond its line.
        assert all(json.loads(line) for line in process.stdout)
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE) == 0
    times = [datetime.fromisoformat(line["time"].replace("Z", "+00:00")) for line in lines]
    assert times == sorted(times)
    assert abs(times[0].timestamp() - time.time()) < 60
    assert {line["address"] for line in lines} == {scripted.address}
    assert all(line["report"] == "all" and "error" not in line for line in lines)
    assert all(line["answer"]["tracking"]["stratum"] == 3 for line in lines)


def test_watching_begins_before_chronyd_and_goes_on_without_it(scripted: ScriptedChronyd) -> None:
    scripted.stop()
    with running("tracking", "--json", "--watch", "0.05", *at(scripted)) as process:
        for line in read_lines(process, 3):
            assert list(line) == ["time", "uptime", "address", "report", "error"]
            assert line["error"]["error"] == "ChronyConnectionError"
            assert "start chronyd" in line["error"]["message"]
        for stratum in (7, 8):
            scripted.restart({Command.TRACKING: tracking(stratum=stratum)})
            assert read_until(process, "answer")["answer"]["stratum"] == stratum
            scripted.stop()
            line = read_until(process, "error")
            assert line["error"]["error"] == "ChronyConnectionError"
            assert line["address"] == scripted.address
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE)[1] == ""


@pytest.mark.parametrize("name", ["tracking", "fleet"])
def test_lines_go_to_a_file_that_may_be_moved_away(
    name: str, scripted: ScriptedChronyd, tmp_path: Path
) -> None:
    log, moved = tmp_path / "clock.log", tmp_path / "clock.log.1"
    place = [scripted.address] if name == "fleet" else at(scripted)
    options = ["--json", "--watch", "0.05", "--output", str(log)]
    with running(name, *place, *options) as process:
        wait_until(lambda: log.exists() and log.stat().st_size)
        log.rename(moved)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: log.exists() and log.stat().st_size)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 0
    lines = [json.loads(line) for path in (moved, log) for line in path.read_text().splitlines()]
    assert {line["host" if name == "fleet" else "address"] for line in lines} == {scripted.address}
    times = [line["time"] for line in lines]
    assert times == sorted(times)


def test_a_file_that_cannot_be_opened_is_code_1() -> None:
    done = command("tracking", "--json", "--watch", "1", "--output", "/nowhere/clock.log")
    assert done.returncode == 1
    assert done.stderr == "pychrony: writing /nowhere/clock.log: No such file or directory\n"


def test_a_line_of_json_says_that_libchrony_is_missing() -> None:
    options = "--json", "--watch", "0.05"
    done = command("tracking", *options, PYCHRONY_LIBCHRONY="/nowhere/libchrony.so.0")
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["error"] == "ChronyLibraryError"


def test_watching_what_is_not_there_ends_at_once(tmp_path: Path, call: Call) -> None:
    missing = str(tmp_path / "chronyd.sock")
    assert call("tracking", "--watch", "60", "--address", missing).code == 1


def test_watching_off_a_terminal_gives_one_text_below_the_other(scripted: ScriptedChronyd) -> None:
    with running("activity", "--watch", "0.05", *at(scripted)) as process:
        assert process.stdout is not None
        shown = [process.stdout.readline() for _ in range(16)]
        scripted.stop()
        assert any("start chronyd" in line for line in process.stdout)
    header = f"activity from {scripted.address} at "
    assert [number for number, line in enumerate(shown) if line.startswith(header)] == [0, 8]
    assert "\x1b" not in "".join(shown)


@pytest.mark.parametrize(("rows", "cut"), [(40, False), (8, True), (0, False)])
def test_watching_on_a_terminal_draws_each_text_over_the_last(
    rows: int, cut: bool, scripted: ScriptedChronyd
) -> None:
    watch = ["tracking", "--watch", "0.05", *at(scripted)]
    size = {"COLUMNS": "", "LINES": ""}  # the terminal's
    with (
        Terminal(rows, 60) as terminal,
        running(*watch, stdout=terminal.end, stderr=terminal.end, TERM="xterm", **size) as process,
    ):
        shown = terminal.shown_until("\x1b[J", times=3)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    first, height, second, *_ = re.split(r"\x1b\[(\d+)A", shown)
    for text in (first, second):
        rows_of_text = re.sub(r"\x1b\[[JK]", "", text).split("\r\n")[:-1]
        assert len(rows_of_text) == int(height) < (rows or 24)  # as on a serial line
        assert max(map(len, rows_of_text)) <= 60
        assert any("more lines" in row for row in rows_of_text) is cut


@pytest.mark.parametrize("report", ["sources", "sourcestats"])
def test_sources_are_named_by_reverse_dns_if_asked_for(report: str, call: Call) -> None:
    name = socket.getnameinfo(("127.0.0.1", 0), socket.NI_NAMEREQD)[0]
    with PrivateChronyd("server 127.0.0.1 port 9") as chronyd:
        assert "127.0.0.1" in call(report, *at(chronyd)).out.split()
        assert name in call(report, *at(chronyd), "--resolve").out.split()
