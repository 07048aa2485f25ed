"""Tests `pychrony.testing` and its pytest plug-in."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from limits import wait_until
from programs import output, run
from surroundings import needs_ipv6

import pychrony
from pychrony import (
    ChronyConnectionError,
    ChronyTimeoutError,
    LeapStatus,
    SourceMode,
    SourceState,
    testing,
)
from pychrony.testing import PrivateChronyd

Factory = Callable[..., Any]

every_factory = pytest.mark.parametrize(
    "make", [getattr(testing, name) for name in testing.__all__ if name.startswith("make_")]
)
with_a_time = pytest.mark.parametrize(
    "make", [testing.make_tracking, testing.make_rtc_data, testing.make_ntp_data]
)


@every_factory
def test_a_factory_replaces_what_is_given_and_nothing_else(make: Factory) -> None:
    name = next(iter(inspect.signature(make).parameters))
    assert make(**{name: 77}) == dataclasses.replace(make(), **{name: 77})


@every_factory
def test_a_factory_takes_the_fields_of_its_report(make: Factory) -> None:
    hints = inspect.get_annotations(make, eval_str=True)
    fields = {field.name: field.type for field in dataclasses.fields(hints.pop("return"))}
    if "ref_time_ns" in fields:
        fields["ref_time_ns"] = int | None  # derived unless it is given
    assert hints == fields


@pytest.mark.parametrize(
    ("make", "defaults"),
    [
        (testing.make_tracking, testing.TRACKING_DEFAULTS),
        (testing.make_source, testing.SOURCE_DEFAULTS),
        (testing.make_source_stats, testing.SOURCESTATS_DEFAULTS),
        (testing.make_rtc_data, testing.RTCDATA_DEFAULTS),
    ],
)
def test_the_fields_of_version_2_alone_make_a_model(
    make: Factory, defaults: dict[str, Any]
) -> None:
    model = type(make())
    names = [field.name for field in dataclasses.fields(model)]
    assert names == [*defaults, *(["ref_time_ns"] if "ref_time" in defaults else [])]
    assert vars(model(*defaults.values())) == vars(make())


def test_the_defaults_are_those_of_version_2() -> None:
    clock, measured = 1705320000.1234567, 0.000123456
    assert tuple(testing.TRACKING_DEFAULTS.values()) == (
        *(2130706433, "127.0.0.1", "127.0.0.1", 2, LeapStatus.NORMAL, clock, measured),
        *(0.000111222, 0.0001, 1.234, 0.001, 0.005, 0.001234, 0.002345, 64.0),
    )
    assert tuple(testing.SOURCE_DEFAULTS.values()) == (
        *("192.168.1.100", 6, 2, SourceState.SELECTED, SourceMode.CLIENT, 0, 255, 32),
        *(measured, measured, 1e-05),
    )
    assert tuple(testing.SOURCESTATS_DEFAULTS.values()) == (
        *(3232235876, "192.168.1.100", 8, 3, 512, 0.0001, 0.001, 0.005, measured, 1e-05),
    )
    assert tuple(testing.RTCDATA_DEFAULTS.values()) == (clock, 10, 4, 86400, 0.123456, -1.234)


@with_a_time
@pytest.mark.parametrize("time", [0.0, 0.3, 5, 1705320000.1, 1705320000.1234567])
def test_of_a_time_and_its_nanoseconds_each_follows_the_other(make: Factory, time: float) -> None:
    made = make(ref_time=time)
    assert abs(made.ref_time_ns - int(time * 1e9)) < 256  # a float is no closer
    assert make(ref_time_ns=made.ref_time_ns).ref_time == time


@with_a_time
def test_a_time_that_is_not_overridden_has_its_nanoseconds(make: Factory) -> None:
    assert make().ref_time_ns / 1_000_000_000 == make().ref_time


TEST_OF_IMPORTS = """
import sys

def test_imports():
    loaded = [name for name in sys.modules if name.startswith("pychrony.")]
    assert loaded == ["pychrony._testing", "pychrony._testing.fixtures"]
"""
TEST_OF_FIXTURES = """
def test_fixtures(tracking_status, source, source_stats, rtc_data):
    from pychrony.testing import make_rtc_data, make_source, make_source_stats, make_tracking
    assert (tracking_status, source) == (make_tracking(), make_source())
    assert (source_stats, rtc_data) == (make_source_stats(), make_rtc_data())
"""


NO_OTHERS = [f"-pno:{name}" for name in ("cacheprovider", "hypothesispytest", "xdist")]
"""Options that keep plug-ins away which take time, and have no part in these tests."""


@pytest.fixture(scope="module")
def other_project(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return pytest's output in a project that does not mention the plug-in."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "test_it.py").write_text(TEST_OF_IMPORTS + TEST_OF_FIXTURES)
    command = [sys.executable, "-m", "pytest", "-rA", *NO_OTHERS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_pytest_finds_the_fixtures_once_the_package_is_installed(other_project: str) -> None:
    assert "PASSED test_it.py::test_fixtures" in other_project


def test_the_plug_in_imports_nothing_until_a_fixture_is_used(other_project: str) -> None:
    assert "PASSED test_it.py::test_imports" in other_project


@pytest.mark.parametrize(
    ("options", "imported"),
    [
        (["-p", "pychrony.testing"], ""),
        (
            ["-p", "no:pychrony"],
            "from pychrony.testing import tracking_status, source, source_stats, rtc_data",
        ),
        (["-p", "no:pychrony"], "from pychrony.testing import *"),
        (["-p", "no:pychrony", "-p", "pychrony.testing"], ""),
    ],
)
def test_the_fixtures_come_as_in_version_2(
    options: list[str], imported: str, tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text(imported)
    (tmp_path / "test_it.py").write_text(TEST_OF_FIXTURES)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-rA", *NO_OTHERS, *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "PASSED test_it.py::test_fixtures" in done.stdout, done.stdout + done.stderr


def test_the_factories_need_no_pytest() -> None:
    program = """
        import sys
        sys.modules["pytest"] = None
        from pychrony.testing import make_tracking
        print(make_tracking().stratum)
    """
    assert output(program) == "2\n"


def stratum(address: str) -> int:
    return pychrony.get_tracking(address).stratum


def test_a_private_chronyd_leaves_the_clock_alone() -> None:
    with PrivateChronyd() as chronyd:
        assert "Disabled control of system clock" in chronyd.log


@needs_ipv6
def test_one_private_chronyd_can_follow_another(server: PrivateChronyd) -> None:
    with PrivateChronyd(server.as_source(host="::1")) as follower:
        follower.wait_until_synchronized()
        tracking = pychrony.get_tracking(follower.address)
        assert (tracking.reference_ip, tracking.stratum) == ("::1", 6)


def test_waiting_for_a_private_chronyd_without_sources_times_out() -> None:
    late = pytest.raises(ChronyTimeoutError, match=r"not synchronised within 0\.1 s; its log:\n2")
    with PrivateChronyd() as chronyd, late:
        chronyd.wait_until_synchronized(timeout=0.1)


def test_many_private_chronyds_run_at_the_same_time() -> None:
    with ExitStack() as stack:

        def start(number: int) -> PrivateChronyd:
            return stack.enter_context(PrivateChronyd(f"local stratum {number}"))

        with ThreadPoolExecutor(5) as threads:
            chronyds = list(threads.map(start, range(1, 11)))
        for number, chronyd in enumerate(chronyds, 1):
            chronyd.wait_until_synchronized()
            assert stratum(chronyd.command_address) == number


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_nothing_is_left_behind_when_the_body_raises() -> None:
    chronyd = PrivateChronyd()
    pids = []

    def use_and_fail() -> None:
        with chronyd:
            pids.append(chronyd.pid)
            chronyd.pause()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use_and_fail()
    assert not is_running(*pids)
    assert not chronyd.folder.exists()
    with pytest.raises(ChronyConnectionError):
        pychrony.get_tracking(chronyd.command_address)


DIES = """
import os, signal
from pychrony.testing import PrivateChronyd
with PrivateChronyd() as chronyd:
    chronyd.restart()
    print(chronyd.pid, chronyd.folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_behind_when_the_program_is_killed() -> None:
    done = run(DIES)
    assert done.returncode == -signal.SIGKILL
    pid, folder = done.stdout.split()
    wait_until(lambda: not is_running(int(pid)) and not os.path.exists(folder))


def test_a_private_chronyd_that_does_not_start_says_why_and_is_gone() -> None:
    chronyd = PrivateChronyd("local startum 5")
    with pytest.raises(ChronyConnectionError, match=r"status 1; its log:\n(.*\n)*.*local") as info:
        chronyd.__enter__()
    assert "starting a private chronyd" in info.value.message
    assert not chronyd.folder.exists()


def test_without_chronyd_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("pychrony._testing.private_chronyd._SYSTEM_FOLDERS", ("/no", "/none"))
    where = r"^looking for chronyd: it is not on PATH, nor in /no, /none; .*'apt install chrony'"
    with pytest.raises(ChronyConnectionError, match=where):
        PrivateChronyd().__enter__()


def test_the_systems_chronyd_is_run_as_a_copy(
    chronyd: PrivateChronyd, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path(os.readlink(f"/proc/{chronyd.pid}/exe"))
    monkeypatch.setattr("pychrony._testing.private_chronyd._SYSTEM_FOLDERS", (str(program.parent),))
    monkeypatch.setenv("PATH", "/nonexistent")
    with PrivateChronyd() as copied:
        assert os.readlink(f"/proc/{copied.pid}/exe") == f"{copied.folder}/chronyd"


def test_a_long_path_of_temporary_folders_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (long := tmp_path / ("x" * 60)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with PrivateChronyd() as chronyd:
        assert len(os.fsencode(chronyd.folder)) <= 62


@pytest.mark.parametrize("crash", [False, True])
def test_a_private_chronyd_restarts_where_it_was(crash: bool) -> None:
    with PrivateChronyd("local stratum 3") as chronyd:
        before = chronyd.pid, chronyd.address, chronyd.command_address
        chronyd.restart(crash=crash)
        chronyd.wait_until_synchronized()
        assert chronyd.pid != before[0]
        assert stratum(before[1]) == stratum(before[2]) == 3


@pytest.mark.parametrize("crash", [False, True])
def test_only_a_crash_leaves_the_socket_in_place(crash: bool) -> None:
    with PrivateChronyd() as chronyd:
        chronyd.stop(crash=crash)
        assert Path(chronyd.address).is_socket() == crash
        with pytest.raises(ChronyConnectionError):
            pychrony.get_tracking(chronyd.address)


def test_nobody_else_gets_the_ports_of_a_stopped_chronyd() -> None:
    with PrivateChronyd() as chronyd, socket.socket(type=socket.SOCK_DGRAM) as other:
        chronyd.stop()
        with pytest.raises(OSError, match="in use") as info:
            other.bind(("127.0.0.1", chronyd.ntp_port))
        assert info.value.errno == errno.EADDRINUSE


def test_a_paused_chronyd_is_silent_until_it_is_resumed() -> None:
    with PrivateChronyd("local") as chronyd:
        chronyd.pause()
        with pytest.raises(ChronyTimeoutError):
            pychrony.get_tracking(chronyd.command_address, timeout=0.05)
        chronyd.resume()
        assert pychrony.get_activity(chronyd.command_address).online == 0


def test_a_stopped_chronyd_has_no_process_and_can_be_stopped_again() -> None:
    with PrivateChronyd() as chronyd:
        chronyd.stop()
        chronyd.stop()
        with pytest.raises(RuntimeError, match="not running"):
            _ = chronyd.pid
        chronyd.start()
        with pytest.raises(RuntimeError, match="running already"):
            chronyd.start()
