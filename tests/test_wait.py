"""Tests when `pychrony wait` and `wait_synchronized()` end, and the progress that they show."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from loops import BackgroundLoop, each_kind, run
from programs import COMMAND, running
from scripted import ScriptedChronyd, drop, honest, in_turn, script
from scripted.requests import Fault
from scripted.wire import Command, Status, tracking

from pychrony import (
    ChronyConnection,
    ChronyConnectionError,
    ChronyError,
    ChronyNotSynchronizedError,
    ChronyPermissionError,
    TrackingStatus,
    aio,
)
from pychrony._command.cli import main
from pychrony._command.wait import _Progress
from pychrony._waiting import Waiting
from pychrony.testing import PrivateChronyd, make_tracking


def lines_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Read the command's output until a line has this text."""
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
        with running("wait", "--address", chronyd.address, "--timeout", "60") as process:
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


def test_only_a_new_obstacle_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = Waiting(max_error=0.001, timeout=None)
    progress = _Progress(waiting, quiet=False)
    answers: list[TrackingStatus | ChronyError] = [
        *(ChronyConnectionError._compose("connecting to", "a", why) for why in ("x", "y", "y")),
        *(make_tracking(offset=offset) for offset in (0.1, 0.2)),
    ]
    for answer in answers:
        waiting.pause_after(answer)
        progress.tell()
    told = [line.partition(" s: ")[2] for line in capsys.readouterr().err.splitlines()]
    assert told == ["connecting to a: x", "connecting to a: y", "error bound 103 ms, above 1.00 ms"]


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
        code = subprocess.run([*COMMAND, "wait", *arguments], stderr=terminal).returncode
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
        ["--timeout", "1e300"],
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


# `wait_synchronized()` of both kinds of connections.

LOOP = BackgroundLoop()


class Blocking:
    """A connection that blocks."""

    def __init__(self, address: str, timeout: float | None = 20) -> None:
        self._connection = ChronyConnection(address, timeout=timeout)

    def __enter__(self) -> Callable[..., TrackingStatus]:
        return self._connection.__enter__().wait_synchronized

    def __exit__(self, *error: object) -> None:
        self._connection.close()


class Awaited:
    """A connection of `aio`, on an event loop in a thread."""

    def __init__(self, address: str, timeout: float | None = 20) -> None:
        self._connection = aio.ChronyConnection(address, timeout=timeout)

    def __enter__(self) -> Callable[..., TrackingStatus]:
        LOOP.result(self._connection.__aenter__())
        return lambda **options: LOOP.result(self._connection.wait_synchronized(**options))

    def __exit__(self, *error: object) -> None:
        LOOP.result(self._connection.aclose())


Waits = type[Blocking] | type[Awaited]
each_way = pytest.mark.parametrize("waits", [Blocking, Awaited])

UNSYNCHRONIZED = tracking(leap_status=3, reference_id=0, stratum=0)


@each_way
def test_a_connection_waits_until_chronyd_follows_a_source(
    waits: Waits, server: PrivateChronyd
) -> None:
    with PrivateChronyd() as chronyd, waits(chronyd.address) as wait:
        source = threading.Timer(0.5, chronyd.chronyc, ["add", *server.as_source().split()])
        source.start()
        first = wait()
        assert first.is_synchronized()
        assert first.stratum == 6
        source.join()
        assert wait(max_error=10.0).error_bound <= 10.0


@each_way
def test_a_connection_waits_on_while_chronyd_restarts(waits: Waits, server: PrivateChronyd) -> None:
    with PrivateChronyd(server.as_source()) as chronyd, waits(chronyd.address) as wait:
        assert wait().is_synchronized()
        chronyd.stop()
        comes_back = threading.Timer(0.5, chronyd.start)
        comes_back.start()
        assert wait().is_synchronized()
        comes_back.join()


@each_way
def test_a_restart_in_the_middle_of_a_wait_is_no_failure(waits: Waits) -> None:
    """chronyd is unsynchronised, then stopped, unsynchronised again, and finally good."""
    with ScriptedChronyd({**script(), Command.TRACKING: UNSYNCHRONIZED}, "unix") as chronyd:

        def restart() -> None:
            asked_at_least(chronyd, 2)
            chronyd.stop(crash=True)
            time.sleep(0.3)
            answers = in_turn(UNSYNCHRONIZED, UNSYNCHRONIZED, tracking())
            chronyd.script = {**script(), Command.TRACKING: answers}
            chronyd.start()

        with waits(chronyd.address) as wait, ThreadPoolExecutor(1) as pool:
            done = pool.submit(restart)
            assert wait().stratum == 3
            done.result()
        assert len(chronyd.requests) >= 5


def asked_at_least(chronyd: ScriptedChronyd, times: int) -> None:
    end = time.monotonic() + 20
    while len(chronyd.requests) < times and time.monotonic() < end:
        time.sleep(0.01)


@each_way
def test_a_connection_waits_for_the_error_bound(waits: Waits) -> None:
    bad, better = tracking(root_dispersion=0.5), tracking(root_dispersion=0.001)
    answers = {**script(), Command.TRACKING: in_turn(bad, bad, better)}
    with ScriptedChronyd(answers) as chronyd, waits(chronyd.address) as wait:
        found = wait(max_error=0.01)
        assert found.root_dispersion == pytest.approx(0.001)
        assert len(chronyd.requests) == 3
        with pytest.raises(ChronyNotSynchronizedError, match=r"error bound 7.16 ms, above 7.00 ms"):
            wait(max_error=0.007, timeout=0.2)
        assert wait(max_error=found.error_bound, timeout=0) == found


@each_way
def test_a_connection_does_not_wait_longer_than_it_may(waits: Waits) -> None:
    with PrivateChronyd() as chronyd, waits(chronyd.command_address, timeout=None) as wait:
        with pytest.raises(ChronyNotSynchronizedError, match="chronyd is not synchronised") as end:
            wait(timeout=1.0)
        assert end.value.__cause__ is None
        chronyd.pause()
        with pytest.raises(ChronyNotSynchronizedError, match="no answer") as end:
            wait(timeout=0.2)
        assert isinstance(end.value.__cause__, ChronyConnectionError)
        chronyd.resume()


@each_way
def test_the_timeout_of_a_wait_covers_pauses_and_questions(waits: Waits) -> None:
    with ScriptedChronyd(fault=drop) as chronyd, waits(chronyd.address, timeout=30) as wait:
        begun = time.monotonic()
        with pytest.raises(ChronyNotSynchronizedError, match=r"not good within 1.0 s: .*no answer"):
            wait(timeout=1.0)
        assert 1.0 <= time.monotonic() - begun < 20


@each_way
def test_its_own_reference_is_not_waited_for_as_a_source(
    waits: Waits, server: PrivateChronyd
) -> None:
    with (
        waits(server.address) as wait,
        pytest.raises(ChronyNotSynchronizedError, match="its own reference"),
    ):
        wait(timeout=0.1)


@each_way
def test_what_does_not_pass_ends_the_wait_of_a_connection(waits: Waits) -> None:
    with ScriptedChronyd({**script(), Command.TRACKING: Status.UNAUTH}) as chronyd:
        with waits(chronyd.address) as wait, pytest.raises(ChronyPermissionError):
            wait()
        with pytest.raises(RuntimeError):
            wait()


@each_way
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_error", -1.0),
        ("max_error", float("nan")),
        ("timeout", -1.0),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", 1e300),
    ],
)
def test_a_connection_refuses_to_wait_for_what_cannot_be(
    waits: Waits, option: str, value: float, chronyd: PrivateChronyd
) -> None:
    with waits(chronyd.address) as wait, pytest.raises(ValueError, match=option) as caught:
        wait(**{option: value})
    assert repr(value) in str(caught.value)


@each_kind
@pytest.mark.parametrize("fault", [honest, drop])  # in a pause, and in a question
def test_a_wait_that_is_cancelled_leaves_the_connection_as_it_was(kind: str, fault: Fault) -> None:
    async def main(chronyd: ScriptedChronyd) -> None:
        async with aio.ChronyConnection(chronyd.address, timeout=20) as connection:
            waiting = asyncio.ensure_future(connection.wait_synchronized(timeout=None))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            chronyd.fault, chronyd.script = honest, script()
            assert (await connection.wait_synchronized(timeout=20)).stratum == 3

    with ScriptedChronyd({**script(), Command.TRACKING: UNSYNCHRONIZED}, fault=fault) as chronyd:
        run(kind, main(chronyd))


def test_ctrl_c_ends_a_wait_and_the_connection_works_on() -> None:
    with (
        ScriptedChronyd({**script(), Command.TRACKING: UNSYNCHRONIZED}) as chronyd,
        ChronyConnection(chronyd.address, timeout=20) as connection,
    ):
        interruption = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
        interruption.start()
        with pytest.raises(KeyboardInterrupt):
            connection.wait_synchronized(timeout=20)
        interruption.join()
        chronyd.script = script()
        assert connection.wait_synchronized(timeout=20).stratum == 3
