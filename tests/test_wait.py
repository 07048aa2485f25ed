"""`pychrony wait` and `wait_synchronized()`: when they end, and what they say meanwhile."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scripted import ScriptedChronyd, in_turn, script
from scripted.wire import Command, Status, tracking

from pychrony import (
    ChronyConnection,
    ChronyConnectionError,
    ChronyNotSynchronizedError,
    ChronyPermissionError,
)
from pychrony._command.cli import main
from pychrony.testing import PrivateChronyd

COMMAND = [sys.executable, "-m", "pychrony", "wait"]


@contextmanager
def waiting(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Read what the command says until a line has this text."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"ended without {text!r}: {lines}")


def test_a_good_clock_needs_no_waiting(
    chronyd: PrivateChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wait", "--address", chronyd.address]) == 0
    shown = capsys.readouterr()
    assert re.fullmatch(
        r"good after \d+\.\d s: error bound .+, stratum 6, reference 127\.0\.0\.1\n", shown.out
    )
    assert shown.err == ""


def test_a_chronyd_may_come_later_and_restart_meanwhile(server: PrivateChronyd) -> None:
    with PrivateChronyd() as chronyd:
        chronyd.stop()
        with waiting("--address", chronyd.address, "--timeout", "60") as process:
            lines_until(process, f"connecting to {chronyd.address}: no such file")
            chronyd.start()
            lines_until(process, "chronyd is not synchronised")
            chronyd.stop(crash=True)
            lines_until(process, "connection refused")
            chronyd.start()
            lines_until(process, "chronyd is not synchronised")
            chronyd.chronyc("add", *server.as_source().split())
            out, _ = process.communicate(timeout=30)
            assert process.returncode == 0
            assert out.startswith("good after ")


@pytest.mark.parametrize("place", ["address", "command_address"])
def test_a_clock_that_is_not_good_in_time_is_code_1(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with PrivateChronyd() as chronyd:
        begun = time.monotonic()
        assert main(["wait", "--address", getattr(chronyd, place), "--timeout", "1s"]) == 1
        assert time.monotonic() - begun >= 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1] == (
        "pychrony: waiting for the clock: not good within 1.0 s: chronyd is not synchronised"
    )


def test_a_chronyd_that_hangs_takes_no_longer_than_the_timeout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with PrivateChronyd() as chronyd:
        chronyd.pause()
        assert main(["wait", "--address", chronyd.command_address, "--timeout", "0.5"]) == 1
        chronyd.resume()
    assert "no answer within" in capsys.readouterr().err


def test_its_own_reference_is_good_only_if_allowed(
    server: PrivateChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wait", "--address", server.address, "--timeout", "0"]) == 1
    assert "chronyd is its own reference" in capsys.readouterr().err
    assert main(["wait", "--address", server.address, "--timeout", "0", "--local-ok"]) == 0
    assert ": its own reference, stratum 5, reference 127.127.1.1" in capsys.readouterr().out


def test_the_error_bound_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    bad, better = tracking(root_dispersion=0.5), tracking(root_dispersion=0.001)
    answers = {**script(), Command.TRACKING: in_turn(bad, bad, better)}
    with ScriptedChronyd(answers) as chronyd:
        assert main(["wait", "--address", chronyd.address, "--max-error", "10ms"]) == 0
        shown = capsys.readouterr()
        assert "error bound 506 ms, above 10.0 ms" in shown.err
        assert "error bound 7.16 ms" in shown.out
        options = ["--address", chronyd.address, "--max-error", "7ms", "--timeout", "0"]
        assert main(["wait", *options]) == 1
        assert "not good within 0 s: error bound 7.16 ms, above 7.00 ms" in capsys.readouterr().err


def test_an_answer_that_cannot_be_used_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedChronyd({**script(), Command.TRACKING: Status.UNAUTH}) as chronyd:
        assert main(["wait", "--address", chronyd.address]) == 1
    assert "not authorized" in capsys.readouterr().err


def test_quiet_says_nothing_but_errors(
    chronyd: PrivateChronyd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wait", "--address", chronyd.address, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["wait", "--address", "127.0.0.1:9", "--timeout", "0.2", "--quiet"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_terminal_shows_how_far_it_is_in_place() -> None:
    with PrivateChronyd() as chronyd:
        controller, terminal = pty.openpty()
        arguments = ["--address", chronyd.address, "--timeout", "3"]
        code = subprocess.run([*COMMAND, *arguments], stderr=terminal).returncode
        os.close(terminal)
    shown = b""
    while chunk := _read(controller):
        shown += chunk
    os.close(controller)
    assert code == 1
    assert len(re.findall(rb"\r +\d\.\d s: chronyd is not synchronised", shown)) >= 2
    assert shown.count(b"\n") == 1


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 4096)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bogus"],
        ["--max-error", "little"],
        ["--timeout", "-1"],
        ["--address", "relative/path"],
    ],
)
def test_a_wrong_command_line_is_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["wait", *arguments])
    assert end.value.code == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("pychrony: ")
    assert shown[1:] == ["see 'pychrony wait --help'"]


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["wait", "--help"])
    assert end.value.code == 0
    assert "pychrony wait --max-error 10ms" in capsys.readouterr().out


def test_a_connection_waits_for_its_clock(server: PrivateChronyd) -> None:
    with (
        PrivateChronyd(server.as_source()) as chronyd,
        ChronyConnection(chronyd.address, timeout=20) as connection,
    ):
        first = connection.wait_synchronized()
        assert first.is_synchronized()
        chronyd.restart()
        second = connection.wait_synchronized(max_error=10.0)
        assert second.error_bound <= 10.0


def test_a_connection_waits_while_chronyd_is_away(server: PrivateChronyd) -> None:
    with (
        PrivateChronyd(server.as_source()) as chronyd,
        ChronyConnection(chronyd.address, timeout=20) as connection,
    ):
        chronyd.stop()
        comes_back = threading.Timer(0.5, chronyd.start)
        comes_back.start()
        assert connection.wait_synchronized().is_synchronized()
        comes_back.join()


def test_a_connection_does_not_wait_longer_than_it_may() -> None:
    with (
        PrivateChronyd() as chronyd,
        ChronyConnection(chronyd.command_address, timeout=None) as connection,
    ):
        with pytest.raises(ChronyNotSynchronizedError, match="chronyd is not synchronised") as end:
            connection.wait_synchronized(timeout=1.0)
        assert end.value.__cause__ is None
        chronyd.pause()
        with pytest.raises(ChronyNotSynchronizedError, match="no answer") as end:
            connection.wait_synchronized(timeout=0.2)
        assert isinstance(end.value.__cause__, ChronyConnectionError)
        chronyd.resume()


def test_what_does_not_pass_ends_the_wait_of_a_connection() -> None:
    with ScriptedChronyd({**script(), Command.TRACKING: Status.UNAUTH}) as chronyd:
        connection = ChronyConnection(chronyd.address, timeout=20)
        with connection, pytest.raises(ChronyPermissionError):
            connection.wait_synchronized()
        with pytest.raises(RuntimeError):
            connection.wait_synchronized()


@pytest.mark.parametrize("options", [{"max_error": -1.0}, {"timeout": -1.0}])
def test_a_connection_refuses_to_wait_for_what_cannot_be(
    options: dict[str, float], chronyd: PrivateChronyd
) -> None:
    with ChronyConnection(chronyd.address) as connection, pytest.raises(ValueError, match="-1"):
        connection.wait_synchronized(**options)
