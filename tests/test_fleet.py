"""Tests `pychrony fleet`: hosts of every kind, the table, JSON, progress and --watch."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from limits import PATIENCE
from programs import EASY, Call, Terminal, command, running
from scripted import ScriptedChronyd, script
from scripted.faults import drop
from scripted.wire import ntp_source, source, tracking, unresolved_source

from pychrony import AllReports, Assessment, State
from pychrony._command.fleet.rows import Row
from pychrony._command.fleet.table import table
from pychrony.testing import PrivateChronyd, make_source, make_tracking

LOOSE = [*EASY, "--timeout", "20"]
NOWHERE = "127.0.0.1:9"


def rows(output: str) -> list[list[str]]:
    """Split the table into cells, without the totals."""
    return [re.split(r"  +", line) for line in output.split("\n\n")[0].splitlines()]


def test_the_worst_comes_first(chronyd: PrivateChronyd, server: PrivateChronyd, call: Call) -> None:
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
        done = call("fleet", *hosts.values(), *LOOSE)
    assert (done.code, done.err) == (1, "")
    table = rows(done.out)
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
    assert re.search(r"\n\n5 hosts in \d+\.\d s: 1 OK, 1 WARNING, 3 CRITICAL\n$", done.out)


def test_a_fleet_that_is_all_good_is_code_0(chronyd: PrivateChronyd, call: Call) -> None:
    hosts = [chronyd.address, chronyd.command_address]
    done = call("fleet", *hosts, *LOOSE)
    assert done.code == 0
    assert "2 hosts in " in done.out
    done = call("fleet", *hosts, "--bad", *LOOSE)
    assert done.code == 0
    assert re.fullmatch(r"2 hosts in \d+\.\d s: 2 OK\n", done.out)


def test_json_has_a_line_for_each_host(chronyd: PrivateChronyd, call: Call) -> None:
    hosts = [NOWHERE, chronyd.command_address, "relative/path"]
    done = call("fleet", *hosts, "--json", *LOOSE)
    assert done.code == 1
    lines = [json.loads(line) for line in done.out.splitlines()]
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


@pytest.mark.parametrize(
    "text",
    [
        b"# ours\n\n  %s  # again\n%s\n",
        b"\xef\xbb\xbf%s\r\n%s",  # begins with a mark of its encoding
    ],
)
def test_hosts_come_from_a_file(
    text: bytes, chronyd: PrivateChronyd, tmp_path: Path, call: Call
) -> None:
    hosts = tmp_path / "hosts"
    address = chronyd.command_address.encode()
    hosts.write_bytes(text % (address, address))
    done = call("fleet", "--from", str(hosts), *LOOSE)
    assert done.code == 0
    assert "1 host in " in done.out


def test_a_line_that_is_no_address_is_unknown_and_cannot_steer_the_terminal(
    chronyd: PrivateChronyd, tmp_path: Path, call: Call
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"ntp1.example.net ntp2\n\x1b[2Jweb1\n1.2.3\n\xff\n")
    done = call("fleet", chronyd.command_address, NOWHERE, "--from", str(hosts), *LOOSE)
    assert done.code == 1
    assert "\x1b" not in done.out
    table = {row[0]: (row[1], row[-1]) for row in rows(done.out)[1:]}
    assert table["ntp1.example.net ntp2"][0] == "UNKNOWN"
    assert table["\\x1b[2Jweb1"] == ("UNKNOWN", r"address '\x1b[2Jweb1' has no valid host name")
    assert table["1.2.3"] == ("UNKNOWN", "address '1.2.3' is not an IPv4 address")
    states = [state for state, _ in table.values()]
    assert states == ["CRITICAL", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "OK"]
    assert "1 OK, 1 CRITICAL, 4 UNKNOWN" in done.out
    done = call("fleet", "--from", str(hosts), "--json", *LOOSE)
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert {(line["state"], line["error"]) for line in lines} == {("UNKNOWN", "ValueError")}


def test_hosts_come_from_standard_input(chronyd: PrivateChronyd) -> None:
    done = command("fleet", "--from", "-", *LOOSE, stdin=f"{chronyd.command_address}\n{NOWHERE}\n")
    assert done.returncode == 1
    assert "2 hosts in " in done.stdout


def test_a_terminal_shows_how_many_have_answered(chronyd: PrivateChronyd) -> None:
    hosts = [chronyd.command_address, NOWHERE]
    with Terminal() as terminal, running("fleet", *hosts, *LOOSE, stderr=terminal.end) as process:
        out, _ = process.communicate(timeout=PATIENCE)
        shown = terminal.shown()
    assert "2 hosts in " in out
    assert re.match(r"\r1 of 2 hosts, [01] bad\x1b\[K", shown)
    assert shown.endswith("\r\x1b[K")


def test_watching_shows_the_table_again(chronyd: PrivateChronyd) -> None:
    with running("fleet", chronyd.command_address, "--watch", "0.1", *LOOSE) as process:
        assert process.stdout is not None
        found: list[str] = []
        while sum("1 host in " in line for line in found) < 3:
            found.append(process.stdout.readline())
            assert found[-1], "it has ended"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
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
            reports=AllReports(tracking=clock, sources=[make_source()]),
        )
        for n in range(3)
    ]
    lines = table(found, width)
    assert max(map(len, lines)) <= width
    assert len({line.split()[0] for line in lines}) == 4  # the hosts can be told apart
    assert all("WARNING" in line and "the last" in line for line in lines[1:])
    assert ("1/1" in lines[1]) == (width >= 120)
    assert ("2001:db8:" in lines[1]) == (width == 200)


def test_a_terminal_of_24_lines_shows_the_totals_of_many_hosts() -> None:
    hosts = [f"127.0.0.1:{port}" for port in range(2, 60)]
    with (
        Terminal() as terminal,
        running(
            *("fleet", *hosts, "--watch", "60"),
            stdout=terminal.end,
            stderr=terminal.end,
            TERM="xterm",
            COLUMNS="",
        ),
    ):
        shown = terminal.shown_until("more lines")
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r(?!\n)", "\n", shown)
    table = [line for line in text.splitlines() if line.strip()]
    start = next(number for number, line in enumerate(table) if "58 hosts in " in line)
    assert table[start].endswith(": 58 CRITICAL")
    assert len(table[start:]) <= 23
    assert max(map(len, table[start:])) <= 80


@pytest.mark.parametrize("options", [[], ["--watch", "60"]])
def test_ctrl_c_shows_hosts_that_have_answered(options: list[str], chronyd: PrivateChronyd) -> None:
    with ScriptedChronyd(fault=drop) as silent, Terminal() as terminal:
        arguments = [
            silent.address,
            chronyd.command_address,
            *options,
            *LOOSE,
            "--timeout",
            "none",
        ]
        with running("fleet", *arguments, stderr=terminal.end) as process:
            terminal.shown_until("1 of 2 hosts")
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == (0 if options else 130)
    assert [row[:2] for row in rows(out)[1:]] == [[chronyd.command_address, "OK"]]
    assert re.search(r"\ninterrupted: of 2 hosts, 1 host in \d+\.\d s: 1 OK\n$", out)
