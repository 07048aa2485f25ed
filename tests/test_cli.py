"""Tests the `pychrony` command: output, options, exit codes and `--watch`."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from programs import command, running
from scripted import OPEN_COMMANDS, ScriptedChronyd, script
from scripted.wire import Command, Status, ntp_source, tracking, unresolved_source

import pychrony
from pychrony import AllReports, ChronyConnectionError
from pychrony._command import cli, grid, render, reports
from pychrony._command.cli import main
from pychrony.models import MODELS
from pychrony.testing import PrivateChronyd


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def remote() -> Iterator[ScriptedChronyd]:
    """A chronyd that serves the same reports over its command port as a real one."""
    with ScriptedChronyd(opencommands=OPEN_COMMANDS) as chronyd:
        yield chronyd


def at(chronyd: ScriptedChronyd | PrivateChronyd) -> list[str]:
    """Whom to ask, and time enough for a busy machine."""
    return ["--address", chronyd.address, "--timeout", "20"]


@pytest.mark.parametrize("report", MODELS)
def test_a_report_has_the_values_that_the_library_returns(
    report: str, scripted: ScriptedChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([report, "--json", *at(scripted)]) == 0
    answer = json.loads(capsys.readouterr().out)
    expected = getattr(pychrony.get_all(address=scripted.address), report)
    if MODELS[report]._per_source:
        answer, expected = answer[0], expected[0]
    assert list(answer) == list(expected.to_dict())
    numbers = {key: value for key, value in vars(expected).items() if type(value) in (int, float)}
    assert {key: answer[key] for key in numbers} == numbers


@pytest.mark.parametrize("report", MODELS)
def test_a_report_of_a_real_chronyd_is_shown(
    report: str, chronyd: PrivateChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([report, *at(chronyd)]) == 0
    assert capsys.readouterr().out.strip()


def test_options_stand_before_or_behind_the_report(
    scripted: ScriptedChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*at(scripted), "--json"]
    assert main([*options, "tracking"]) == 0
    before = capsys.readouterr().out
    assert main(["tracking", *options]) == 0
    assert capsys.readouterr().out == before
    assert main([*options[:2], "tracking", *options[2:]]) == 0
    assert capsys.readouterr().out == before


def test_all_reports_come_under_their_names(
    scripted: ScriptedChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["all", *at(scripted)]) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^([A-Z]+)  ", shown, re.MULTILINE) == [name.upper() for name in MODELS]


def test_all_says_why_a_report_is_missing_and_succeeds(
    remote: ScriptedChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    remote.script = {**script(), Command.SMOOTHING: Status.NOTENABLED}
    assert main(["all", *at(remote)]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\nnot available: not authorized; ") == 4
    assert "\noff: chronyd does not smooth" in shown.out
    assert shown.err == ""


def test_the_json_of_all_has_every_report_and_what_is_missing(
    remote: ScriptedChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["all", "--json", *at(remote)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == [f.name for f in fields(AllReports)]
    assert answer["tracking"]["stratum"] == 3
    assert answer["ntpdata"] is None
    assert list(answer["missing"]) == ["selectdata", "authdata", "ntpdata", "serverstats"]
    assert answer["missing"]["ntpdata"]["error"] == "ChronyPermissionError"


@pytest.mark.parametrize(
    ("report", "status"), [("rtcdata", Status.NORTC), ("smoothing", Status.NOTENABLED)]
)
def test_what_chronyd_does_not_keep_is_an_answer(
    report: str,
    status: Status,
    scripted: ScriptedChronyd,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scripted.script = {Command[report.upper()]: status}
    assert main([report, *at(scripted)]) == 0
    assert capsys.readouterr().out.startswith("off: chronyd ")
    assert main([report, "--json", *at(scripted)]) == 0
    assert capsys.readouterr().out == "null\n"


@pytest.mark.parametrize("report", ["sources", "sourcestats", "selectdata", "authdata"])
def test_sources_whose_name_is_not_resolved_are_counted_as_chronyc_does(
    report: str, scripted: ScriptedChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted.script = script([ntp_source("192.0.2.1"), unresolved_source(1), unresolved_source(2)])
    assert main([report, *at(scripted)]) == 0
    shown = capsys.readouterr().out
    assert "192.0.2.1" in shown
    assert "ID#" not in shown
    assert shown.endswith("\n\n2 more whose name is not resolved: -a shows them\n")
    for everything in (["-a"], ["--all"], ["--json"]):
        assert main([report, *at(scripted), *everything]) == 0
        assert "ID#0000000002" in capsys.readouterr().out
    scripted.script = script([unresolved_source(1)])
    assert main([report, *at(scripted)]) == 0
    assert capsys.readouterr().out == "none; 1 more whose name is not resolved: -a shows them\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["trackin"],
        ["tracking", "--addr", "127.0.0.1"],
        ["tracking", "--address", "relative/path"],
        ["tracking", "--timeout", "0"],
        ["tracking", "--timeout", "soon"],
        ["tracking", "--watch", "0"],
        ["tracking", "--json", "--output", "clock.log"],
        ["tracking", "--watch", "nan"],
        ["doctor", "--watch", "1"],
        ["demo", "--address", "127.0.0.1"],
        ["--json", "doctor"],
        ["-h", "127.0.0.1", "tracking"],
        ["tracking", "-h", "localhost"],
        ["wait", "-h", "localhost"],
        ["fleet", "-h", "localhost"],
        ["exporter", "--timeout", "1", "-h", "localhost"],
        ["plot", "-h", "localhost", "clock.log"],
        ["doctor", "-h", "localhost"],
        ["demo", "-h", "localhost"],
        ["tracking", "--address", "http://ntp.example.net/"],
    ],
)
def test_a_wrong_command_line_is_code_2_in_two_lines(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 2
    assert shown[0].startswith("pychrony: ")
    assert shown[1] in {"see 'pychrony --help'", f"see 'pychrony {' '.join(arguments[:1])} --help'"}


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        ("tracking", "here it is '--address ntp1'"),
        ("doctor", "here it is '--address ntp1'"),
        ("fleet", "here it is 'pychrony fleet ntp1'"),
        ("demo", "none is needed"),
    ],
)
def test_chronycs_h_is_answered_with_what_to_write_here(
    command: str, instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "-h", "ntp1"])
    said = f"pychrony: '-h ntp1' is how chronyc names a host; {instead}, and -h shows the help"
    assert capsys.readouterr().err.splitlines()[0] == said


@pytest.mark.parametrize(
    "arguments", [["-h"], ["-h", "tracking"], ["tracking", "-h"], ["fleet", "-h"], ["demo", "-h"]]
)
def test_h_without_a_host_shows_the_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: pychrony")


@pytest.mark.parametrize("command", ["doctor", "demo"])
def test_the_help_of_a_command_offers_only_what_it_takes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    offered = set(re.findall(r"--\w+", capsys.readouterr().out)) - {"--help"}
    assert offered == ({"--json"} if command == "demo" else {"--address", "--timeout", "--json"})


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


def test_without_a_report_the_commands_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert {*MODELS, *cli.COMMANDS} <= {*shown.err.split()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-c", "tracking"], "here it is '--json'"),
        (["sources", "-c"], "here it is '--json'"),
        (["-p", "1323", "tracking"], "here it is '--address HOST:PORT'"),
        (["-N", "sources"], "libchrony does not give the names that were configured"),
        (["sources", "-N"], "libchrony does not give the names that were configured"),
        (["-h", "192.0.2.1", "tracking"], "here it is '--address 192.0.2.1'"),
        (["clients"], "libchrony does not offer it"),
        (["waitsync", "60"], "here it is 'pychrony wait'"),
        (["makestep"], "pychrony only reads reports"),
        (["tracking", "--address", ""], "address is empty; leave it out"),
        (["tracking", "--timeout", "0"], "'none' waits for ever"),
    ],
)
def test_chronycs_habits_get_an_error_that_names_what_to_use(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert words in first
    assert "None" not in first
    assert len(rest) == 1


def test_chronycs_n_and_v_do_the_same(
    scripted: ScriptedChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-v"]) == 0
    assert capsys.readouterr().out == f"pychrony {pychrony.__version__}\n"
    assert main(["sources", *at(scripted)]) == 0
    plain = capsys.readouterr().out
    assert main(["-n", "sources", *at(scripted)]) == 0
    assert capsys.readouterr().out == plain
    assert main(["sources", "-v", *at(scripted)]) == 0
    start, _, explained = capsys.readouterr().out.partition("\n\nstate: ")
    assert plain.startswith(start)
    assert "poll: Polling interval\n" in explained
    assert "reach: Register of the last eight polls\n" in explained
    assert main(["tracking", "-v", *at(scripted)]) == 0
    assert main(["sources", "-v", "--json", *at(scripted)]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown[shown.index("\n[") :])[0]["address"] == "192.0.2.1"


def test_a_long_message_is_not_broken_inside_a_word() -> None:
    path = "/some-where/with-hyphens/and-more-of-them/chronyd.sock"
    error = ChronyConnectionError(f"reading tracking from {path}: it is not-at-all there")
    shown = render.text(MODELS["tracking"], error, 30)
    assert {"not-at-all", "available:"} <= set(shown.split())
    assert path in grid.wrapped(error.message, 30)


def test_a_missing_libchrony_is_code_5() -> None:
    done = command("tracking", PYCHRONY_LIBCHRONY="/nowhere/libchrony.so.0")
    assert done.returncode == 5
    assert done.stderr.startswith("pychrony: loading libchrony from PYCHRONY_LIBCHRONY: /nowhere/")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("report", ["", *MODELS])
def test_the_help_has_the_exit_codes_or_the_keys(
    report: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*filter(None, [report]), "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    wanted = [f.name for f in fields(MODELS[report])] if report else ["exit codes:", *MODELS]
    wanted += [] if report else [f" {code}  " for code in (0, 1, 2, 3, 4, 5, 130, 141)]
    assert all(f"{word}" in shown for word in wanted)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"pychrony {pychrony.__version__}\n"


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
        assert process.wait(10) == 128 + signal.SIGPIPE


def test_output_that_cannot_be_written_is_code_1(scripted: ScriptedChronyd) -> None:
    with (
        open("/dev/full", "w") as full,
        running("tracking", *at(scripted), stdout=full.fileno()) as process,
    ):
        _, errors = process.communicate(timeout=10)
    assert errors == "pychrony: writing the output: No space left on device\n"
    assert process.returncode == 1


def test_ctrl_c_ends_a_wait_without_a_traceback(scripted: ScriptedChronyd) -> None:
    scripted.script = {Command.TRACKING: None}
    with running("tracking", *at(scripted), "--timeout", "none") as process:
        deadline = time.monotonic() + 10
        while not scripted.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == 130


def read_lines(process: subprocess.Popen[str], count: int) -> list[Any]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_watching_gives_a_line_of_json_each_time_until_ctrl_c(scripted: ScriptedChronyd) -> None:
    with running("--watch", "0.05", "all", "--json", *at(scripted)) as process:
        lines = read_lines(process, 3)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stderr is not None
        # communicate() would lose what readline() has read beyond its line.
        assert all(json.loads(line) for line in process.stdout)
        assert process.stderr.read() == ""
        assert process.wait(timeout=10) == 0
    times = [datetime.fromisoformat(line["time"].replace("Z", "+00:00")) for line in lines]
    assert times == sorted(times)
    assert abs(times[0].timestamp() - time.time()) < 60
    assert {line["address"] for line in lines} == {scripted.address}
    assert all(line["report"] == "all" and "error" not in line for line in lines)
    assert all(line["answer"]["tracking"]["stratum"] == 3 for line in lines)


def test_watching_goes_on_when_chronyd_comes_back(scripted: ScriptedChronyd) -> None:
    with running("tracking", "--json", "--watch", "0.05", *at(scripted)) as process:
        read_lines(process, 1)
        scripted.stop()
        while "error" not in (line := read_lines(process, 1)[0]):
            pass  # what was written before
        assert line["error"]["error"] == "ChronyConnectionError"
        assert "start chronyd" in line["error"]["message"]
        assert line["address"] == scripted.address
        scripted.restart({Command.TRACKING: tracking(stratum=7)})
        while "error" in (line := read_lines(process, 1)[0]):
            pass
        assert line["answer"]["stratum"] == 7
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10)[1] == ""


def test_lines_go_to_a_file_that_may_be_moved_away(
    scripted: ScriptedChronyd, tmp_path: Path
) -> None:
    log, moved = tmp_path / "clock.log", tmp_path / "clock.log.1"
    options = ["--json", "--watch", "0.05", "--output", str(log)]
    with running("tracking", *options, *at(scripted)) as process:
        until = time.monotonic() + 30
        for path in (log, moved, log):
            if path == moved:
                log.rename(moved)
                process.send_signal(signal.SIGHUP)
            while not (path.exists() and path.stat().st_size):
                assert time.monotonic() < until
                time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("", "")
    lines = [json.loads(line) for path in (moved, log) for line in path.read_text().splitlines()]
    assert {line["report"] for line in lines} == {"tracking"}
    assert main(["tracking", *options[:-1], "/nowhere/clock.log", *at(scripted)]) == 1


def test_every_round_has_its_line_of_json_before_there_is_a_chronyd(
    scripted: ScriptedChronyd,
) -> None:
    scripted.stop()
    with running("sources", "--json", "--watch", "0.05", *at(scripted)) as process:
        for line in read_lines(process, 3):
            assert list(line) == ["time", "uptime", "address", "report", "error"]
            assert line["error"]["error"] == "ChronyConnectionError"
        scripted.restart(script())
        while "error" in (line := read_lines(process, 1)[0]):
            pass
        assert line["answer"][0]["state"] == "SELECTED"


def test_a_line_of_json_says_that_libchrony_is_missing() -> None:
    done = command(
        *("tracking", "--json", "--watch", "0.05"), PYCHRONY_LIBCHRONY="/nowhere/libchrony.so.0"
    )
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["error"] == "ChronyLibraryError"


def test_watching_what_is_not_there_ends_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tracking", "--watch", "60", "--address", str(tmp_path / "chronyd.sock")]) == 1


def test_watching_without_a_terminal_gives_one_text_below_the_other(
    scripted: ScriptedChronyd,
) -> None:
    with running("activity", "--watch", "0.05", *at(scripted)) as process:
        assert process.stdout is not None
        shown = [process.stdout.readline() for _ in range(16)]
    header = f"activity from {scripted.address} at "
    assert [number for number, line in enumerate(shown) if line.startswith(header)] == [0, 8]
    assert "\x1b" not in "".join(shown)


@pytest.mark.parametrize(("rows", "cut"), [(40, False), (8, True)])
def test_watching_on_a_terminal_draws_each_text_over_the_last(
    rows: int, cut: bool, scripted: ScriptedChronyd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    monkeypatch.delenv("LINES", raising=False)  # readline sets it in pytest's process
    monkeypatch.setenv("TERM", "xterm")
    terminal, stdout = pty.openpty()
    fcntl.ioctl(stdout, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 60, 0, 0))
    try:
        with running("tracking", "--watch", "0.05", *at(scripted), stdout=stdout) as process:
            shown = b""
            while shown.count(b"\x1b[J") < 3:
                shown += os.read(terminal, 4096)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
    finally:
        os.close(terminal)
        os.close(stdout)
    first, height, second, *_ = re.split(r"\x1b\[(\d+)A", shown.decode())
    for text in (first, second):
        rows_of_text = re.sub(r"\x1b\[[JK]", "", text).split("\r\n")[:-1]
        assert len(rows_of_text) == int(height) < rows
        assert max(map(len, rows_of_text)) <= 60
        assert any("more lines" in row for row in rows_of_text) is cut


@pytest.mark.parametrize("report", ["sources", "sourcestats"])
def test_sources_are_named_by_reverse_dns_if_asked_for(
    report: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = socket.getnameinfo(("127.0.0.1", 0), socket.NI_NAMEREQD)[0]
    with PrivateChronyd("server 127.0.0.1 port 9") as chronyd:
        for options, shown in (([], "127.0.0.1"), (["--resolve"], name)):
            assert main([report, *at(chronyd), *options]) == 0
            assert shown in capsys.readouterr().out.split()


def test_json_has_addresses_and_no_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sources", "--json", "--resolve"])
    assert "--resolve is for text" in capsys.readouterr().err
