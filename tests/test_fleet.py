"""Tests `pychrony fleet`: hosts of every kind, the table, JSON, progress and --watch."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedChronyd, drop, script
from scripted.wire import ntp_source, source, tracking, unresolved_source

from pychrony import Assessment, State
from pychrony._command.cli import main
from pychrony._command.fleet.rows import Row
from pychrony._command.fleet.table import table
from pychrony.testing import PrivateChronyd, make_source, make_tracking

COMMAND = [sys.executable, "-m", "pychrony", "fleet"]
EASY = ["--warning", "10s", "--critical", "20s", "--timeout", "20"]
NOWHERE = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def rows(output: str) -> list[list[str]]:
    """Split the table into cells, without the totals."""
    return [re.split(r"  +", line) for line in output.split("\n\n")[0].splitlines()]


def test_hosts_are_listed_the_worst_first(
    chronyd: PrivateChronyd, server: PrivateChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    with PrivateChronyd() as unsynchronised, ScriptedChronyd() as late:
        now = tracking(reference_time=time.time_ns(), root_dispersion=15.0)
        sources = [ntp_source(), ntp_source("192.0.2.2", source(state=3)), unresolved_source()]
        late.script = script(sources, now)
        hosts = {
            "good": chronyd.command_address,
            "own": server.command_address,
            "not": unsynchronised.command_address,
            "late": late.address,
            "gone": NOWHERE,
        }
        assert main(["fleet", *hosts.values(), *EASY]) == 1
    shown = capsys.readouterr()
    table = rows(shown.out)
    assert table[0] == [
        *("host", "state", "bound", "offset", "stratum", "reference", "usable", "what is wrong")
    ]
    found = {row[0]: row[1:] for row in table[1:]}
    assert set(found) == set(hosts.values())
    assert [row[1] for row in table[1:]] == ["CRITICAL"] * 3 + ["WARNING", "OK"]
    assert found[hosts["gone"]] == ["CRITICAL", *"-----", found[NOWHERE][-1]]
    assert "connection refused" in found[NOWHERE][-1]
    words = "the clock is not synchronised; chronyd has no sources"
    assert found[hosts["not"]] == ["CRITICAL", *"----", "0/0", words]
    assert found[hosts["own"]][4:6] == ["127.127.1.1", "0/0"]
    assert found[hosts["late"]][-2:] == ["1/2", "error bound 15.0 s is above 10.0 s"]
    assert found[hosts["good"]][3:] == ["6", "127.0.0.1", "1/1"]
    assert re.search(r"\n\n5 hosts in \d+\.\d s: 1 OK, 1 WARNING, 3 CRITICAL\n$", shown.out)
    assert shown.err == ""


def test_a_fleet_that_is_all_good_is_code_0(
    chronyd: PrivateChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = [chronyd.address, chronyd.command_address]
    assert main(["fleet", *hosts, *EASY]) == 0
    assert "2 hosts in " in capsys.readouterr().out
    assert main(["fleet", *hosts, "--bad", *EASY]) == 0
    assert re.fullmatch(r"2 hosts in \d+\.\d s: 2 OK\n", capsys.readouterr().out)


def test_json_has_a_line_for_each_host(
    chronyd: PrivateChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = [NOWHERE, chronyd.command_address, "relative/path"]
    assert main(["fleet", *hosts, "--json", *EASY]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found: dict[str, dict[str, Any]] = {line["host"]: line for line in lines}
    assert set(found) == set(hosts)
    good = found[chronyd.command_address]
    assert (good["state"], good["reasons"], good["error"]) == ("OK", [], None)
    assert 0 < good["error_bound"] < 10
    assert (good["stratum"], good["reference"]) == (6, "127.0.0.1")
    assert (good["usable_sources"], good["sources"]) == (1, 1)
    gone = found[NOWHERE]
    assert (gone["state"], gone["error"]) == ("CRITICAL", "ChronyConnectionError")
    assert "connection refused" in gone["reasons"][0]
    assert gone["error_bound"] is None
    assert found["relative/path"]["state"] != "OK"


def test_hosts_come_from_a_file(
    chronyd: PrivateChronyd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"# ours\n\n  {chronyd.command_address}  # again\n{chronyd.command_address}\n")
    assert main(["fleet", "--from", str(hosts), *EASY]) == 0
    assert "1 host in " in capsys.readouterr().out


def test_a_file_of_hosts_may_begin_with_a_mark_of_its_encoding(
    chronyd: PrivateChronyd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"\xef\xbb\xbf" + chronyd.command_address.encode() + b"\r\n")
    assert main(["fleet", "--from", str(hosts), *EASY]) == 0
    assert "1 host in " in capsys.readouterr().out


def test_a_line_that_is_no_address_is_unknown_and_cannot_steer_the_terminal(
    chronyd: PrivateChronyd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"ntp1.example.net ntp2\n\x1b[2Jweb1\n1.2.3\n\xff\n")
    assert main(["fleet", chronyd.command_address, "--from", str(hosts), *EASY]) == 1
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    table = {row[0]: (row[1], row[-1]) for row in rows(shown)[1:]}
    assert table["ntp1.example.net ntp2"][0] == "UNKNOWN"
    assert table["\\x1b[2Jweb1"] == ("UNKNOWN", r"address '\x1b[2Jweb1' has no valid host name")
    assert table["1.2.3"] == ("UNKNOWN", "address '1.2.3' is not an IPv4 address")
    assert "1 OK, 4 UNKNOWN" in shown
    assert main(["fleet", "--from", str(hosts), "--json", *EASY]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(line["state"], line["error"]) for line in lines} == {("UNKNOWN", "ValueError")}


def test_hosts_come_from_standard_input(chronyd: PrivateChronyd) -> None:
    done = subprocess.run(
        [*COMMAND, "--from", "-", *EASY],
        input=f"{chronyd.command_address}\n{NOWHERE}\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "2 hosts in " in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--bogus"],
        ["--from", "/nowhere/hosts"],
        ["--from", "/"],
        ["--from", "/dev/null"],
        ["ntp.example.net", "--watch", "0"],
        ["ntp.example.net", "--output", "fleet.log"],
        ["ntp.example.net", "--timeout", "soon"],
        ["ntp.example.net", "--warning", "2s", "--critical", "1s"],
    ],
)
def test_a_wrong_command_line_is_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fleet", *arguments])
    assert end.value.code == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("pychrony: ")
    assert shown[1:] == ["see 'pychrony fleet --help'"]


def test_a_missing_libchrony_is_one_line() -> None:
    lost = {**os.environ, "PYCHRONY_LIBCHRONY": "/nowhere/libchrony.so.0"}
    done = subprocess.run([*COMMAND, NOWHERE], capture_output=True, text=True, env=lost)
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert "loading libchrony" in done.stderr


def test_a_terminal_shows_how_many_have_answered(chronyd: PrivateChronyd) -> None:
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, chronyd.command_address, NOWHERE, *EASY],
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    ) as process:
        os.close(terminal)
        out, _ = process.communicate(timeout=30)
    assert "2 hosts in " in out
    shown = os.read(controller, 4096)
    os.close(controller)
    assert re.match(rb"\r1 of 2 hosts, [01] bad\x1b\[K", shown)
    assert shown.endswith(b"\r\x1b[K")


def test_watching_asks_again_until_interrupted(chronyd: PrivateChronyd) -> None:
    command = [*COMMAND, chronyd.command_address, "--watch", "0.1", "--json", *EASY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
    times = [line["time"] for line in lines]
    assert times == sorted(set(times))


def test_watching_shows_the_table_again(chronyd: PrivateChronyd) -> None:
    command = [*COMMAND, chronyd.command_address, "--watch", "0.1", *EASY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found: list[str] = []
        while sum("1 host in " in line for line in found) < 3:
            found.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
    assert sum(line.startswith("host ") for line in found) == 2


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_rows_fit_the_terminal_and_keep_what_matters(width: int) -> None:
    clock = make_tracking(reference_ip="2001:db8:1234:5678:9abc:def0:1234:5678")
    wrong = "the last update is 1h00m old; one is due every 64.0 s"
    found = [
        Row(
            f"web{n}.{'very-' * 12}long.example.net",
            Assessment(State.WARNING, (wrong,)),
            wrong=wrong,
            clock=clock,
            sources=[make_source()],
        )
        for n in range(3)
    ]
    lines = table(found, width)
    assert max(map(len, lines)) <= width
    assert len({line.split()[0] for line in lines}) == 4  # the hosts can be told apart
    assert all("WARNING" in line and "the last" in line for line in lines[1:])
    assert ("1/1" in lines[1]) == (width >= 120)
    assert ("2001:db8:" in lines[1]) == (width == 200)


def terminal(lines: int, columns: int) -> tuple[int, int]:
    controller, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    return controller, end


def test_a_terminal_of_24_lines_shows_the_totals_of_many_hosts() -> None:
    hosts = [f"127.0.0.1:{port}" for port in range(2, 60)]
    controller, end = terminal(24, 80)
    surroundings = {**os.environ, "TERM": "xterm", "COLUMNS": ""}
    with subprocess.Popen(
        [*COMMAND, *hosts, "--watch", "60"], stdout=end, stderr=end, env=surroundings
    ) as process:
        os.close(end)
        shown = b""
        while b"more lines" not in shown:
            shown += os.read(controller, 4096)
        process.kill()
    os.close(controller)
    text = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]|\r(?!\n)", b"\n", shown).decode()
    table = [line for line in text.splitlines() if line.strip()]
    start = next(number for number, line in enumerate(table) if "58 hosts in " in line)
    assert table[start].endswith(": 58 CRITICAL")
    assert len(table[start:]) <= 23
    assert max(map(len, table[start:])) <= 80


@pytest.mark.parametrize("options", [[], ["--watch", "60"]])
def test_ctrl_c_shows_the_hosts_that_have_answered(
    options: list[str], chronyd: PrivateChronyd
) -> None:
    controller, end = terminal(24, 80)
    with ScriptedChronyd() as silent:
        silent.fault = drop
        hosts = [silent.address, chronyd.command_address]
        command = [*COMMAND, *hosts, *options, *EASY, "--timeout", "none"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, text=True) as process:
            os.close(end)
            shown = b""
            while b"1 of 2 hosts" not in shown:
                shown += os.read(controller, 4096)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=30)
    os.close(controller)
    assert process.returncode == (0 if options else 130)
    assert [row[:2] for row in rows(out)[1:]] == [[chronyd.command_address, "OK"]]
    assert re.search(r"\ninterrupted: of 2 hosts, 1 host in \d+\.\d s: 1 OK\n$", out)


def test_lines_go_to_a_file_that_may_be_moved_away(chronyd: PrivateChronyd, tmp_path: Path) -> None:
    log, moved = tmp_path / "fleet.log", tmp_path / "fleet.log.1"
    options = ["--json", "--watch", "0.05", "--output", str(log)]
    with subprocess.Popen([*COMMAND, chronyd.command_address, *options, *EASY]) as process:
        wait_for(log)
        log.rename(moved)
        process.send_signal(signal.SIGHUP)
        wait_for(log)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    lines = [json.loads(line) for path in (moved, log) for line in path.read_text().splitlines()]
    assert {line["host"] for line in lines} == {chronyd.command_address}
    times = [line["time"] for line in lines]
    assert times == sorted(times)


def wait_for(path: Path) -> None:
    """Wait until a file has lines."""
    until = time.monotonic() + 30
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_many_hosts_are_asked_by_one_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = [f"127.0.0.1:{port}" for port in range(2, 9)]
    with ExitStack() as running:
        good = script(None, tracking(reference_time=time.time_ns()))
        chronyds = [running.enter_context(ScriptedChronyd(good)) for _ in range(20)]
        listed = tmp_path / "hosts"
        listed.write_text("\n".join([*(chronyd.address for chronyd in chronyds), *gone]))
        assert main(["fleet", "--from", str(listed), "--timeout", "20"]) == 1
    assert re.search(r"27 hosts in .* s: 20 OK, 7 CRITICAL\n$", capsys.readouterr().out)


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fleet", "--help"])
    assert end.value.code == 0
    assert "pychrony fleet --from hosts.txt --bad" in capsys.readouterr().out
