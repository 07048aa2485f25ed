"""Makes scripts: the answers of a chronyd with certain sources to each request."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from .requests import Answer, Request, Script
from .wire import (
    BY_ADDRESS,
    BY_INDEX,
    Command,
    Record,
    Source,
    activity,
    address_bytes,
    ntp_source,
    refclock,
    rtcdata,
    serverstats,
    smoothing,
    tracking,
)

# The commands that chronyd answers over UDP, unless `opencommands` says otherwise.
OPEN_COMMANDS = frozenset(
    {
        Command.N_SOURCES,
        Command.SOURCES,
        Command.TRACKING,
        Command.SOURCESTATS,
        Command.RTCDATA,
        Command.ACTIVITY,
        Command.SMOOTHING,
    }
)


def script(sources: Iterable[Source] | None = None, *records: Record) -> dict[Command, Answer]:
    """Return all reports of a chronyd with these sources, by default an NTP source and a refclock.

    The given records replace those of the reports that are not about a source.
    """
    known = [ntp_source(), refclock()] if sources is None else list(sources)
    addresses = [source[Command.SOURCESTATS].values["address"] for source in known]
    unresolved = sum(str(address).startswith("ID#") for address in addresses)
    online = sum(Command.NTPDATA in source for source in known) - unresolved
    answers: dict[Command, Answer] = {Command.N_SOURCES: len(known)}
    for command in BY_INDEX:
        answers[command] = [source[command] for source in known]
    for command in BY_ADDRESS:
        answers[command] = {
            address_bytes(str(address)): source[command]
            for address, source in zip(addresses, known, strict=True)
            if command in source
        }
    counts = activity(online_sources=online, unresolved_sources=unresolved)
    for record in (tracking(), counts, serverstats(), rtcdata(), smoothing(), *records):
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
