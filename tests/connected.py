"""Connects to a scripted chronyd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from limits import HANG
from scripted import Fault, Script, ScriptedChronyd, Transport
from scripted.faults import honest

from pychrony import ChronyConnection


@contextmanager
def connected(
    answers: Script | None = None,
    transport: Transport = "udp",
    *,
    fault: Fault = honest,
    timeout: float | None = HANG,
) -> Iterator[tuple[ScriptedChronyd, ChronyConnection]]:
    """Start a scripted chronyd, and open a connection to it."""
    with (
        ScriptedChronyd(answers, transport, fault=fault) as chronyd,
        ChronyConnection(chronyd.address, timeout=timeout) as connection,
    ):
        yield chronyd, connection
