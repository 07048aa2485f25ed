"""Defines requests to a scripted chronyd, scripts, which answer them, and what a fault is."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from . import wire
from .wire import Command, Record, Source, Status

_LONGEST_REQUEST = 860  # of chronyd 4.3; other commands than ours need it
_COMMANDS = {int(command): command for command in Command}


@dataclass(frozen=True)
class Request:
    """A datagram as it was received, and its sender."""

    raw: bytes
    client: Any

    @property
    def command(self) -> Command | None:
        """The command; `None` if libchrony would not send it."""
        return _COMMANDS.get(int.from_bytes(self.raw[4:6], "big"))

    @property
    def sequence(self) -> int:
        return int.from_bytes(self.raw[8:12], "big")

    @property
    def index(self) -> int | None:
        """The index of the source, in a request by index."""
        by_index = self.command in wire.BY_INDEX
        return int.from_bytes(self.raw[20:24], "big") if by_index else None

    @property
    def address(self) -> bytes | None:
        """The source, in a request by address; compare it with `address_bytes()`."""
        return self.raw[20:40] if self.command in wire.BY_ADDRESS else None

    def is_dropped(self) -> bool:
        """Whether chronyd ignores the datagram without an answer."""
        if not 28 <= len(self.raw) <= _LONGEST_REQUEST:
            return True
        return self.raw[1] != wire.REQUEST or self.raw[2:4] != b"\0\0"


# What the script says about one source: `None` is silence.
Entry: TypeAlias = Record | Status | None
# What the script says about a command: one entry for every request, a plain number of sources, an
# entry for each index, or for each address, or a function that returns one of these.
Answer: TypeAlias = (
    Entry | int | Sequence[Entry] | Mapping[bytes, Entry] | Callable[[Request], "Answer"]
)
Script: TypeAlias = Mapping[Command, Answer]

# A fault decides which datagrams are sent, each after a pause in seconds, when `reply` would be
# the answer to a request; `number` counts the answers from 0.
Fault: TypeAlias = Callable[[Request, bytes, int], Iterable[tuple[float, bytes]]]


_CLOSED = (Command.SELECTDATA, Command.AUTHDATA, Command.NTPDATA, Command.SERVERSTATS)
OPEN_COMMANDS = frozenset(Command).difference(_CLOSED)
"""The commands that chronyd answers over UDP, unless `opencommands` says otherwise."""


def script(sources: Iterable[Source] | None = None, *records: Record) -> dict[Command, Answer]:
    """Return all reports of a chronyd with these sources, by default an NTP source and a refclock.

    The given records replace those of the reports that are not about a source.
    """
    known = [wire.ntp_source(), wire.refclock()] if sources is None else list(sources)
    addresses = [source[Command.SOURCESTATS].values["address"] for source in known]
    unresolved = sum(str(address).startswith("ID#") for address in addresses)
    online = sum(Command.NTPDATA in source for source in known) - unresolved
    answers: dict[Command, Answer] = {Command.N_SOURCES: len(known)}
    for command in wire.BY_INDEX:
        answers[command] = [source[command] for source in known]
    for command in wire.BY_ADDRESS:
        answers[command] = {
            wire.address_bytes(str(address)): source[command]
            for address, source in zip(addresses, known, strict=True)
            if command in source
        }
    counts = wire.activity(online_sources=online, unresolved_sources=unresolved)
    defaults = (wire.tracking(), wire.serverstats(), wire.rtcdata(), wire.smoothing())
    for record in (*defaults, counts, *records):
        answers[record.layout.command] = record
    return answers


def in_turn(*answers: Answer) -> Callable[[Request], Answer]:
    """Give one answer after the other; repeat the last one."""
    left = deque(answers)
    return lambda request: left.popleft() if len(left) > 1 else left[0]


def changing(scripts: Sequence[Script], now: Callable[[int], int]) -> dict[Command, Answer]:
    """Answer each request from one of the scripts: the n-th request, from 1, from number now(n)."""
    numbers = itertools.count(1)

    def turn(command: Command) -> Callable[[Request], Answer]:
        return lambda request: scripts[now(next(numbers))][command]

    return {command: turn(command) for command in scripts[0]}
