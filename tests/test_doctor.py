"""Tests `pychrony doctor` and `pychrony demo`, with and without chronyd and libchrony."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from alone import Alone
from programs import Call, at, command
from scripted import OPEN_COMMANDS, ScriptedChronyd, script
from scripted.wire import Command, Status
from surroundings import GLIBC

import pychrony
from pychrony.models import MODELS

UNIX_ONLY = ["selectdata", "authdata", "ntpdata", "serverstats"]


def diagnose(call: Call, *arguments: str) -> Any:
    done = call("doctor", "--json", *arguments)
    return done.code, json.loads(done.out)


def test_doctor_tells_what_is_readable_off_and_denied(call: Call) -> None:
    answers = {**script(), Command.RTCDATA: Status.NORTC}
    with ScriptedChronyd(answers, opencommands=OPEN_COMMANDS) as chronyd:
        shown = call("doctor", *at(chronyd)).out
        code, diagnosis = diagnose(call, *at(chronyd))
    assert f"chronyd at {chronyd.address}: yes" in shown
    assert "  readable: tracking sources sourcestats activity smoothing\n" in shown
    assert "  off: rtcdata (" in shown
    assert "  unreadable: selectdata serverstats: not authorized; ask" in shown
    assert "  unreadable: authdata ntpdata: not authorized; ask" in shown
    assert code == 0
    place = diagnosis["places"][0]
    assert place["off"] == ["rtcdata"]
    assert list(place["unreadable"]) == UNIX_ONLY
    assert diagnosis["problem"] is None


def test_doctor_tells_which_libchrony_was_found(call: Call) -> None:
    with ScriptedChronyd(transport="unix") as chronyd:
        _, diagnosis = diagnose(call, *at(chronyd))
    assert diagnosis["library"] == pychrony.library_path()
    assert diagnosis["attempts"][-1]["reason"] == ""
    assert diagnosis["pychrony"] == pychrony.__version__
    assert diagnosis["places"][0]["readable"] == list(MODELS)


def test_doctor_lists_no_report_as_readable_that_it_did_not_ask_for(call: Call) -> None:
    with ScriptedChronyd(script([]), opencommands=OPEN_COMMANDS) as chronyd:
        shown = call("doctor", *at(chronyd)).out
    assert "  readable: tracking activity rtcdata smoothing\n" in shown
    assert "  not tried: sources sourcestats selectdata authdata ntpdata (chronyd has no" in shown


def test_doctor_suspects_an_apparmor_profile_that_keeps_chronyd_silent(alone: Alone) -> None:
    said = alone(
        """
        from pychrony._command import doctor
        doctor.PROFILES = "/run/apparmor.d"
        Path("/run/apparmor.d/local").mkdir(parents=True)
        os.environ["COLUMNS"] = "300"

        def suspected():
            diagnosis = doctor.examine(None, 2.0)
            assert diagnosis.hint in "\\n".join(doctor.lines_of(diagnosis))
            return diagnosis.hint

        profile = Path("/run/apparmor.d/usr.sbin.chronyd")
        with at("/", 2, fault=drop) as unix, at("127.0.0.1", 3):
            print(bool(suspected()))
            profile.write_text("  @{run}/chrony/{,*} rw,\\n")
            print(suspected())
            Path("/run/apparmor.d/local/usr.sbin.chronyd").write_text("@{run}/chrony/{,**} rw,")
            print(bool(suspected()))
            Path("/run/apparmor.d/local/usr.sbin.chronyd").unlink()
            unix.fault = honest
            print(bool(suspected()))
        """
    )
    assert said == [
        "False",
        "AppArmor's profile is likely to keep chronyd from answering at the socket; add the line "
        "'@{run}/chrony/{,**} rw,' to /run/apparmor.d/local/usr.sbin.chronyd, and run "
        "'apparmor_parser -r /run/apparmor.d/usr.sbin.chronyd'",
        "False",
        "False",
    ]


def test_doctor_fails_where_no_chronyd_answers(tmp_path: Path, call: Call) -> None:
    missing = str(tmp_path / "chronyd.sock")
    shown = call("doctor", "--address", missing).out
    assert f"chronyd at {missing}: no\n  no such file or directory; " in shown
    code, diagnosis = diagnose(call, "--address", missing)
    assert code == 1
    assert diagnosis["problem"]["error"] == "ChronyConnectionError"


def test_doctor_looks_where_libchrony_does(call: Call) -> None:
    _, diagnosis = diagnose(call, "--timeout", "0.2")
    addresses = [place["address"] for place in diagnosis["places"]]
    assert addresses == ["/var/run/chrony/chronyd.sock", "127.0.0.1:323", "[::1]:323"]


def test_doctor_tells_where_it_looked_for_libchrony_in_vain() -> None:
    done = command("doctor", PYCHRONY_LIBCHRONY="/nowhere/libchrony.so.0")
    assert done.returncode == 5
    assert "libchrony  not found\n" in done.stdout
    said = "cannot open " if GLIBC else "No such file or directory"
    assert f"  /nowhere/libchrony.so.0 (PYCHRONY_LIBCHRONY): {said}" in done.stdout
    assert "  to do: correct the variable, or unset it\n" in done.stdout
    assert done.stderr == ""


def test_demo_shows_every_report_of_a_synchronised_chronyd() -> None:
    done = command("demo", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["tracking"]["stratum"] == 6
    assert answer["sources"][0]["state"] == "SELECTED"
    assert list(answer["missing"]) == ["rtcdata"]
    assert done.stderr.count("\n") == 1


def test_demo_explains_a_chronyd_that_does_not_start(tmp_path: Path) -> None:
    broken = tmp_path / "chronyd"
    broken.write_text("#!/bin/sh\necho out of order\nexit 7\n")
    broken.chmod(0o755)
    done = command("demo", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "it ended with status 7; its log:\nout of order\n" in done.stderr
    assert "tools/run demo" in done.stderr
    assert done.stdout == ""
