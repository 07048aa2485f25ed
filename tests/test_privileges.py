"""Tests the reports and the errors that a user without privileges gets."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI
from limits import HANG, remains
from methods import UNIX_ONLY
from programs import output
from scripted import Request, ScriptedChronyd

import pychrony
from pychrony import ChronyConnection, ChronyError, ChronyPermissionError
from pychrony._command.cli import main
from pychrony.testing import PrivateChronyd

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

NOBODY = 65534
OWNER = GROUP = 1  # a user and a group that every system has

OPEN = ("tracking", "sources", "sourcestats", "activity", "rtcdata", "smoothing")


@contextmanager
def unprivileged(groups: Sequence[int] = ()) -> Iterator[None]:
    """Become nobody, in these groups."""
    pychrony.library_path()  # nobody may not be allowed to read it
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def refusal(address: str, groups: Sequence[int] = ()) -> ChronyError:
    with unprivileged(groups), pytest.raises(ChronyError) as caught:
        pychrony.get_tracking(address, timeout=HANG)
    return caught.value


@as_root
@pytest.mark.parametrize(
    ("folder_mode", "socket_mode", "groups"),
    [
        (0o700, 0o755, ()),
        (0o750, 0o755, ()),
        (0o750, 0o755, (GROUP,)),
        (0o770, 0o755, (GROUP,)),
        (0o755, 0o755, ()),
        (0o755, 0o777, ()),  # libchrony's own socket cannot be made there
        (0o750, 0o777, (GROUP,)),
    ],
)
def test_a_user_who_may_not_is_told_who_may(
    folder_mode: int, socket_mode: int, groups: Sequence[int]
) -> None:
    with ScriptedChronyd(transport="unix") as chronyd:
        folder = Path(chronyd.address).parent
        os.chown(folder, OWNER, GROUP)
        os.chown(chronyd.address, OWNER, GROUP)
        folder.chmod(folder_mode)
        Path(chronyd.address).chmod(socket_mode)
        error = refusal(chronyd.address, groups)
        assert type(error) is ChronyPermissionError
        assert (error.errno, error.error_code) == (errno.EACCES, -1)
        assert error.message == (
            f"connecting to {chronyd.address}: permission denied; only root and {folder.owner()} "
            "can open it, group membership is not enough; or use 127.0.0.1, where chronyd serves "
            "tracking, sources and the other open reports to everyone (unless 'cmdport' is 0)"
        )
        assert remains(chronyd.address) == []
        assert pychrony.get_tracking(chronyd.address, timeout=HANG).stratum == 3  # root may


@as_root
def test_root_without_capabilities_is_told_which_one_it_needs() -> None:
    ffi = FFI()
    ffi.cdef("int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long);")
    library: Any = ffi.dlopen(None)
    drop_from_bounding_set = 24

    def drop() -> None:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            assert library.prctl(drop_from_bounding_set, capability, 0, 0, 0) == 0

    with ScriptedChronyd(transport="unix") as chronyd:
        folder = Path(chronyd.address).parent
        os.chown(folder, OWNER, GROUP)
        folder.chmod(0o700)
        command = [sys.executable, "-m", "pychrony", "tracking", "--address", chronyd.address]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=drop)
        assert done.returncode == 3
        assert "permission denied; root needs the capability CAP_DAC_OVERRIDE" in done.stderr
        assert f"run this as {folder.owner()}, or use 127.0.0.1" in done.stderr


@as_root
def test_a_group_that_was_given_both_may() -> None:
    with ScriptedChronyd(transport="unix") as chronyd:
        folder = Path(chronyd.address).parent
        os.chown(folder, OWNER, GROUP)
        os.chown(chronyd.address, OWNER, GROUP)
        folder.chmod(0o770)
        Path(chronyd.address).chmod(0o770)
        with unprivileged([GROUP]):
            assert pychrony.get_tracking(chronyd.address, timeout=HANG).stratum == 3
            assert remains(chronyd.address) == []


@as_root
def test_a_connection_from_before_privileges_were_dropped_waits_for_a_slow_chronyd() -> None:
    """A second socket cannot be opened then, but the first works."""
    code = """
    import os, sys, pychrony
    with pychrony.ChronyConnection(sys.argv[1], timeout=20) as connection:
        connection.get_tracking()
        os.setgid(65534)
        os.setuid(65534)
        print(connection.get_tracking().stratum, len(connection.get_sources()))
    """
    with ScriptedChronyd(transport="unix") as chronyd:
        Path(chronyd.address).parent.chmod(0o755)
        chronyd.fault = slow_after_the_first
        assert output(code, chronyd.address) == "3 2\n"


def slow_after_the_first(_: Request, reply: bytes, count: int) -> list[tuple[float, bytes]]:
    return [(0.6 if count else 0, reply)]


@as_root
def test_a_folder_that_is_closed_at_first_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedChronyd(transport="unix") as chronyd:
        folder = Path(chronyd.address).parent
        folder.chmod(0o700)
        later = f"sleep 1; chmod 777 {chronyd.address} {folder}"
        with subprocess.Popen(["sh", "-c", later]), unprivileged():
            assert main(["wait", "--address", chronyd.address, "--timeout", "1m"]) == 0
    shown = capsys.readouterr()
    assert ": permission denied; " in shown.err
    assert shown.out.startswith("good after ")


@pytest.mark.parametrize("report", UNIX_ONLY)
def test_a_report_for_the_unix_socket_alone_says_so_over_udp(
    report: str, chronyd: PrivateChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        ChronyConnection(chronyd.command_address, timeout=HANG) as connection,
        pytest.raises(ChronyPermissionError) as caught,
    ):
        connection.get_report(report)
    needed = "it and 'sourcestats'" if report in ("authdata", "ntpdata") else "it"
    words = (
        f"reading {report} from {chronyd.command_address}: not authorized; ask through chronyd's "
        "Unix socket, as root or as chronyd's own user; newer versions of chronyd can also open "
        f"{needed} here (opencommands)"
    )
    assert caught.value.message == words
    assert main([report, "--address", chronyd.command_address]) == 3
    assert capsys.readouterr().err == f"pychrony: {words}\n"


def test_the_open_reports_are_read_over_udp(chronyd: PrivateChronyd) -> None:
    everything = pychrony.get_all(address=chronyd.command_address, timeout=HANG)
    off = {"rtcdata", "smoothing"}
    assert set(everything.missing) == {*UNIX_ONLY, *off}
    for report in set(OPEN) - off:
        assert getattr(everything, report)
