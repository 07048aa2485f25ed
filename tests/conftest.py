"""Fixtures for all tests: a real chronyd, kept for the whole session."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pychrony import ChronyError
from pychrony.testing import PrivateChronyd

pytest_plugins = ["faults_page"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Most of the time the tests wait, for timeouts to pass and programs to end."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Nothing is skipped for want of chronyd, chronyc or libchrony: without one, nothing runs."""
    # A shell ignores Ctrl-C for what it starts in the background; the tests send it, and programs
    # that they start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(session.config, "workerinput"):
        return  # of pytest-xdist, whose controller has looked
    try:
        with PrivateChronyd() as chronyd:
            chronyd.chronyc("activity")
    except ChronyError as error:
        raise pytest.UsageError(f"the tests need chronyd, chronyc and libchrony: {error}") from None


@pytest.fixture(scope="session")
def server() -> Iterator[PrivateChronyd]:
    """A chronyd that is its own reference, at stratum 5; leave it as it is."""
    with PrivateChronyd("local stratum 5") as server:
        yield server


@pytest.fixture(scope="session")
def chronyd(server: PrivateChronyd) -> Iterator[PrivateChronyd]:
    """A chronyd that follows `server`; leave it as it is: it takes 0.03 s to start your own."""
    with PrivateChronyd(server.as_source()) as chronyd:
        chronyd.wait_until_synchronized()
        yield chronyd
