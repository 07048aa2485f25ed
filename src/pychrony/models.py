"""Chronyd's reports as frozen dataclasses, and the enums that appear in them.

Each class is the table of its report: a field's metadata names the libchrony field it comes from,
that field's content class (and with it the unit), the converter, what a positive value means, and
the first chronyd that sends the field. The docstring below a field is its one description, because
that is where editors look for it. Python discards such docstrings, so the build copies them for
`help()` and `pychrony REPORT --help`: install the package again after a change.

Values are in seconds and parts per million (ppm), as floats. The signs are chrony's own and differ
between reports; each field's description says what positive means.
"""

# Annotations are not postponed here: other libraries read the types of the fields.
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any, Literal, overload

from ._model.converters import (
    LOCAL_REFERENCE,
    epoch,
    error_bound,
    is_synchronized,
    signed16,
    source_name,
    to_nanoseconds,
    tracked_name,
    unless_never,
    unless_zero,
    upstream_name,
    yes_or_no,
)
from ._model.fields import FieldContent, FieldType, OpenEnum, Report, ReportField, SourceReport, of
from ._model.fields import FieldContent as C
from ._model.plain import fields_of
from .exceptions import ChronyError

__all__ = [
    "Activity",
    "AllReports",
    "Answer",
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
    "ReportName",
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
    """Through its Unix domain socket, which serves every report."""
    COMMAND_PORT = "command_port"
    """Through its UDP command port, which serves the reports that chronyd opens to everyone."""


class LeapStatus(OpenEnum):
    """Whether a leap second is due (RFC 5905, figure 9)."""

    NORMAL = 0
    """No leap second is due."""
    INSERT = 1
    """The last minute of the day has 61 seconds."""
    DELETE = 2
    """The last minute of the day has 59 seconds."""
    UNSYNC = 3
    """Not synchronised; in `TrackingStatus` also while a leap second is being applied."""


class SourceState(OpenEnum):
    """State of a source in source selection; chronyc's symbol is in brackets."""

    SELECTED = 0
    """The best source, to which the clock is synchronised (`*`)."""
    NONSELECTABLE = 1
    """Cannot be selected at present (`?`)."""
    FALSETICKER = 2
    """Disagrees with the majority of the sources (`x`)."""
    JITTERY = 3
    """Its measurements vary too much (`~`)."""
    UNSELECTED = 4
    """Combined with the best source (`+`), although libchrony's name says otherwise."""
    SELECTABLE = 5
    """Good, but not combined with the best source (`-`)."""


class SourceMode(OpenEnum):
    """Kind of a source; chronyc's symbol is in brackets."""

    CLIENT = 0
    """An NTP server, of which chronyd is a client (`^`)."""
    PEER = 1
    """An NTP peer: both sides may synchronise to each other (`=`)."""
    REFCLOCK = 2
    """A reference clock on this machine (`#`)."""


class SelectState(OpenEnum):
    """Role of a source in source selection; the value is the symbol of `chronyc selectdata`."""

    IGNORED = "N"
    """Has the option `noselect`."""
    MISSING_SAMPLES = "M"
    """Does not have enough measurements yet."""
    NOT_SYNCHRONIZED = "s"
    """Reports that it is not synchronised."""
    UNACCEPTABLE_DISTANCE = "d"
    """Its root distance is larger than `maxdistance`."""
    JITTERY = "~"
    """Its jitter is larger than `maxjitter`."""
    WAITING_FOR_OTHERS = "w"
    """Waits for other sources to have enough measurements."""
    STALE = "S"
    """Its measurements are older than those of other sources."""
    ORPHAN = "O"
    """Its stratum is not below the orphan stratum (`local orphan`)."""
    NOT_TRUSTED = "T"
    """Disagrees with the sources that have the option `trust`."""
    FALSETICKER = "x"
    """Disagrees with the majority of the sources."""
    MISSING_SELECTABLE_SOURCES = "W"
    """Fewer sources than `minsources` are selectable, or one with `require` is not."""
    NOT_PREFERRED = "P"
    """Another selectable source has the option `prefer`."""
    WAITING_FOR_UPDATE = "U"
    """Waits for its next measurement before it can be selected."""
    LARGE_DISTANCE = "D"
    """Its root distance is too large for the source to be combined with the best one."""
    COMBINED = "+"
    """Combined with the best source."""
    BEST = "*"
    """The best source, to which the clock is synchronised."""


class SelectOption(IntFlag):
    """Selection options of a source, as in chrony.conf."""

    NOSELECT = 1
    """Never select the source."""
    PREFER = 2
    """Prefer the source to those without this option."""
    TRUST = 4
    """Assume that the source is always right."""
    REQUIRE = 8
    """Update the clock only while a source with this option is selectable."""


class AuthMode(OpenEnum):
    """How the packets of a source are authenticated."""

    NONE = 0
    """They are not authenticated."""
    SYMMETRIC_KEY = 1
    """With a key that both sides share."""
    NTS = 2
    """With Network Time Security (RFC 8915)."""


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
    """No valid packet has been received yet."""
    ACTIVE_SYMMETRIC = 1
    PASSIVE_SYMMETRIC = 2
    SERVER = 4


class NTPFlag(IntFlag):
    """Tests that the last packet of a source passed (RFC 5905, 9.2, and chronyd's own).

    TESTB and TESTC are as chronyd sets them; libchrony 0.2 swaps their names.
    """

    TEST1 = 0x200
    """The packet is not a duplicate."""
    TEST2 = 0x100
    """The packet answers the last request."""
    TEST3 = 0x80
    """The packet's timestamps are set."""
    TEST5 = 0x40
    """The packet is authenticated as required."""
    TEST6 = 0x20
    """The source is synchronised."""
    TEST7 = 0x10
    """The source's root distance and stratum are sane."""
    TESTA = 0x8
    """The delay is within `maxdelay`."""
    TESTB = 0x4
    """The delay is within `maxdelayratio`."""
    TESTC = 0x2
    """The delay is within `maxdelaydevratio` or `maxdelayquant`."""
    TESTD = 0x1
    """There is no synchronisation loop."""
    INTERLEAVED = 0x4000
    """The packet is in interleaved mode."""
    AUTHENTICATED = 0x8000
    """The source is authenticated."""


class Timestamping(OpenEnum):
    """Where the timestamp of a packet was taken; the value is chronyd's letter."""

    NONE = "\0"
    """No valid packet has been received yet."""
    DAEMON = "D"
    """In chronyd itself."""
    KERNEL = "K"
    """In the kernel."""
    HARDWARE = "H"
    """In the network interface."""


def _select_state(raw: int) -> SelectState:
    """Chronyd sends the ASCII code of the symbol."""
    return SelectState(chr(raw))


def _timestamping(raw: int) -> Timestamping:
    """Chronyd sends the ASCII code of the letter."""
    return Timestamping(chr(raw))


def _let_times_agree(report: Any) -> None:
    """Derive `ref_time_ns` from `ref_time` where the two differ, as after `replace()`."""
    if report.ref_time_ns / 1_000_000_000 != report.ref_time:
        object.__setattr__(report, "ref_time_ns", to_nanoseconds(report.ref_time))


@dataclass(frozen=True)
class TrackingStatus(Report):
    """State of the system clock, and the source to which it is synchronised."""

    _report = "tracking"
    _computed = ("is_synchronized", "error_bound")

    reference_id: int = field(metadata=of("reference ID", content=C.REFERENCE_ID))
    """Reference ID of the selected source.

    It is 0 if the clock is not synchronised, and 0x7F7F0101 in chronyd's `local` mode.
    """
    reference_id_name: str = field(
        metadata=of(
            "reference ID", content=C.REFERENCE_ID, convert=tracked_name, given=("address",)
        )
    )
    """The reference ID as text: a reference clock's ID such as `PPS0`, or dotted like an address.

    It is empty if the clock is not synchronised.
    """
    reference_ip: str = field(metadata=of("address", content=C.ADDRESS))
    """IP address of the selected NTP source.

    It is empty for a reference clock, in `local` mode, and if the clock is not synchronised.
    """
    stratum: int = field(metadata=of("stratum", content=C.COUNT))
    """Stratum of this machine: its distance from a reference clock in hops.

    It is 0 if the clock is not synchronised.
    """
    leap_status: LeapStatus = field(metadata=of("leap status", content=C.ENUM, convert=LeapStatus))
    """Whether a leap second is due, or the clock is not synchronised."""
    ref_time: float = field(metadata=of("reference time", content=C.TIME, convert=epoch))
    """Time of the last clock update, in seconds since 1970 (UTC).

    It is 0 if the clock is not synchronised. chronyd 4.0 and later shifts it by up to a second, at
    random.
    """
    offset: float = field(
        metadata=of(
            "current correction", content=C.OFFSET_SECONDS, positive="system clock is behind"
        )
    )
    """Correction still to be applied to the clock, in seconds.

    Positive when the system clock is behind, negative when it is ahead: the opposite of
    `last_offset`. (chronyc says "slow" and "fast".)
    """
    last_offset: float = field(
        metadata=of("last offset", content=C.OFFSET_SECONDS, positive="system clock was ahead")
    )
    """Offset of the clock as estimated at the last update, in seconds.

    Positive when the system clock was ahead: the opposite of `offset`.
    """
    rms_offset: float = field(metadata=of("RMS offset", content=C.MEASURE_SECONDS))
    """Long-term average of the offset, in seconds."""
    frequency: float = field(
        metadata=of("frequency offset", content=C.OFFSET_PPM, positive="system clock is fast")
    )
    """Rate at which the clock would drift if chronyd did not correct it, in ppm.

    Positive when the system clock is fast.
    """
    residual_freq: float = field(
        metadata=of("residual frequency", content=C.OFFSET_PPM, positive="system clock is fast")
    )
    """Frequency error that the selected source still shows after the correction, in ppm.

    Positive when the system clock is fast.
    """
    skew: float = field(metadata=of("skew", content=C.MEASURE_PPM))
    """Estimated error bound of the frequency, in ppm."""
    root_delay: float = field(metadata=of("root delay", content=C.MEASURE_SECONDS))
    """Total network delay to the stratum 1 source, in seconds.

    It is 1 if the clock is not synchronised.
    """
    root_dispersion: float = field(metadata=of("root dispersion", content=C.MEASURE_SECONDS))
    """Total dispersion accumulated up to the stratum 1 source, in seconds.

    It is 1 if the clock is not synchronised.
    """
    update_interval: float = field(metadata=of("last update interval", content=C.INTERVAL_SECONDS))
    """Interval between the last two clock updates, in seconds.

    It is 0 before the first update.
    """
    ref_time_ns: int = field(
        default=0,
        compare=False,
        repr=False,
        metadata=of("reference time", content=C.TIME),
    )
    """`ref_time` as exact nanoseconds since 1970 (UTC).

    It is ignored when reports are compared. If it contradicts a `ref_time` passed to the class or
    to `dataclasses.replace()`, it is computed from `ref_time`.
    """

    def __post_init__(self) -> None:
        _let_times_agree(self)

    def is_synchronized(self) -> bool:
        """Whether chronyd considers the clock synchronised, to a source or to itself (`local`).

        This stays true when all sources have stopped answering, however long ago: compare
        `error_bound`, which grows then, with what you need. `is_local_reference()` is true for
        a chronyd that is synchronised only to itself.
        """
        return is_synchronized(self.reference_id, self.stratum)

    def is_local_reference(self) -> bool:
        """Whether chronyd is its own reference (its `local` directive), without any source."""
        return self.reference_id == LOCAL_REFERENCE

    def is_leap_pending(self) -> bool:
        """Whether a leap second will be inserted or deleted at the end of the day."""
        return self.leap_status in (LeapStatus.INSERT, LeapStatus.DELETE)

    @property
    def error_bound(self) -> float:
        """Largest error of the system clock, in seconds, provided that the sources are right.

        |offset| + root dispersion + root delay / 2, as in chronyc's manual. It means nothing
        for a clock that is not synchronised, or only to itself.
        """
        return error_bound(self.offset, self.root_dispersion, self.root_delay)


@dataclass(frozen=True)
class Source(SourceReport):
    """A time source of chronyd: its state, and its last sample."""

    _report = "sources"

    address: str = field(
        metadata=of("address", "reference ID", content=C.ADDRESS, convert=source_name)
    )
    """IP address of the source, or a reference clock's ID such as `PPS0`.

    It is `ID#` and a number while the source's host name is not resolved.
    """
    poll: int = field(metadata=of("poll", content=C.INTERVAL_LOG2_SECONDS, convert=signed16))
    """Polling interval as a power of two, in seconds: 6 is 64 s, -4 is 1/16 s."""
    stratum: int = field(metadata=of("stratum", content=C.COUNT))
    """Stratum of the source in its last sample.

    It is 0 without a sample, and for most reference clocks.
    """
    state: SourceState = field(metadata=of("state", content=C.ENUM, convert=SourceState))
    """State of the source in source selection.

    `UNSELECTED` means: combined with the best source, chronyc's `+`.
    """
    mode: SourceMode = field(metadata=of("mode", content=C.ENUM, convert=SourceMode))
    """Kind of the source: NTP server, NTP peer or reference clock."""
    flags: int = field(metadata=of("flags", content=C.NONE))
    """Selection options of the source before chronyd 4.0; always 0 since then.

    `SelectData` has them for chronyd 4.0 and later.
    """
    reachability: int = field(metadata=of("reachability", content=C.BITS))
    """Register of the last eight polls, one bit each, set if the poll was answered.

    The newest poll is the lowest bit. chronyc shows the register in octal: 255 is 377.
    """
    last_sample_ago: int | None = field(
        metadata=of("last sample ago", content=C.INTERVAL_SECONDS, convert=unless_never)
    )
    """Age of the last sample, in seconds; `None` if there has been no sample."""
    orig_latest_meas: float = field(
        metadata=of(
            "original last sample offset",
            content=C.OFFSET_SECONDS,
            positive="system clock is ahead",
        )
    )
    """Offset in the last sample as it was measured, in seconds.

    Positive when the system clock is ahead of the source. It is 0 without a sample.
    """
    latest_meas: float = field(
        metadata=of(
            "adjusted last sample offset",
            content=C.OFFSET_SECONDS,
            positive="system clock is ahead",
        )
    )
    """Offset in the last sample, adjusted for clock corrections made since then, in seconds.

    Positive when the system clock is ahead of the source. It is 0 without a sample: see
    `last_sample_ago`.
    """
    latest_meas_err: float = field(metadata=of("last sample error", content=C.MEASURE_SECONDS))
    """Error bound of the last sample, in seconds. It is 0 without a sample."""

    def is_reachable(self) -> bool:
        """Whether at least one of the last eight polls was answered."""
        return self.reachability > 0

    def is_selected(self) -> bool:
        """Whether this is the source to which the clock is synchronised."""
        return self.state is SourceState.SELECTED

    def is_usable(self) -> bool:
        """Whether the source answers, and is selected, combined with the best one, or selectable.

        Falsetickers, and sources whose measurements vary too much, are not usable.
        """
        return self.is_reachable() and self.state in _USABLE


_USABLE = (SourceState.SELECTED, SourceState.UNSELECTED, SourceState.SELECTABLE)


@dataclass(frozen=True)
class SourceStats(SourceReport):
    """Drift and offset that chronyd estimates from the samples of a source."""

    _report = "sourcestats"

    reference_id: int = field(metadata=of("reference ID", content=C.REFERENCE_ID))
    """Reference ID of the source.

    It is 0 while the source's host name is not resolved.
    """
    address: str = field(metadata=of("address", content=C.ADDRESS))
    """IP address of the source; empty for a reference clock (see `name`).

    It is `ID#` and a number while the source's host name is not resolved.
    """
    samples: int = field(metadata=of("samples", content=C.COUNT))
    """Number of samples that chronyd keeps of the source."""
    runs: int = field(metadata=of("runs", content=C.COUNT))
    """Number of runs of residuals with the same sign, after the last regression.

    Far fewer runs than samples mean that a straight line does not fit the samples well.
    """
    span: int = field(metadata=of("span", content=C.INTERVAL_SECONDS))
    """Interval between the oldest and the newest sample, in seconds."""
    std_dev: float = field(metadata=of("standard deviation", content=C.MEASURE_SECONDS))
    """Estimated standard deviation of the samples, in seconds.

    It is 4 while there is no estimate.
    """
    resid_freq: float = field(
        metadata=of("residual frequency", content=C.OFFSET_PPM, positive="system clock is fast")
    )
    """Estimated residual frequency of the clock relative to the source, in ppm.

    Positive when the system clock is fast.
    """
    skew: float = field(metadata=of("skew", content=C.MEASURE_PPM))
    """Estimated error bound of the residual frequency, in ppm.

    It is 2000 while there is no estimate.
    """
    offset: float = field(
        metadata=of("offset", content=C.OFFSET_SECONDS, positive="system clock is ahead")
    )
    """Estimated present offset of the clock from the source, in seconds.

    Positive when the system clock is ahead of the source.
    """
    offset_err: float = field(metadata=of("offset error", content=C.MEASURE_SECONDS))
    """Error bound of the estimated offset, in seconds."""

    def has_sufficient_samples(self, minimum: int = 4) -> bool:
        """Whether chronyd keeps at least `minimum` samples of the source."""
        return self.samples >= minimum


@dataclass(frozen=True)
class RTCData(Report):
    """State of the machine's hardware clock (RTC), if chronyd is tracking it."""

    _report = "rtcdata"

    ref_time: float = field(metadata=of("reference time", content=C.TIME, convert=epoch))
    """Reading of the RTC when its error was last measured, in seconds since 1970."""
    samples: int = field(metadata=of("samples", content=C.COUNT))
    """Number of measurements that the estimates are based on."""
    runs: int = field(metadata=of("runs", content=C.COUNT))
    """Number of runs of residuals with the same sign.

    Far fewer runs than measurements mean that a straight line does not fit them well.
    """
    span: int = field(metadata=of("span", content=C.INTERVAL_SECONDS))
    """Interval between the oldest and the newest measurement, in seconds.

    It is 0 with fewer than two measurements.
    """
    offset: float = field(metadata=of("offset", content=C.OFFSET_SECONDS, positive="RTC is ahead"))
    """Estimated offset of the RTC, in seconds.

    Positive when the RTC is ahead.
    """
    freq_offset: float = field(
        metadata=of("frequency offset", content=C.OFFSET_PPM, positive="RTC is fast")
    )
    """Rate at which the RTC gains or loses time, in ppm.

    Positive when the RTC is fast.
    """
    ref_time_ns: int = field(
        default=0,
        compare=False,
        repr=False,
        metadata=of("reference time", content=C.TIME),
    )
    """`ref_time` as exact nanoseconds since 1970.

    It is ignored when reports are compared. If it contradicts a `ref_time` passed to the class or
    to `dataclasses.replace()`, it is computed from `ref_time`.
    """

    def __post_init__(self) -> None:
        _let_times_agree(self)

    def is_calibrated(self) -> bool:
        """Whether chronyd has measured the RTC at least once."""
        return self.samples > 0


@dataclass(frozen=True)
class SelectData(SourceReport):
    """Role of a source in source selection (chronyd 4.0 and later; Unix socket only)."""

    _report = "selectdata"

    reference_id: int = field(metadata=of("reference ID", content=C.REFERENCE_ID))
    """Reference ID of the source.

    It is 0 while the source's host name is not resolved.
    """
    address: str = field(metadata=of("address", content=C.ADDRESS))
    """IP address of the source; empty for a reference clock (see `name`).

    It is `ID#` and a number while the source's host name is not resolved.
    """
    state: SelectState = field(metadata=of("state", content=C.ENUM, convert=_select_state))
    """Role of the source in source selection, or the reason why it is not selected."""
    authentication: bool = field(
        metadata=of("authentication", content=C.BOOLEAN, convert=yes_or_no)
    )
    """Whether authentication is configured for the source."""
    leap_status: LeapStatus = field(metadata=of("leap status", content=C.ENUM, convert=LeapStatus))
    """Leap status of the source; `UNSYNC` without a valid measurement."""
    configured_options: SelectOption = field(
        metadata=of("configured options", content=C.FLAGS, convert=SelectOption)
    )
    """Selection options of the source in chronyd's configuration."""
    effective_options: SelectOption = field(
        metadata=of("effective options", content=C.FLAGS, convert=SelectOption)
    )
    """Selection options in effect, after chronyd has applied `authselectmode`."""
    last_sample_ago: int = field(metadata=of("last sample ago", content=C.INTERVAL_SECONDS))
    """Age of the last sample when chronyd last selected a source, in seconds.

    It is 0 without a sample.
    """
    score: float = field(metadata=of("score", content=C.RATIO))
    """Score of the source relative to the selected source, a ratio.

    When it exceeds 10, chronyd selects the best source again.
    """
    low_limit: float = field(
        metadata=of("low limit", content=C.INTERVAL_SECONDS, positive="system clock is ahead")
    )
    """Lower end of the interval that should contain the true offset, in seconds.

    Positive when the system clock is ahead, as in `Source`; 0 without a sample.
    """
    high_limit: float = field(
        metadata=of("high limit", content=C.INTERVAL_SECONDS, positive="system clock is ahead")
    )
    """Upper end of the interval that should contain the true offset, in seconds.

    Positive when the system clock is ahead, as in `Source`; 0 without a sample.
    """


@dataclass(frozen=True)
class Activity(Report):
    """Number of NTP sources in each state, without reference clocks."""

    _report = "activity"

    online: int = field(metadata=of("online sources", content=C.COUNT))
    """Number of sources that chronyd polls."""
    offline: int = field(metadata=of("offline sources", content=C.COUNT))
    """Number of sources that chronyd does not poll, assuming that they are unreachable."""
    burst_online: int = field(metadata=of("burst online-return sources", content=C.COUNT))
    """Number of sources in a burst of polls that will be online afterwards."""
    burst_offline: int = field(metadata=of("burst offline-return sources", content=C.COUNT))
    """Number of sources in a burst of polls that will be offline afterwards."""
    unresolved: int = field(metadata=of("unresolved sources", content=C.COUNT))
    """Number of sources whose host name is not resolved yet."""


@dataclass(frozen=True)
class AuthData(SourceReport):
    """Authentication of an NTP source (chronyd 4.0 and later; Unix socket only)."""

    _report = "authdata"
    _joined = True

    address: str = field(metadata=of("address", content=C.ADDRESS))
    """IP address of the source, which comes from `sourcestats`: libchrony's `authdata` has none.

    It is `ID#` and a number while the source's host name is not resolved.
    """
    mode: AuthMode = field(metadata=of("mode", content=C.ENUM, convert=AuthMode))
    """How the source's packets are authenticated."""
    key_type: KeyType | None = field(
        metadata=of("key type", content=C.ENUM, convert=lambda raw: KeyType(raw) if raw else None)
    )
    """Algorithm of the key; `None` without a key, or if chronyd does not know the algorithm."""
    key_id: int | None = field(metadata=of("key ID", content=C.INDEX, convert=unless_zero))
    """Number of the key in the key file; with NTS, number of the key establishment.

    `None` without a key.
    """
    key_length: int | None = field(
        metadata=of("key length", content=C.LENGTH_BITS, convert=unless_zero)
    )
    """Length of the key, in bits; `None` without a key."""
    ke_attempts: int = field(metadata=of("key establishment attempts", content=C.COUNT))
    """Number of NTS key establishments attempted since the last one that succeeded."""
    last_ke_ago: int | None = field(
        metadata=of("last key establishment ago", content=C.INTERVAL_SECONDS, convert=unless_never)
    )
    """Time since the last successful NTS key establishment, in seconds.

    `None` if there has been none.
    """
    cookies: int = field(metadata=of("cookies", content=C.COUNT))
    """Number of NTS cookies that chronyd holds for the source."""
    cookie_length: int = field(metadata=of("cookie length", content=C.LENGTH_BYTES))
    """Length of the next NTS cookie, in bytes; 0 without a cookie."""
    nak: bool = field(metadata=of("NAK", content=C.BOOLEAN, convert=yes_or_no))
    """Whether the server rejected the last request's authentication (NTS NAK)."""


@dataclass(frozen=True)
class NTPData(SourceReport):
    """Last valid measurement of an NTP source, and its packets (Unix socket only).

    Until the first valid packet (while `rx_valid_messages` is 0), only the remote address, the
    remote port and the numbers of messages and timestamps are meaningful. All other fields are 0 or
    empty.
    """

    _report = "ntpdata"

    remote_address: str = field(metadata=of("remote address", content=C.ADDRESS))
    """IP address of the source.

    It is `ID#` and a number while the source's host name is not resolved.
    """
    local_address: str = field(metadata=of("local address", content=C.ADDRESS))
    """This machine's IP address, to which the source sent its last response.

    It is empty before the first response.
    """
    remote_port: int = field(metadata=of("remote port", content=C.PORT))
    """UDP port of the source, usually 123."""
    leap_status: LeapStatus = field(metadata=of("leap status", content=C.ENUM, convert=LeapStatus))
    """Leap status in the source's last valid packet."""
    version: int = field(metadata=of("version", content=C.COUNT))
    """NTP version of the source's packets."""
    mode: NTPMode = field(metadata=of("mode", content=C.ENUM, convert=NTPMode))
    """NTP mode of the source's packets."""
    stratum: int = field(metadata=of("stratum", content=C.COUNT))
    """Stratum of the source."""
    poll: int = field(metadata=of("poll", content=C.INTERVAL_LOG2_SECONDS, convert=signed16))
    """Polling interval in the source's packets as a power of two, in seconds: 6 is 64 s."""
    precision: int = field(
        metadata=of("precision", content=C.INTERVAL_LOG2_SECONDS, convert=signed16)
    )
    """Precision of the source's clock as a power of two, in seconds: -20 is about 1 µs."""
    root_delay: float = field(metadata=of("root delay", content=C.MEASURE_SECONDS))
    """Root delay of the source, in seconds: its network delay to a stratum 1 source."""
    root_dispersion: float = field(metadata=of("root dispersion", content=C.MEASURE_SECONDS))
    """Root dispersion of the source, in seconds: accumulated up to a stratum 1 source."""
    reference_id: int = field(metadata=of("reference ID", content=C.REFERENCE_ID))
    """Reference ID in the source's packets: what the source itself is synchronised to."""
    reference_id_name: str = field(
        metadata=of(
            "reference ID", content=C.REFERENCE_ID, convert=upstream_name, given=("stratum",)
        )
    )
    """The reference ID as text: a reference clock's ID at stratum 1, else dotted like an address.

    At stratum 0 it is a kiss code (RFC 5905, 7.4).
    """
    ref_time: float = field(metadata=of("reference time", content=C.TIME, convert=epoch))
    """Time when the source's clock was last updated, in seconds since 1970 (UTC)."""
    ref_time_ns: int = field(metadata=of("reference time", content=C.TIME))
    """`ref_time` as exact nanoseconds since 1970 (UTC).

    If it contradicts a `ref_time` passed to the class or to `dataclasses.replace()`, it is computed
    from `ref_time`.
    """
    offset: float = field(
        metadata=of("offset", content=C.OFFSET_SECONDS, positive="system clock is behind")
    )
    """Offset measured by the last valid packet, in seconds.

    Positive when the system clock is behind the source: the opposite of `Source`.
    """
    peer_delay: float = field(metadata=of("peer delay", content=C.MEASURE_SECONDS))
    """Round-trip delay to the source in the last measurement, in seconds."""
    peer_dispersion: float = field(metadata=of("peer dispersion", content=C.MEASURE_SECONDS))
    """Dispersion of the last measurement, in seconds."""
    response_time: float = field(metadata=of("response time", content=C.MEASURE_SECONDS))
    """Time that the source took from the request to its response, in seconds."""
    jitter_asymmetry: float = field(metadata=of("jitter asymmetry", content=C.RATIO))
    """Estimated asymmetry of the network jitter, a ratio from -0.5 to 0.5.

    It is negative when packets to the source jitter more than packets from the source.
    """
    flags: NTPFlag = field(metadata=of("flags", content=C.FLAGS, convert=NTPFlag))
    """Tests that the last packet passed, and whether it was interleaved and authenticated."""
    tx_timestamping: Timestamping = field(
        metadata=of("transmit timestamping", content=C.ENUM, convert=_timestamping)
    )
    """Where the transmit timestamp of the last request was taken."""
    rx_timestamping: Timestamping = field(
        metadata=of("receive timestamping", content=C.ENUM, convert=_timestamping)
    )
    """Where the receive timestamp of the last response was taken."""
    tx_messages: int = field(metadata=of("transmitted messages", content=C.COUNT))
    """Number of packets sent to the source."""
    rx_messages: int = field(metadata=of("received messages", content=C.COUNT))
    """Number of all packets received from the source."""
    rx_valid_messages: int = field(metadata=of("received valid messages", content=C.COUNT))
    """Number of received packets that passed the first two groups of tests (1 to 7)."""
    rx_good_messages: int | None = field(
        metadata=of("received good messages", content=C.COUNT, convert=unless_never, since="4.3")
    )
    """Number of received packets that passed every test, so that the measurement was used.

    `None` before chronyd 4.3.
    """
    kernel_tx_timestamps: int | None = field(
        default=None, metadata=of("kernel transmit timestamps", content=C.COUNT, since="4.6")
    )
    """Number of packets sent with a transmit timestamp from the kernel.

    `None` before chronyd 4.6.
    """
    kernel_rx_timestamps: int | None = field(
        default=None, metadata=of("kernel receive timestamps", content=C.COUNT, since="4.6")
    )
    """Number of packets received with a receive timestamp from the kernel.

    `None` before chronyd 4.6.
    """
    hardware_tx_timestamps: int | None = field(
        default=None, metadata=of("hardware transmit timestamps", content=C.COUNT, since="4.6")
    )
    """Number of packets sent with a transmit timestamp from the network interface.

    `None` before chronyd 4.6.
    """
    hardware_rx_timestamps: int | None = field(
        default=None, metadata=of("hardware receive timestamps", content=C.COUNT, since="4.6")
    )
    """Number of packets received with a receive timestamp from the network interface.

    `None` before chronyd 4.6.
    """

    def __post_init__(self) -> None:
        _let_times_agree(self)


@dataclass(frozen=True)
class ServerStats(Report):
    """Requests that chronyd has received since it started (Unix socket only)."""

    _report = "serverstats"

    ntp_requests: int = field(metadata=of("received NTP requests", content=C.COUNT))
    """Number of valid NTP requests received."""
    ntp_dropped: int = field(metadata=of("dropped NTP requests", content=C.COUNT))
    """Number of NTP requests dropped by rate limiting."""
    command_requests: int = field(metadata=of("received command requests", content=C.COUNT))
    """Number of monitoring requests received, including the one for this report."""
    command_dropped: int = field(metadata=of("dropped command requests", content=C.COUNT))
    """Number of monitoring requests dropped by rate limiting."""
    log_dropped: int = field(metadata=of("dropped client log records", content=C.COUNT))
    """Number of client log records dropped to limit the memory."""
    nts_ke_connections: int | None = field(
        default=None, metadata=of("accepted NTS-KE connections", content=C.COUNT, since="4.0")
    )
    """Number of NTS-KE connections accepted.

    `None` before chronyd 4.0.
    """
    nts_ke_dropped: int | None = field(
        default=None, metadata=of("dropped NTS-KE connections", content=C.COUNT, since="4.0")
    )
    """Number of NTS-KE connections dropped by rate limiting.

    `None` before chronyd 4.0.
    """
    ntp_auth_requests: int | None = field(
        default=None,
        metadata=of("received authenticated NTP requests", content=C.COUNT, since="4.0"),
    )
    """Number of NTP requests received that were authenticated, with a symmetric key or NTS.

    `None` before chronyd 4.0.
    """
    ntp_interleaved_requests: int | None = field(
        default=None, metadata=of("received interleaved NTP requests", content=C.COUNT, since="4.2")
    )
    """Number of NTP requests received in interleaved mode.

    `None` before chronyd 4.2.
    """
    ntp_timestamps_held: int | None = field(
        default=None, metadata=of("held NTP timestamps", content=C.COUNT, since="4.2")
    )
    """Number of timestamp pairs that chronyd holds for clients in interleaved mode.

    `None` before chronyd 4.2.
    """
    ntp_timestamp_span: int | None = field(
        default=None, metadata=of("NTP timestamp span", content=C.INTERVAL_SECONDS, since="4.2")
    )
    """Interval that the held timestamps cover, in seconds.

    `None` before chronyd 4.2.
    """
    daemon_rx_timestamps: int | None = field(
        default=None, metadata=of("served daemon RX timestamps", content=C.COUNT, since="4.4")
    )
    """Number of responses with a receive timestamp from chronyd itself.

    `None` before chronyd 4.4.
    """
    daemon_tx_timestamps: int | None = field(
        default=None, metadata=of("served daemon TX timestamps", content=C.COUNT, since="4.4")
    )
    """Number of responses with a transmit timestamp from chronyd itself.

    `None` before chronyd 4.4.
    """
    kernel_rx_timestamps: int | None = field(
        default=None, metadata=of("served kernel RX timestamps", content=C.COUNT, since="4.4")
    )
    """Number of responses with a receive timestamp from the kernel.

    `None` before chronyd 4.4.
    """
    kernel_tx_timestamps: int | None = field(
        default=None, metadata=of("served kernel TX timestamps", content=C.COUNT, since="4.4")
    )
    """Number of responses with a transmit timestamp from the kernel.

    `None` before chronyd 4.4.
    """
    hardware_rx_timestamps: int | None = field(
        default=None, metadata=of("served hardware RX timestamps", content=C.COUNT, since="4.4")
    )
    """Number of responses with a receive timestamp from the network interface.

    `None` before chronyd 4.4.
    """
    hardware_tx_timestamps: int | None = field(
        default=None, metadata=of("served hardware TX timestamps", content=C.COUNT, since="4.4")
    )
    """Number of responses with a transmit timestamp from the network interface.

    `None` before chronyd 4.4.
    """


@dataclass(frozen=True)
class Smoothing(Report):
    """State of the smoothing of the time that chronyd serves (`smoothtime`)."""

    _report = "smoothing"

    active: bool = field(metadata=of("flags", content=C.FLAGS, convert=lambda raw: bool(raw & 1)))
    """Whether smoothing is active."""
    leap_only: bool = field(
        metadata=of("flags", content=C.FLAGS, convert=lambda raw: bool(raw & 2))
    )
    """Whether only leap seconds are smoothed."""
    offset: float = field(
        metadata=of("offset", content=C.OFFSET_SECONDS, positive="served time is ahead")
    )
    """Offset applied to the served time, in seconds.

    Positive when the served time is ahead of true time.
    """
    frequency: float = field(
        metadata=of("frequency offset", content=C.OFFSET_PPM, positive="served time is fast")
    )
    """Frequency offset of the served time, in ppm.

    Positive when the served time is fast.
    """
    wander: float = field(metadata=of("wander", content=C.OFFSET_PPM_PER_SECOND))
    """Rate at which the frequency offset of the served time changes, in ppm per second.

    Negative when the served time is slowing down.
    """
    last_update_ago: float = field(metadata=of("last update ago", content=C.INTERVAL_SECONDS))
    """Time since the smoothing process was last updated, in seconds.

    It is 0 while smoothing is not active.
    """
    remaining_time: float = field(metadata=of("remaining time", content=C.INTERVAL_SECONDS))
    """Time until the offset and the frequency offset reach zero, in seconds.

    It is 0 while smoothing is not active.
    """


ReportName = Literal[
    "tracking",
    "sources",
    "sourcestats",
    "selectdata",
    "activity",
    "authdata",
    "ntpdata",
    "serverstats",
    "rtcdata",
    "smoothing",
]
"""libchrony's name of a report that has a class here."""


@dataclass(frozen=True)
class AllReports:
    """Several reports of one chronyd, read together.

    A report is `None` if it was not asked for, or could not be read; `missing` has the errors.
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
    """Errors of the reports that were asked for and could not be read, by the report's name.

    Such a report is not permitted, is turned off in chronyd, or cannot be used.
    """
    address: str = ""
    """Address of the chronyd, as in `ChronyConnection.address`."""
    time_ns: int = field(default=0, compare=False)
    """Time of the system clock when the reports were read, in nanoseconds since 1970 (UTC)."""

    @overload
    def require(self, name: Literal["tracking"]) -> TrackingStatus: ...
    @overload
    def require(self, name: Literal["sources"]) -> list[Source]: ...
    @overload
    def require(self, name: Literal["sourcestats"]) -> list[SourceStats]: ...
    @overload
    def require(self, name: Literal["selectdata"]) -> list[SelectData]: ...
    @overload
    def require(self, name: Literal["activity"]) -> Activity: ...
    @overload
    def require(self, name: Literal["authdata"]) -> list[AuthData]: ...
    @overload
    def require(self, name: Literal["ntpdata"]) -> list[NTPData]: ...
    @overload
    def require(self, name: Literal["serverstats"]) -> ServerStats: ...
    @overload
    def require(self, name: Literal["rtcdata"]) -> RTCData: ...
    @overload
    def require(self, name: Literal["smoothing"]) -> Smoothing: ...
    def require(self, name: ReportName) -> object:
        """Return a report that was asked for, or raise the error that `missing` has for it.

        Unlike the attribute of that name, the result is never `None`, for type checkers too. Raises
        `ValueError` for a report that was not asked for.
        """
        if name in self.missing:
            raise self.missing[name].with_traceback(None)  # or it would grow with each call
        if name not in MODELS:
            raise ValueError(f"unknown report {name!r}; choose from {', '.join(MODELS)}")
        report: object = getattr(self, name)
        if report is None:
            raise ValueError(f"{name} was not asked for")
        return report

    def to_dict(self) -> dict[str, Any]:
        """Return the reports as `json.dumps()` takes them: see `to_dict()` of each report.

        An error in `missing` becomes a dictionary with its class (`error`) and `message`.
        """
        return fields_of(self)


@dataclass(frozen=True)
class Answer:
    """What `get_many()` yields for one address: either reports or an error."""

    address: str
    """The address as it was given."""
    reports: AllReports | None = None
    """The reports that were asked for, as `get_all()` returns them; `None` if there is an error."""
    error: ChronyError | None = None
    """Why there is no report at all; `None` if there are reports."""

    def result(self) -> AllReports:
        """Return `reports`, or raise `error`."""
        if self.reports is None:
            error = self.error or ValueError("an Answer has either reports or an error")
            raise error.with_traceback(None)  # or it would grow with each call
        return self.reports


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


class _Docstring:
    """The docstring of a model, composed when it is read."""

    def __get__(self, record: Report | None, model: type[Report]) -> str:
        from ._model.meanings import documented  # slow to import, and only help needs it

        return documented(model)


for _model in MODELS.values():
    _model.__doc__ = _Docstring()  # type: ignore[assignment]
