"""The reports of chronyd as frozen dataclasses, and the enums in them.

Each class is the table of its report: a field's metadata names the libchrony field it comes from,
that field's content class, and the converter. Units are seconds and parts per million (ppm), as
floats. The signs are chrony's own and differ between reports; each offset says what positive means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from typing import NamedTuple

from ._engine.fields import (
    FieldContent,
    FieldType,
    OpenEnum,
    Report,
    epoch,
    nanoseconds,
    of,
    signed16,
    source_name,
    tracked_name,
    unless_never,
    unless_zero,
    upstream_name,
    yes_or_no,
)
from ._engine.fields import FieldContent as C
from .exceptions import ChronyError

__all__ = [
    "Activity",
    "AllReports",
    "AuthData",
    "AuthMode",
    "FieldContent",
    "FieldType",
    "KeyType",
    "LeapStatus",
    "NTPData",
    "NTPFlag",
    "NTPMode",
    "RTCData",
    "ReportField",
    "SelectData",
    "SelectOption",
    "SelectState",
    "ServerStats",
    "Smoothing",
    "Source",
    "SourceMode",
    "SourceState",
    "SourceStats",
    "Timestamping",
    "TrackingStatus",
    "Transport",
]


class Transport(OpenEnum):
    """How chronyd is reached."""

    UNIX_SOCKET = "unix_socket"
    """Its Unix domain socket, which serves every report."""
    COMMAND_PORT = "command_port"
    """Its UDP command port, which serves the reports that chronyd leaves open to all."""


class LeapStatus(OpenEnum):
    """Whether a leap second is due (RFC 5905, figure 9)."""

    NORMAL = 0
    INSERT = 1
    """The last minute of the day has 61 seconds."""
    DELETE = 2
    """The last minute of the day has 59 seconds."""
    UNSYNC = 3
    """Not synchronised; in `TrackingStatus` also while a leap second is being applied."""


class SourceState(OpenEnum):
    """What chronyd's selection made of a source; chronyc's sign is in brackets."""

    SELECTED = 0
    """The best source, which the clock follows (`*`)."""
    NONSELECTABLE = 1
    """Not usable at present (`?`)."""
    FALSETICKER = 2
    """Disagrees with the majority (`x`)."""
    JITTERY = 3
    """Varies too much (`~`)."""
    UNSELECTED = 4
    """Good, and combined with the best (`+`)."""
    SELECTABLE = 5
    """Good, but not combined (`-`)."""


class SourceMode(OpenEnum):
    """What kind of source it is."""

    CLIENT = 0
    """An NTP server, of which chronyd is a client."""
    PEER = 1
    REFCLOCK = 2
    """A reference clock on this machine."""


class SelectState(OpenEnum):
    """Where a source stands in chronyd's selection, by chronyc's symbol (`selectdata`)."""

    IGNORED = "N"
    """Has the option noselect."""
    MISSING_SAMPLES = "M"
    NOT_SYNCHRONIZED = "s"
    UNACCEPTABLE_DISTANCE = "d"
    """Its root distance is above `maxdistance`."""
    JITTERY = "~"
    WAITING_FOR_OTHERS = "w"
    STALE = "S"
    """Has had no new sample for too long."""
    ORPHAN = "O"
    NOT_TRUSTED = "T"
    """Disagrees with the sources that have the option trust."""
    FALSETICKER = "x"
    MISSING_SELECTABLE_SOURCES = "W"
    """Fewer sources than `minsources` are selectable, or a required one is not."""
    NOT_PREFERRED = "P"
    """Another source has the option prefer."""
    WAITING_FOR_UPDATE = "U"
    LARGE_DISTANCE = "D"
    """Its root distance is too large beside that of the best."""
    COMBINED = "+"
    BEST = "*"


class SelectOption(IntFlag):
    """Selection options of a source, as in chrony.conf."""

    NOSELECT = 1
    PREFER = 2
    TRUST = 4
    REQUIRE = 8


class AuthMode(OpenEnum):
    """How packets of a source are authenticated."""

    NONE = 0
    SYMMETRIC_KEY = 1
    NTS = 2
    """Network Time Security (RFC 8915)."""


class KeyType(OpenEnum):
    """Algorithm of an authentication key."""

    MD5 = 1
    SHA1 = 2
    SHA256 = 3
    SHA384 = 4
    SHA512 = 5
    SHA3_224 = 6
    SHA3_256 = 7
    SHA3_384 = 8
    SHA3_512 = 9
    TIGER = 10
    WHIRLPOOL = 11
    AES128 = 13
    AES256 = 14
    AEAD_AES_SIV_CMAC_256 = 15
    AEAD_AES_128_GCM_SIV = 30


class NTPMode(OpenEnum):
    """Mode of a source's NTP packets (RFC 5905, figure 10)."""

    UNDEFINED = 0
    """No valid packet has come yet."""
    ACTIVE_SYMMETRIC = 1
    PASSIVE_SYMMETRIC = 2
    SERVER = 4


class NTPFlag(IntFlag):
    """Tests that the last packet of a source passed (RFC 5905, 9.2, and chronyd's own).

    TESTB and TESTC are as chronyd sets them; libchrony 0.2 has their names exchanged.
    """

    TEST1 = 0x200
    """It is no duplicate."""
    TEST2 = 0x100
    """It answers the last request."""
    TEST3 = 0x80
    """Its timestamps are set."""
    TEST5 = 0x40
    """It is authenticated as it must be."""
    TEST6 = 0x20
    """The source is synchronised."""
    TEST7 = 0x10
    """Its root distance and stratum are sane."""
    TESTA = 0x8
    """The delay is within `maxdelay`."""
    TESTB = 0x4
    """The delay is within `maxdelayratio`."""
    TESTC = 0x2
    """The delay is within `maxdelaydevratio` or `maxdelayquant`."""
    TESTD = 0x1
    """There is no synchronisation loop."""
    INTERLEAVED = 0x4000
    """The packet is of the interleaved mode."""
    AUTHENTICATED = 0x8000
    """The source is authenticated."""


class Timestamping(OpenEnum):
    """What took the timestamp of a packet, by chronyd's letter."""

    NONE = "\0"
    """No valid packet has come yet."""
    DAEMON = "D"
    KERNEL = "K"
    HARDWARE = "H"


def _select_state(raw: int) -> SelectState:
    """Chronyd sends the ASCII code of the symbol."""
    return SelectState(chr(raw))


def _timestamping(raw: int) -> Timestamping:
    """Chronyd sends the ASCII code of the letter."""
    return Timestamping(chr(raw))


class ReportField(NamedTuple):
    """One field of a record, as the loaded libchrony describes it."""

    value: int | float | str | bool
    """Times are nanoseconds since 1970; an address that is not set is empty."""
    type: FieldType
    """How libchrony holds the value."""
    content: FieldContent
    """What the value means, and its unit; `NONE` for a reserved field and an unset address."""
    names: tuple[str, ...]
    """libchrony's names of the constant, or of each flag, that applies; mostly empty."""


@dataclass(frozen=True)
class TrackingStatus(Report):
    """The system clock, and the source that it follows."""

    _report = "tracking"

    reference_id: int = field(metadata=of("reference ID", content=C.REFERENCE_ID))
    """Of the selected source; 0 if not synchronised, 0x7F7F0101 if chronyd is its own reference."""
    reference_id_name: str = field(
        metadata=of(
            "reference ID", content=C.REFERENCE_ID, convert=tracked_name, given=("address",)
        )
    )
    """A reference clock's ID as text, any other in dotted notation; empty if not synchronised."""
    reference_ip: str = field(metadata=of("address", content=C.ADDRESS))
    """Address of the selected NTP source; empty if there is none."""
    stratum: int = field(metadata=of("stratum", content=C.COUNT))
    """Distance from a reference clock in hops; 0 if not synchronised."""
    leap_status: LeapStatus = field(metadata=of("leap status", content=C.ENUM, convert=LeapStatus))
    ref_time: float = field(metadata=of("reference time", content=C.TIME, convert=epoch))
    """When the clock was last updated, in seconds since 1970 (UTC); 0 if not synchronised.

    chronyd 4.0 and later blurs it by up to a second.
    """
    offset: float = field(metadata=of("current correction", content=C.OFFSET_SECONDS))
    """Correction still to be made, in seconds; positive: the system clock is slow."""
    last_offset: float = field(metadata=of("last offset", content=C.OFFSET_SECONDS))
    """Estimated at the last update, in seconds; positive: the system clock was fast."""
    rms_offset: float = field(metadata=of("RMS offset", content=C.MEASURE_SECONDS))
    """Long-term average of the offset, in seconds."""
    frequency: float = field(metadata=of("frequency offset", content=C.OFFSET_PPM))
    """Error of the uncorrected clock, in ppm; positive: it runs fast."""
    residual_freq: float = field(metadata=of("residual frequency", content=C.OFFSET_PPM))
    """Difference still seen between the selected source and `frequency`, in ppm."""
    skew: float = field(metadata=of("skew", content=C.MEASURE_PPM))
    """Error bound of the frequency, in ppm."""
    root_delay: float = field(metadata=of("root delay", content=C.MEASURE_SECONDS))
    """Network delay to the stratum 1 source, in seconds; 1 if not synchronised."""
    root_dispersion: float = field(metadata=of("root dispersion", content=C.MEASURE_SECONDS))
    """Dispersion accumulated up to the stratum 1 source, in seconds; 1 if not synchronised."""
    update_interval: float = field(metadata=of("last update interval", content=C.INTERVAL_SECONDS))
    """Between the last two updates, in seconds; 0 before the first."""
    ref_time_ns: int = field(
        default=0, metadata=of("reference time", content=C.TIME, convert=nanoseconds)
    )
    """`ref_time`, exactly, in nanoseconds."""

    def is_synchronized(self) -> bool:
        """Whether the clock follows a source, or chronyd itself as a local reference."""
        return self.reference_id != 0 and self.stratum < 16

    def is_leap_pending(self) -> bool:
        """Whether a leap second is inserted or deleted at the end of the day."""
        return self.leap_status in (LeapStatus.INSERT, LeapStatus.DELETE)


@dataclass(frozen=True)
class Source(Report):
    """One configured source and the state chronyd holds it in."""

    _report = "sources"
    _per_source = True

    address: str = field(
        metadata=of("address", "reference ID", content=C.ADDRESS, convert=source_name)
    )
    """IP address, `ID#…` while a name is not resolved, or a reference clock's ID as text."""
    poll: int = field(metadata=of("poll", content=C.INTERVAL_LOG2_SECONDS, convert=signed16))
    """Polling interval as a power of two, in seconds: 6 is 64 s, -4 is 1/16 s."""
    stratum: int = field(metadata=of("stratum", content=C.COUNT))
    """Of the last sample; 0 without one, or for a reference clock."""
    state: SourceState = field(metadata=of("state", content=C.ENUM, convert=SourceState))
    mode: SourceMode = field(metadata=of("mode", content=C.ENUM, convert=SourceMode))
    flags: int = field(metadata=of("flags", content=C.NONE))
    """Selection options before chronyd 4.0; 0 since then: see `SelectData`."""
    reachability: int = field(metadata=of("reachability", content=C.BITS))
    """One bit for each of the last eight polls, the newest lowest; set: it was answered."""
    last_sample_ago: int | None = field(
        metadata=of("last sample ago", content=C.INTERVAL_SECONDS, convert=unless_never)
    )
    """Age of the last sample, in seconds; `None` if there has been none."""
    orig_latest_meas: float = field(
        metadata=of("original last sample offset", content=C.OFFSET_SECONDS)
    )
    """The last sample as measured, in seconds; positive: the system clock was fast."""
    latest_meas: float = field(metadata=of("adjusted last sample offset", content=C.OFFSET_SECONDS))
    """The last sample corrected for changes since, in seconds; positive: the clock is fast."""
    latest_meas_err: float = field(metadata=of("last sample error", content=C.MEASURE_SECONDS))
    """Error bound of the last sample, in seconds."""

    def is_reachable(self) -> bool:
        """Whether at least one of the last eight polls was answered."""
        return self.reachability > 0

    def is_selected(self) -> bool:
        """Whether this is the source that the clock follows."""
        return self.state is SourceState.SELECTED


@dataclass(frozen=True)
class SourceStats(Report):
    """What chronyd estimates from the samples of one source."""

    _report = "sourcestats"
    _per_source = True

    reference_id: int = field(metadata=of("reference ID", content=C.REFERENCE_ID))
    """Of the source; 0 while a name is not resolved."""
    address: str = field(metadata=of("address", content=C.ADDRESS))
    """IP address, or `ID#…` while a name is not resolved; empty for a reference clock."""
    samples: int = field(metadata=of("samples", content=C.COUNT))
    """Number of samples kept."""
    runs: int = field(metadata=of("runs", content=C.COUNT))
    """Runs of residuals of the same sign."""
    span: int = field(metadata=of("span", content=C.INTERVAL_SECONDS))
    """From the oldest sample to the newest, in seconds."""
    std_dev: float = field(metadata=of("standard deviation", content=C.MEASURE_SECONDS))
    """Of the samples, in seconds; 4 while there is no estimate."""
    resid_freq: float = field(metadata=of("residual frequency", content=C.OFFSET_PPM))
    """Of the clock against the source, in ppm; positive: the clock runs fast."""
    skew: float = field(metadata=of("skew", content=C.MEASURE_PPM))
    """Error bound of the frequency, in ppm; 2000 while there is no estimate."""
    offset: float = field(metadata=of("offset", content=C.OFFSET_SECONDS))
    """Estimated now, in seconds; positive: the system clock is fast."""
    offset_err: float = field(metadata=of("offset error", content=C.MEASURE_SECONDS))
    """Error bound of the offset, in seconds."""

    def has_sufficient_samples(self, minimum: int = 4) -> bool:
        """Whether at least `minimum` samples are kept."""
        return self.samples >= minimum


@dataclass(frozen=True)
class RTCData(Report):
    """The hardware clock of the machine (RTC), where chronyd keeps watch of it."""

    _report = "rtcdata"

    ref_time: float = field(metadata=of("reference time", content=C.TIME, convert=epoch))
    """Reading of the RTC when its error was last measured, in seconds since 1970."""
    samples: int = field(metadata=of("samples", content=C.COUNT))
    """Number of measurements used."""
    runs: int = field(metadata=of("runs", content=C.COUNT))
    """Runs of residuals of the same sign."""
    span: int = field(metadata=of("span", content=C.INTERVAL_SECONDS))
    """From the oldest measurement to the newest, in seconds."""
    offset: float = field(metadata=of("offset", content=C.OFFSET_SECONDS))
    """Of the RTC, in seconds; positive: it is fast."""
    freq_offset: float = field(metadata=of("frequency offset", content=C.OFFSET_PPM))
    """Of the RTC, in ppm; positive: it gains."""
    ref_time_ns: int = field(
        default=0, metadata=of("reference time", content=C.TIME, convert=nanoseconds)
    )
    """`ref_time`, exactly, in nanoseconds."""

    def is_calibrated(self) -> bool:
        """Whether chronyd has measured the RTC at all."""
        return self.samples > 0


@dataclass(frozen=True)
class SelectData(Report):
    """How one source stands in the selection (chronyd 4.0 and later; Unix socket only)."""

    _report = "selectdata"
    _per_source = True

    reference_id: int = field(metadata=of("reference ID", content=C.REFERENCE_ID))
    """Of the source; 0 while a name is not resolved."""
    address: str = field(metadata=of("address", content=C.ADDRESS))
    """IP address, or `ID#…` while a name is not resolved; empty for a reference clock."""
    state: SelectState = field(metadata=of("state", content=C.ENUM, convert=_select_state))
    authentication: bool = field(
        metadata=of("authentication", content=C.BOOLEAN, convert=yes_or_no)
    )
    """Whether authentication is configured for the source."""
    leap_status: LeapStatus = field(metadata=of("leap status", content=C.ENUM, convert=LeapStatus))
    """Of the source; `UNSYNC` without a valid measurement."""
    configured_options: SelectOption = field(
        metadata=of("configured options", content=C.FLAGS, convert=SelectOption)
    )
    effective_options: SelectOption = field(
        metadata=of("effective options", content=C.FLAGS, convert=SelectOption)
    )
    """The options after chronyd's `authselectmode` was applied."""
    last_sample_ago: int = field(metadata=of("last sample ago", content=C.INTERVAL_SECONDS))
    """Age of the last sample at the last selection, in seconds; 0 without one."""
    score: float = field(metadata=of("score", content=C.RATIO))
    """Against the best source: above 10, the best source is chosen anew."""
    low_limit: float = field(metadata=of("low limit", content=C.INTERVAL_SECONDS))
    """Lower end of the interval in which the true offset is expected, in seconds.

    Positive: the system clock is fast, as in `Source`; 0 without a sample.
    """
    high_limit: float = field(metadata=of("high limit", content=C.INTERVAL_SECONDS))
    """Upper end of that interval, with the same sign."""


@dataclass(frozen=True)
class Activity(Report):
    """How many NTP sources are in which state; reference clocks are not counted."""

    _report = "activity"

    online: int = field(metadata=of("online sources", content=C.COUNT))
    offline: int = field(metadata=of("offline sources", content=C.COUNT))
    """Not polled."""
    burst_online: int = field(metadata=of("burst online-return sources", content=C.COUNT))
    """In a burst of polls, and online afterwards."""
    burst_offline: int = field(metadata=of("burst offline-return sources", content=C.COUNT))
    """In a burst of polls, and offline afterwards."""
    unresolved: int = field(metadata=of("unresolved sources", content=C.COUNT))
    """Whose name has no address yet."""


@dataclass(frozen=True)
class AuthData(Report):
    """How one NTP source is authenticated (chronyd 4.0 and later; Unix socket only)."""

    _report = "authdata"
    _per_source = True
    _joined = True

    address: str = field(metadata=of("address", content=C.ADDRESS))
    """Of the source; asked for just before, since the report itself lacks it."""
    mode: AuthMode = field(metadata=of("mode", content=C.ENUM, convert=AuthMode))
    key_type: KeyType | None = field(
        metadata=of("key type", content=C.ENUM, convert=lambda raw: KeyType(raw) if raw else None)
    )
    """`None` without a key, or with one that chronyd does not know."""
    key_id: int | None = field(metadata=of("key ID", content=C.INDEX, convert=unless_zero))
    """Number in the key file; for NTS, of the key establishment. `None` without a key."""
    key_length: int | None = field(
        metadata=of("key length", content=C.LENGTH_BITS, convert=unless_zero)
    )
    """In bits; `None` without a key."""
    ke_attempts: int = field(metadata=of("key establishment attempts", content=C.COUNT))
    """NTS key establishments tried since the last success."""
    last_ke_ago: int | None = field(
        metadata=of("last key establishment ago", content=C.INTERVAL_SECONDS, convert=unless_never)
    )
    """Age of the last NTS key establishment, in seconds; `None` if there was none."""
    cookies: int = field(metadata=of("cookies", content=C.COUNT))
    """NTS cookies held."""
    cookie_length: int = field(metadata=of("cookie length", content=C.LENGTH_BYTES))
    """Of the next NTS cookie, in bytes; 0 without one."""
    nak: bool = field(metadata=of("NAK", content=C.BOOLEAN, convert=yes_or_no))
    """Whether the server refused the last request for lack of its key (NTS NAK)."""


@dataclass(frozen=True)
class NTPData(Report):
    """The last valid measurement of one NTP source, and its packets (Unix socket only).

    Until `rx_valid_messages` is above 0, only the remote address and port and the two counts of
    messages mean anything; the rest is 0 or empty.
    """

    _report = "ntpdata"
    _per_source = True

    remote_address: str = field(metadata=of("remote address", content=C.ADDRESS))
    """Of the source; `ID#…` while a name is not resolved."""
    local_address: str = field(metadata=of("local address", content=C.ADDRESS))
    """That the source answered to; empty before the first answer."""
    remote_port: int = field(metadata=of("remote port", content=C.PORT))
    leap_status: LeapStatus = field(metadata=of("leap status", content=C.ENUM, convert=LeapStatus))
    version: int = field(metadata=of("version", content=C.COUNT))
    """Of NTP."""
    mode: NTPMode = field(metadata=of("mode", content=C.ENUM, convert=NTPMode))
    stratum: int = field(metadata=of("stratum", content=C.COUNT))
    """Of the source."""
    poll: int = field(metadata=of("poll", content=C.INTERVAL_LOG2_SECONDS, convert=signed16))
    """Polling interval in the packet as a power of two, in seconds."""
    precision: int = field(
        metadata=of("precision", content=C.INTERVAL_LOG2_SECONDS, convert=signed16)
    )
    """Of the source's clock as a power of two, in seconds."""
    root_delay: float = field(metadata=of("root delay", content=C.MEASURE_SECONDS))
    """Of the source, in seconds."""
    root_dispersion: float = field(metadata=of("root dispersion", content=C.MEASURE_SECONDS))
    """Of the source, in seconds."""
    reference_id: int = field(metadata=of("reference ID", content=C.REFERENCE_ID))
    """Of the source's own source."""
    reference_id_name: str = field(
        metadata=of(
            "reference ID", content=C.REFERENCE_ID, convert=upstream_name, given=("stratum",)
        )
    )
    """Text if the source follows a reference clock, else in dotted notation."""
    ref_time: float = field(metadata=of("reference time", content=C.TIME, convert=epoch))
    """When the source's clock was last updated, in seconds since 1970 (UTC)."""
    ref_time_ns: int = field(metadata=of("reference time", content=C.TIME, convert=nanoseconds))
    """`ref_time`, exactly, in nanoseconds."""
    offset: float = field(metadata=of("offset", content=C.OFFSET_SECONDS))
    """Measured, in seconds; positive: the system clock is slow, opposite to `Source`."""
    peer_delay: float = field(metadata=of("peer delay", content=C.MEASURE_SECONDS))
    """Round trip to the source, in seconds."""
    peer_dispersion: float = field(metadata=of("peer dispersion", content=C.MEASURE_SECONDS))
    """Of that measurement, in seconds."""
    response_time: float = field(metadata=of("response time", content=C.MEASURE_SECONDS))
    """Between request and response in the source, in seconds."""
    jitter_asymmetry: float = field(metadata=of("jitter asymmetry", content=C.RATIO))
    """From -0.5 to 0.5; negative: there is more jitter on the way to the source."""
    flags: NTPFlag = field(metadata=of("flags", content=C.FLAGS, convert=NTPFlag))
    tx_timestamping: Timestamping = field(
        metadata=of("transmit timestamping", content=C.ENUM, convert=_timestamping)
    )
    rx_timestamping: Timestamping = field(
        metadata=of("receive timestamping", content=C.ENUM, convert=_timestamping)
    )
    tx_messages: int = field(metadata=of("transmitted messages", content=C.COUNT))
    """Packets sent to the source."""
    rx_messages: int = field(metadata=of("received messages", content=C.COUNT))
    """All packets received from the source."""
    rx_valid_messages: int = field(metadata=of("received valid messages", content=C.COUNT))
    """Packets that passed the tests of RFC 5905."""
    rx_good_messages: int | None = field(
        metadata=of("received good messages", content=C.COUNT, convert=unless_never)
    )
    """Packets whose measurement was used; `None` before chronyd 4.3."""
    kernel_tx_timestamps: int | None = field(
        default=None, metadata=of("kernel transmit timestamps", content=C.COUNT)
    )
    """Packets sent with a timestamp of the kernel; `None`, like the next three, before 4.6."""
    kernel_rx_timestamps: int | None = field(
        default=None, metadata=of("kernel receive timestamps", content=C.COUNT)
    )
    hardware_tx_timestamps: int | None = field(
        default=None, metadata=of("hardware transmit timestamps", content=C.COUNT)
    )
    hardware_rx_timestamps: int | None = field(
        default=None, metadata=of("hardware receive timestamps", content=C.COUNT)
    )


@dataclass(frozen=True)
class ServerStats(Report):
    """What chronyd served since it started (Unix socket only).

    A count is `None` where this version of chronyd does not keep it.
    """

    _report = "serverstats"

    ntp_requests: int = field(metadata=of("received NTP requests", content=C.COUNT))
    ntp_dropped: int = field(metadata=of("dropped NTP requests", content=C.COUNT))
    """NTP requests dropped to limit the rate."""
    command_requests: int = field(metadata=of("received command requests", content=C.COUNT))
    """Monitoring requests, this one included."""
    command_dropped: int = field(metadata=of("dropped command requests", content=C.COUNT))
    """Monitoring requests dropped to limit the rate."""
    log_dropped: int = field(metadata=of("dropped client log records", content=C.COUNT))
    """Records of clients dropped to limit the memory."""
    nts_ke_connections: int | None = field(
        default=None, metadata=of("accepted NTS-KE connections", content=C.COUNT)
    )
    """Since chronyd 4.0, like the next two."""
    nts_ke_dropped: int | None = field(
        default=None, metadata=of("dropped NTS-KE connections", content=C.COUNT)
    )
    ntp_auth_requests: int | None = field(
        default=None, metadata=of("received authenticated NTP requests", content=C.COUNT)
    )
    ntp_interleaved_requests: int | None = field(
        default=None, metadata=of("received interleaved NTP requests", content=C.COUNT)
    )
    """Since chronyd 4.2, like the next two."""
    ntp_timestamps_held: int | None = field(
        default=None, metadata=of("held NTP timestamps", content=C.COUNT)
    )
    """Pairs of timestamps in memory for clients in the interleaved mode."""
    ntp_timestamp_span: int | None = field(
        default=None, metadata=of("NTP timestamp span", content=C.INTERVAL_SECONDS)
    )
    """Time that these timestamps cover, in seconds."""
    daemon_rx_timestamps: int | None = field(
        default=None, metadata=of("served daemon RX timestamps", content=C.COUNT)
    )
    """Responses with a receive timestamp of chronyd itself; since 4.4, like the next five."""
    daemon_tx_timestamps: int | None = field(
        default=None, metadata=of("served daemon TX timestamps", content=C.COUNT)
    )
    kernel_rx_timestamps: int | None = field(
        default=None, metadata=of("served kernel RX timestamps", content=C.COUNT)
    )
    kernel_tx_timestamps: int | None = field(
        default=None, metadata=of("served kernel TX timestamps", content=C.COUNT)
    )
    hardware_rx_timestamps: int | None = field(
        default=None, metadata=of("served hardware RX timestamps", content=C.COUNT)
    )
    hardware_tx_timestamps: int | None = field(
        default=None, metadata=of("served hardware TX timestamps", content=C.COUNT)
    )


@dataclass(frozen=True)
class Smoothing(Report):
    """How chronyd smooths the time that it serves to its clients (`smoothtime`)."""

    _report = "smoothing"

    active: bool = field(metadata=of("flags", content=C.FLAGS, convert=lambda raw: bool(raw & 1)))
    leap_only: bool = field(
        metadata=of("flags", content=C.FLAGS, convert=lambda raw: bool(raw & 2))
    )
    """Whether only leap seconds are smoothed."""
    offset: float = field(metadata=of("offset", content=C.OFFSET_SECONDS))
    """Applied to the served time, in seconds; positive: clients are ahead of true time."""
    frequency: float = field(metadata=of("frequency offset", content=C.OFFSET_PPM))
    """Of the served time, in ppm; negative: it runs slow."""
    wander: float = field(metadata=of("wander", content=C.OFFSET_PPM_PER_SECOND))
    """Change of that frequency, in ppm per second; negative: it is slowing down."""
    last_update_ago: float = field(metadata=of("last update ago", content=C.INTERVAL_SECONDS))
    """In seconds; 0 while not active."""
    remaining_time: float = field(metadata=of("remaining time", content=C.INTERVAL_SECONDS))
    """Until offset and frequency are zero, in seconds; 0 while not active."""


@dataclass(frozen=True)
class AllReports:
    """Several reports of one chronyd, asked for together.

    A report is `None` if it was not asked for, or if `missing` says why it is not there.
    """

    tracking: TrackingStatus | None = None
    sources: list[Source] | None = None
    sourcestats: list[SourceStats] | None = None
    selectdata: list[SelectData] | None = None
    activity: Activity | None = None
    authdata: list[AuthData] | None = None
    ntpdata: list[NTPData] | None = None
    serverstats: ServerStats | None = None
    rtcdata: RTCData | None = None
    smoothing: Smoothing | None = None
    missing: Mapping[str, ChronyError] = field(default_factory=dict)
    """Why a report that was asked for is not there: not permitted, off, or not usable."""


MODELS: dict[str, type[Report]] = {
    model._report: model
    for model in (
        TrackingStatus,
        Source,
        SourceStats,
        SelectData,
        Activity,
        AuthData,
        NTPData,
        ServerStats,
        RTCData,
        Smoothing,
    )
}
"""The model of each report, by libchrony's name."""
