"""Provides fixtures for all tests: real chronyds, shared by the whole session."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
from chronyc import chronyc
from scripted import ScriptedChronyd

from pychrony import ChronyError
from pychrony.testing import PrivateChronyd

pytest_plugins = ["alone", "programs"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run four workers per CPU, since tests mostly wait for timeouts and other programs.

    For single files, run two: to start a worker takes as long as many tests.
    """
    files = any(".py" in argument for argument in config.args)
    return (2 if files else 4) * len(os.sched_getaffinity(0))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse to run without chronyd, chronyc or libchrony; no test is skipped because of them."""
    # A shell lets background jobs ignore Ctrl-C. The tests send it, and programs that they start
    # would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(session.config, "workerinput"):
        return  # a worker of pytest-xdist: its controller has checked this
    try:
        with PrivateChronyd() as chronyd:
            chronyc(chronyd.address, "activity")
    except (ChronyError, OSError) as error:
        raise pytest.UsageError(f"the tests need chronyd, chronyc and libchrony: {error}") from None
    if session.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        compile_tests()


def compile_tests() -> None:
    """Let pytest rewrite the assertions now; otherwise, each worker would rewrite all of them."""
    for file in Path(__file__).parent.glob("test_*.py"):
        with suppress(Exception):  # the workers tell of it
            import_module(file.stem)


@pytest.fixture(scope="session")
def server() -> Iterator[PrivateChronyd]:
    """A chronyd that is its own reference, at stratum 5; tests must not change it."""
    with PrivateChronyd("local stratum 5") as server:
        yield server


@pytest.fixture(scope="session")
def chronyd(server: PrivateChronyd) -> Iterator[PrivateChronyd]:
    """A chronyd that follows `server`; tests must not change it, but can start their own."""
    with PrivateChronyd(server.as_source()) as chronyd:
        chronyd.wait_until_synchronized()
        yield chronyd


@pytest.fixture
def resolve_to(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let every host name have certain IP addresses."""

    def set_addresses(*hosts: str) -> None:
        found = [(None, socket.SOCK_DGRAM, 17, "", (host, 0)) for host in hosts]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: found)

    return set_addresses


@pytest.fixture
def scripted() -> Iterator[ScriptedChronyd]:
    """A chronyd that answers from a script, over a Unix socket; tests may change it."""
    with ScriptedChronyd(transport="unix") as scripted:
        yield scripted
