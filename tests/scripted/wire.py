"""chronyd's monitoring protocol, version 6, as tables: every reply with its fields in wire order.

Field names are libchrony's. The third column is the default value of a field; together they
describe a healthy client that follows 192.0.2.1.
"""

from __future__ import annotations

import hashlib
import math
import operator
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from ipaddress import ip_address
from typing import Any, NamedTuple

VERSION = 6
REQUEST, RESPONSE = 1, 2
NULL_REPLY = 1  # the reply code that goes with an error status
NEVER = 0xFFFFFFFF  # "no sample yet" in seconds, "not supported" in counters
NO_HIGH_WORD = 0x7FFFFFFF  # high word of the seconds from a chronyd with 32-bit time

HEADER = struct.Struct(">BBHHHH6xI8x")
HEADER_FIELDS = {  # of a response: offset and size of what libchrony looks at
    "version": (0, 1),
    "type": (1, 1),
    "reserved": (2, 2),
    "command": (4, 2),
    "reply": (6, 2),
    "status": (8, 2),
    "sequence": (16, 4),
}


class Command(IntEnum):
    """Commands, under libchrony's names of the reports."""

    N_SOURCES = 14
    SOURCES = 15
    TRACKING = 33
    SOURCESTATS = 34
    RTCDATA = 35
    ACTIVITY = 44
    SMOOTHING = 51
    SERVERSTATS = 54
    NTPDATA = 57
    AUTHDATA = 67
    SELECTDATA = 69


class Status(IntEnum):
    """The status of a reply to a command that only reads, under chrony's names."""

    SUCCESS = 0
    FAILED = 1
    UNAUTH = 2
    INVALID = 3
    NOSUCHSOURCE = 4
    NOTENABLED = 6
    NORTC = 13
    BADPKTVERSION = 18
    BADPKTLENGTH = 19


BY_INDEX = (Command.SOURCES, Command.SOURCESTATS, Command.SELECTDATA)
BY_ADDRESS = (Command.AUTHDATA, Command.NTPDATA)


def response(
    command: int, sequence: int, *, reply: int = NULL_REPLY, status: int = 0, body: bytes = b""
) -> bytes:
    """One datagram as chronyd sends it."""
    return HEADER.pack(VERSION, RESPONSE, 0, command, reply, status, sequence) + body


def float_bytes(value: float) -> bytes:
    """Encode a 7-bit exponent and a 25-bit coefficient."""
    fraction, exponent = math.frexp(value)
    coefficient = int(math.ldexp(fraction, 24))
    if exponent <= -64:
        return bytes(4)  # as chronyd does
    if exponent >= 63:
        raise ValueError(f"chronyd would not send {value}")
    return ((exponent + 1) % 2**7 << 25 | coefficient % 2**25).to_bytes(4, "big")


def float_value(raw: bytes) -> float:
    """The number that four bytes stand for."""
    word = int.from_bytes(raw, "big", signed=True)
    coefficient = (word & 0x1FFFFFF) - ((word & 0x1000000) << 1)
    return math.ldexp(coefficient, (word >> 25) - 25)


def time_bytes(nanoseconds: int) -> bytes:
    """A time since 1970 from a chronyd with 64-bit time."""
    seconds, rest = divmod(operator.index(nanoseconds), 10**9)
    return timespec(seconds >> 32 & 0xFFFFFFFF, seconds & 0xFFFFFFFF, rest)


def timespec(high: int, low: int, nanoseconds: int) -> bytes:
    """Encode a time from its three words, for times that chronyd would not send."""
    return struct.pack(">III", high, low, nanoseconds)


def address_bytes(text: str | None) -> bytes:
    """An IP address, "ID#0000000001" of a source without one, or None for no source."""
    if not text:
        return packed_address(b"", 0)
    if text.startswith("ID#"):
        return packed_address(int(text[3:]).to_bytes(4, "big"), 3)
    address = ip_address(text)
    return packed_address(address.packed, 1 if address.version == 4 else 2)


def packed_address(raw: bytes, family: int) -> bytes:
    """Encode an address from its bytes, for families that do not exist."""
    return struct.pack(">16sHxx", raw, family)


def refclock_bytes(reference_id: int) -> bytes:
    """Encode a reference clock's ID in place of the address in `sources`, like an IPv4 address."""
    return packed_address(operator.index(reference_id).to_bytes(4, "big"), 1)


def reference_id(source: str | None) -> int:
    """Return the reference ID of a source, given its IP address or a reference clock's name."""
    try:
        address = ip_address(source or "")
    except ValueError:
        name = "" if not source or source.startswith("ID#") else source
        return int.from_bytes(name.encode("ascii").ljust(4, b"\0")[:4], "big")
    packed = address.packed
    if address.version == 6:
        packed = hashlib.md5(packed, usedforsecurity=False).digest()
    return int.from_bytes(packed[:4], "big")


class Kind(NamedTuple):
    """The encoding of a value."""

    size: int
    encode: Callable[[Any], bytes]


def integer(size: int, *, signed: bool = False) -> Kind:
    return Kind(size, lambda value: operator.index(value).to_bytes(size, "big", signed=signed))


U8, U16, U32, U64 = integer(1), integer(2), integer(4), integer(8)
I8, I16 = integer(1, signed=True), integer(2, signed=True)
FLOAT = Kind(4, float_bytes)
TIMESPEC = Kind(12, time_bytes)
ADDRESS = Kind(20, address_bytes)
REFCLOCK = Kind(20, refclock_bytes)

# Times are nanoseconds. Bytes go out as they are, whatever the kind of the field.
Value = int | float | str | bytes | None


class Field(NamedTuple):
    name: str
    kind: Kind
    default: Value

    @property
    def keyword(self) -> str:
        """The name as an identifier: `rms_offset`, `reserved_1`, `accepted_nts_ke_connections`."""
        words = "".join(c if c.isalnum() else " " for c in self.name).lower()
        return "_".join(words.split())

    def encode(self, value: Value) -> bytes:
        raw = value if isinstance(value, bytes) else self.kind.encode(value)
        if len(raw) != self.kind.size:
            raise ValueError(f"{self.name}: {len(raw)} bytes instead of {self.kind.size}")
        return raw

    def received(self, value: Value, raw: bytes) -> Value:
        """Return the value that the receiver sees, since floats lose digits on the wire."""
        if self.kind is FLOAT and not isinstance(value, bytes):
            return float_value(raw)
        return value


@dataclass(frozen=True)
class Layout:
    """One reply of the protocol. Calling it makes a record: `source(poll=-4)`."""

    command: Command
    reply: int
    fields: tuple[Field, ...] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.report}-{self.reply}"

    @property
    def report(self) -> str:
        """libchrony's name of the report."""
        return self.command.name.lower()

    @cached_property
    def length(self) -> int:
        return HEADER.size + sum(field.kind.size for field in self.fields)

    @cached_property
    def keywords(self) -> Mapping[str, str]:
        return {field.keyword: field.name for field in self.fields}

    def __call__(self, **values: Value) -> Record:
        """A record with these values, by keyword, and the defaults for the rest."""
        return self.record({self.keywords[keyword]: value for keyword, value in values.items()})

    def record(self, values: Mapping[str, Value]) -> Record:
        """A record with these values, by libchrony's names, and the defaults for the rest."""
        received, body = {}, bytearray()
        for one in self.fields:
            value = values.get(one.name, one.default)
            raw = one.encode(value)
            body += raw
            received[one.name] = one.received(value, raw)
        return Record(self, received, bytes(body))


@dataclass(frozen=True)
class Record:
    """A filled-in reply: the values that libchrony should read, and the bytes after the header."""

    layout: Layout
    values: Mapping[str, Value]
    body: bytes = field(repr=False)

    def replace(self, **values: Value) -> Record:
        """Return the record with these values changed."""
        names = self.layout.keywords
        changed = {names[keyword]: value for keyword, value in values.items()}
        return self.layout.record({**self.values, **changed})


def layout(command: Command, reply: int, *fields: tuple[str, Kind, Value]) -> Layout:
    return Layout(command, reply, tuple(Field(*field) for field in fields))


n_sources = layout(Command.N_SOURCES, 2, ("sources", U32, 1))

tracking = layout(
    Command.TRACKING,
    5,
    ("reference ID", U32, 0xC0000201),
    ("address", ADDRESS, "192.0.2.1"),
    ("stratum", U16, 3),
    ("leap status", U16, 0),
    ("reference time", TIMESPEC, 1_700_000_000_123_456_789),
    ("current correction", FLOAT, 1.25e-5),
    ("last offset", FLOAT, -3.4e-6),
    ("RMS offset", FLOAT, 2.1e-5),
    ("frequency offset", FLOAT, -12.345),
    ("residual frequency", FLOAT, 0.002),
    ("skew", FLOAT, 0.045),
    ("root delay", FLOAT, 0.0123),
    ("root dispersion", FLOAT, 0.0014),
    ("last update interval", FLOAT, 64.2),
)

_MEASURED = (
    ("poll", I16, 6),
    ("stratum", U16, 2),
    ("state", U16, 0),
)
_SAMPLE = (
    ("flags", U16, 0),
    ("reachability", U16, 0o377),
    ("last sample ago", U32, 23),
    ("original last sample offset", FLOAT, 1.5e-5),
    ("adjusted last sample offset", FLOAT, 1.1e-5),
    ("last sample error", FLOAT, 0.0071),
)
source = layout(
    Command.SOURCES,
    3,
    ("address", ADDRESS, "192.0.2.1"),
    *_MEASURED,
    ("mode", U16, 0),
    *_SAMPLE,
)
# libchrony tells the two apart by the mode
refclock_source = layout(
    Command.SOURCES,
    3,
    ("reference ID", REFCLOCK, reference_id("PPS0")),
    *_MEASURED,
    ("mode", U16, 2),
    *_SAMPLE,
)

sourcestats = layout(
    Command.SOURCESTATS,
    6,
    ("reference ID", U32, 0xC0000201),
    ("address", ADDRESS, "192.0.2.1"),
    ("samples", U32, 12),
    ("runs", U32, 7),
    ("span", U32, 780),
    ("standard deviation", FLOAT, 2.3e-5),
    ("residual frequency", FLOAT, -0.004),
    ("skew", FLOAT, 0.051),
    ("offset", FLOAT, 8.5e-6),
    ("offset error", FLOAT, 3.1e-5),
)

selectdata = layout(
    Command.SELECTDATA,
    23,
    ("reference ID", U32, 0xC0000201),
    ("address", ADDRESS, "192.0.2.1"),
    ("state", U8, ord("*")),
    ("authentication", U8, 0),
    ("leap status", U8, 0),
    ("reserved #1", U8, 0),
    ("configured options", U16, 0),
    ("effective options", U16, 0),
    ("last sample ago", U32, 23),
    ("score", FLOAT, 1.0),
    ("low limit", FLOAT, -0.0068),
    ("high limit", FLOAT, 0.0072),
)

activity = layout(
    Command.ACTIVITY,
    12,
    ("online sources", U32, 1),
    ("offline sources", U32, 0),
    ("burst online-return sources", U32, 0),
    ("burst offline-return sources", U32, 0),
    ("unresolved sources", U32, 0),
)

authdata = layout(
    Command.AUTHDATA,
    20,
    ("mode", U16, 0),
    ("key type", U16, 0),
    ("key ID", U32, 0),
    ("key length", U16, 0),
    ("key establishment attempts", U16, 0),
    ("last key establishment ago", U32, NEVER),
    ("cookies", U16, 0),
    ("cookie length", U16, 0),
    ("NAK", U16, 0),
    ("reserved #1", U16, 0),
)

_NTPDATA = (
    ("remote address", ADDRESS, "192.0.2.1"),
    ("local address", ADDRESS, "192.0.2.100"),
    ("remote port", U16, 123),
    ("leap status", U8, 0),
    ("version", U8, 4),
    ("mode", U8, 4),
    ("stratum", U8, 2),
    ("poll", I8, 6),
    ("precision", I8, -24),
    ("root delay", FLOAT, 0.0042),
    ("root dispersion", FLOAT, 0.0009),
    ("reference ID", U32, 0xC6336401),
    ("reference time", TIMESPEC, 1_699_999_950_987_654_321),
    ("offset", FLOAT, -1.1e-5),
    ("peer delay", FLOAT, 0.0081),
    ("peer dispersion", FLOAT, 1.2e-7),
    ("response time", FLOAT, 3.4e-5),
    ("jitter asymmetry", FLOAT, -0.12),
    ("flags", U16, 0x3FF),
    ("transmit timestamping", U8, ord("K")),
    ("receive timestamping", U8, ord("K")),
    ("transmitted messages", U32, 42),
    ("received messages", U32, 41),
    ("received valid messages", U32, 40),
    ("received good messages", U32, 39),
)
NTPDATA = {
    16: layout(
        Command.NTPDATA,
        16,
        *_NTPDATA,
        *((f"reserved #{number}", U32, NEVER) for number in (1, 2, 3)),
    ),
    26: layout(
        Command.NTPDATA,
        26,
        *_NTPDATA,
        ("kernel transmit timestamps", U32, 38),
        ("kernel receive timestamps", U32, 37),
        ("hardware transmit timestamps", U32, 2),
        ("hardware receive timestamps", U32, 1),
        *((f"reserved #{number}", U32, NEVER) for number in (1, 2, 3, 4)),
    ),
}
ntpdata = NTPDATA[26]

_SERVERSTATS = (  # name, the first reply that has it, value
    ("received NTP requests", 14, 15201),
    ("accepted NTS-KE connections", 22, 31),
    ("received command requests", 14, 702),
    ("dropped NTP requests", 14, 17),
    ("dropped NTS-KE connections", 22, 5),
    ("dropped command requests", 14, 3),
    ("dropped client log records", 14, 2),
    ("received authenticated NTP requests", 22, 611),
    ("received interleaved NTP requests", 24, 87),
    ("held NTP timestamps", 24, 64),
    ("NTP timestamp span", 24, 3600),
    ("served daemon RX timestamps", 25, 101),
    ("served daemon TX timestamps", 25, 102),
    ("served kernel RX timestamps", 25, 15083),
    ("served kernel TX timestamps", 25, 15082),
    ("served hardware RX timestamps", 25, 10),
    ("served hardware TX timestamps", 25, 11),
    *((f"reserved #{number}", 25, 0xFFFFFFFFFFFFFFFF) for number in (1, 2, 3, 4)),
)
SERVERSTATS = {
    reply: layout(
        Command.SERVERSTATS,
        reply,
        *((name, kind, value) for name, since, value in _SERVERSTATS if since <= reply),
    )
    for reply, kind in ((14, U32), (22, U32), (24, U32), (25, U64))
}
serverstats = SERVERSTATS[25]

rtcdata = layout(
    Command.RTCDATA,
    7,
    ("reference time", TIMESPEC, 1_699_999_000_000_000_000),
    ("samples", U16, 10),
    ("runs", U16, 5),
    ("span", U32, 7200),
    ("offset", FLOAT, 0.42),
    ("frequency offset", FLOAT, -3.2),
)

smoothing = layout(
    Command.SMOOTHING,
    13,
    ("flags", U32, 1),
    ("offset", FLOAT, -0.0021),
    ("frequency offset", FLOAT, 0.31),
    ("wander", FLOAT, -0.0011),
    ("last update ago", FLOAT, 12.5),
    ("remaining time", FLOAT, 340.0),
)

LAYOUTS = (
    tracking,
    source,
    refclock_source,
    sourcestats,
    selectdata,
    activity,
    authdata,
    *NTPDATA.values(),
    *SERVERSTATS.values(),
    rtcdata,
    smoothing,
)

# Everything that chronyd reports about one of its sources.
Source = dict[Command, Record]


def ntp_source(address: str = "192.0.2.1", *records: Record) -> Source:
    """A server at `address`; the records given replace the default ones, at that address."""
    defaults = source(), sourcestats(), selectdata(), authdata(), ntpdata()
    return _about(address, reference_id(address), *defaults, *records)


def unresolved_source(number: int = 1, *records: Record) -> Source:
    """A server whose host name is not resolved yet, so that nothing was received from it."""
    return ntp_source(
        f"ID#{number:010}",
        _blank(source, state=1, last_sample_ago=NEVER, poll=6),
        _blank(sourcestats, standard_deviation=4.0, skew=2000.0),
        _blank(selectdata, state=ord("M"), leap_status=3, score=1.0),
        _blank(
            ntpdata,
            remote_port=123,
            **{field.keyword: NEVER for field in ntpdata.fields if "reserved" in field.name},
        ),
        *records,
    )


def refclock(name: str = "PPS0", *records: Record) -> Source:
    """A reference clock: no address, no authdata, no ntpdata."""
    defaults = refclock_source(poll=4, stratum=0), sourcestats(), selectdata()
    return _about(None, reference_id(name), *defaults, *records)


def _about(address: str | None, number: int, *records: Record) -> Source:
    """The last record given for each command, with the source's address and reference ID."""
    found: Source = {}
    for record in records:
        names: dict[str, Value] = {"address": address, "remote_address": address}
        if record.layout.command is not Command.NTPDATA:  # which has that of the source's source
            names["reference_id"] = number
        keywords = names.keys() & record.layout.keywords.keys()
        found[record.layout.command] = record.replace(**{word: names[word] for word in keywords})
    return found


def _blank(kind: Layout, **values: Value) -> Record:
    """A record in which everything except these values is zero or unset."""
    zero: dict[str, Value] = {
        field.keyword: None if field.kind is ADDRESS else 0 for field in kind.fields
    }
    return kind(**{**zero, **values})
