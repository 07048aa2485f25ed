"""Defines requests to a scripted chronyd, what a script can contain, and what a fault is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .wire import BY_ADDRESS, BY_INDEX, REQUEST, Command, Record, Status

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
        by_index = self.command in BY_INDEX
        return int.from_bytes(self.raw[20:24], "big") if by_index else None

    @property
    def address(self) -> bytes | None:
        """The source, in a request by address; compare it with `address_bytes()`."""
        return self.raw[20:40] if self.command in BY_ADDRESS else None

    def is_dropped(self) -> bool:
        """Whether chronyd ignores the datagram without an answer."""
        if not 28 <= len(self.raw) <= _LONGEST_REQUEST:
            return True
        return self.raw[1] != REQUEST or self.raw[2:4] != b"\0\0"


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
