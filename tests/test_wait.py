"""Tests when `pychrony wait` and `wait_synchronized()` end, and the progress that they show."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from chronyc import chronyc
from limits import PATIENCE, wait_until
from loops import each_kind, run
from programs import Call, Terminal, running
from scripted import Fault, ScriptedChronyd, in_turn, script
from scripted.faults import drop, honest
from scripted.wire import Command, Status, tracking
from ways import LOOP, connected

import pychrony
from pychrony import (
    ChronyConnection,
    ChronyConnectionError,
    ChronyError,
    ChronyNotSynchronizedError,
    ChronyPermissionError,
    TrackingStatus,
    aio,
)
from pychrony._command.wait import _Progress
from pychrony._waiting import Waiting
from pychrony.testing import PrivateChronyd, make_tracking


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the last question more time than its quarter of a second, on a busy machine."""
    for module in ("_waiting", "_command.wait"):
        monkeypatch.setattr(f"pychrony.{module}.SHORTEST_QUESTION", 20.0)


patient = pytest.mark.usefixtures("_patient")


def lines_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Read the command's output until a line has this text."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"ended without {text!r}: {lines}")


def test_a_good_clock_needs_no_waiting(chronyd: PrivateChronyd, call: Call) -> None:
    done = call("wait", "--address", chronyd.address)
    assert (done.code, done.err) == (0, "")
    shown = r"good after \d+\.\d s: error bound .+, stratum 6, reference 127\.0\.0\.1\n"
    assert re.fullmatch(shown, done.out)


def test_a_chronyd_may_come_later_and_restart_meanwhile(server: PrivateChronyd) -> None:
    with PrivateChronyd() as chronyd:
        chronyd.stop()
        with running("wait", "--address", chronyd.address, "--timeout", "5m") as process:
            lines_until(process, f"connecting to {chronyd.address}: no such file")
            chronyd.start()
            lines_until(process, "chronyd is not synchronised")
            chronyd.stop(crash=True)
            lines_until(process, "connection refused")
            chronyd.start()
            lines_until(process, "chronyd is not synchronised")
            chronyc(chronyd.address, "add", *server.as_source().split())
            out, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0
            assert out.startswith("good after ")


@patient
@pytest.mark.parametrize("place", ["address", "command_address"])
def test_a_clock_that_is_not_good_in_time_is_code_1(place: str, call: Call) -> None:
    with PrivateChronyd() as chronyd:
        begun = time.monotonic()
        done = call("wait", "--address", getattr(chronyd, place), "--timeout", "1s")
        assert time.monotonic() - begun >= 1
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1] == (
        "pychrony: waiting for the clock: not good within 1.0 s: chronyd is not synchronised"
    )


@patient
def test_its_own_reference_is_good_only_if_allowed(server: PrivateChronyd, call: Call) -> None:
    wait = "wait", "--address", server.address, "--timeout", "0"
    done = call(*wait)
    assert done.code == 1
    assert "chronyd is its own reference" in done.err
    done = call(*wait, "--local-ok")
    assert done.code == 0
    assert ": its own reference, stratum 5, reference 127.127.1.1" in done.out


@patient
def test_the_error_bound_is_waited_for(call: Call) -> None:
    bad, better = tracking(root_dispersion=0.5), tracking(root_dispersion=0.001)
    answers = {**script(), Command.TRACKING: in_turn(bad, bad, better)}
    with ScriptedChronyd(answers) as chronyd:
        done = call("wait", "--address", chronyd.address, "--max-error", "10ms")
        assert done.code == 0
        assert "error bound 506 ms, above 10.0 ms" in done.err
        assert "error bound 7.16 ms" in done.out
        options = ["--address", chronyd.address, "--max-error", "7ms", "--timeout", "0"]
        done = call("wait", *options)
    assert done.code == 1
    assert "not good within 0 s: error bound 7.16 ms, above 7.00 ms" in done.err


def test_only_a_new_obstacle_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = Waiting(max_error=0.001, timeout=None)
    progress = _Progress(waiting, quiet=False)
    answers: list[TrackingStatus | ChronyError] = [
        *(ChronyConnectionError._compose("connecting to", "a", why) for why in ("x", "y", "y")),
        *(make_tracking(offset=offset) for offset in (0.1, 0.2)),
    ]
    for answer in answers:
        waiting.take(answer)
        progress.tell()
    told = [line.partition(" s: ")[2] for line in capsys.readouterr().err.splitlines()]
    assert told == ["connecting to a: x", "connecting to a: y", "error bound 103 ms, above 1.00 ms"]


def test_an_answer_that_cannot_be_used_ends_it(call: Call) -> None:
    with ScriptedChronyd({**script(), Command.TRACKING: Status.UNAUTH}) as chronyd:
        done = call("wait", "--address", chronyd.address)
    assert done.code == 1
    assert "not authorized" in done.err
    assert "not good within" not in done.err


def test_quiet_says_nothing_but_errors(chronyd: PrivateChronyd, call: Call) -> None:
    assert call("wait", "--address", chronyd.address, "--quiet") == (0, "", "")
    done = call("wait", "--address", "127.0.0.1:9", "--timeout", "0.2", "--quiet")
    assert (done.code, done.err.count("\n")) == (1, 1)


def test_a_terminal_shows_how_far_it_is_in_place() -> None:
    with (
        PrivateChronyd() as chronyd,
        Terminal() as terminal,
        running("wait", "--address", chronyd.address, stderr=terminal.end),
    ):
        shown = terminal.shown_until("chronyd is not synchronised\x1b[K", times=3)
    assert len(re.findall(r"\r +\d+\.\d s: chronyd is not synchronised", shown)) >= 3
    assert "\n" not in shown


# `wait_synchronized()` of both kinds of connections.

each_way = pytest.mark.parametrize("module", [pychrony, aio], ids=["blocking", "awaited"])


@contextmanager
def waiting(
    module: Any, address: str, timeout: float | None = 20
) -> Iterator[Callable[..., TrackingStatus]]:
    """The method of a connection."""
    with connected(module, address, timeout) as connection:
        yield lambda **options: LOOP.result(connection.wait_synchronized(**options))


UNSYNCHRONIZED = tracking(leap_status=3, reference_id=0, stratum=0)


@each_way
def test_a_connection_waits_until_chronyd_has_a_source(module: Any, server: PrivateChronyd) -> None:
    with PrivateChronyd() as chronyd, waiting(module, chronyd.address) as wait:
        source = threading.Timer(
            0.5, chronyc, [chronyd.address, "add", *server.as_source().split()]
        )
        source.start()
        first = wait()
        assert first.is_synchronized()
        assert first.stratum == 6
        source.join()
        assert wait(max_error=10.0).error_bound <= 10.0


@each_way
def test_a_connection_waits_on_while_chronyd_restarts(module: Any, server: PrivateChronyd) -> None:
    with PrivateChronyd(server.as_source()) as chronyd, waiting(module, chronyd.address) as wait:
        assert wait().is_synchronized()
        chronyd.stop()
        comes_back = threading.Timer(0.5, chronyd.start)
        comes_back.start()
        assert wait().is_synchronized()
        comes_back.join()


@each_way
def test_a_restart_in_the_middle_of_a_wait_is_no_failure(module: Any) -> None:
    """chronyd is unsynchronised, then stopped, unsynchronised again, and finally good."""
    with ScriptedChronyd({**script(), Command.TRACKING: UNSYNCHRONIZED}, "unix") as chronyd:

        def restart() -> None:
            wait_until(lambda: len(chronyd.requests) >= 2)
            chronyd.stop(crash=True)
            time.sleep(0.3)
            answers = in_turn(UNSYNCHRONIZED, UNSYNCHRONIZED, tracking())
            chronyd.script = {**script(), Command.TRACKING: answers}
            chronyd.start()

        with waiting(module, chronyd.address) as wait, ThreadPoolExecutor(1) as pool:
            done = pool.submit(restart)
            assert wait().stratum == 3
            done.result()
        assert len(chronyd.requests) >= 5


@each_way
@patient
def test_a_connection_waits_for_the_error_bound(module: Any) -> None:
    bad, better = tracking(root_dispersion=0.5), tracking(root_dispersion=0.001)
    answers = {**script(), Command.TRACKING: in_turn(bad, bad, better)}
    with ScriptedChronyd(answers) as chronyd, waiting(module, chronyd.address) as wait:
        found = wait(max_error=0.01)
        assert found.root_dispersion == pytest.approx(0.001)
        with pytest.raises(ChronyNotSynchronizedError, match=r"error bound 7.16 ms, above 7.00 ms"):
            wait(max_error=0.007, timeout=0.2)
        assert wait(max_error=found.error_bound, timeout=0) == found


@each_way
@patient
def test_a_connection_does_not_wait_longer_than_it_may(module: Any) -> None:
    with PrivateChronyd() as chronyd, waiting(module, chronyd.command_address, None) as wait:
        with pytest.raises(ChronyNotSynchronizedError, match="chronyd is not synchronised") as end:
            wait(timeout=1.0)
        assert end.value.__cause__ is None


@each_way
def test_the_timeout_of_a_wait_covers_pauses_and_questions(module: Any) -> None:
    with ScriptedChronyd(fault=drop) as chronyd, waiting(module, chronyd.address, 30) as wait:
        begun = time.monotonic()
        with pytest.raises(ChronyNotSynchronizedError, match=r"within 1.0 s: .*no answer") as end:
            wait(timeout=1.0)
        assert 1.0 <= time.monotonic() - begun < 20
        assert isinstance(end.value.__cause__, ChronyConnectionError)


@each_way
@patient
def test_its_own_reference_is_no_source_to_wait_for(module: Any, server: PrivateChronyd) -> None:
    with (
        waiting(module, server.address) as wait,
        pytest.raises(ChronyNotSynchronizedError, match="its own reference"),
    ):
        wait(timeout=0.1)


@each_way
def test_what_does_not_pass_ends_the_wait_of_a_connection(module: Any) -> None:
    with ScriptedChronyd({**script(), Command.TRACKING: Status.UNAUTH}) as chronyd:
        with waiting(module, chronyd.address) as wait, pytest.raises(ChronyPermissionError):
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
    module: Any, option: str, value: float, chronyd: PrivateChronyd
) -> None:
    with (
        waiting(module, chronyd.address) as wait,
        pytest.raises(ValueError, match=option) as caught,
    ):
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

        def interrupt() -> None:
            wait_until(lambda: len(chronyd.requests) >= 2)
            signal.raise_signal(signal.SIGINT)

        interruption = threading.Thread(target=interrupt)
        interruption.start()
        with pytest.raises(KeyboardInterrupt):
            connection.wait_synchronized(timeout=20)
        interruption.join()
        chronyd.script = script()
        assert connection.wait_synchronized(timeout=20).stratum == 3
