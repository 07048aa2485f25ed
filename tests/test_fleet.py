"""Tests `pychrony fleet`: hosts of every kind, the table, JSON, progress and --watch."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedChronyd, script
from scripted.wire import ntp_source, source, tracking, unresolved_source

from pychrony._command.cli import main
from pychrony.testing import PrivateChronyd

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
        while sum("1 host in " in line for line in found) < 2:
            found.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
    assert sum(line.startswith("host ") for line in found) == 2


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
