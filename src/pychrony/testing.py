"""Provides plausible reports and a private chronyd for testing programs that use pychrony.

`make_tracking()` and the other factories return a plausible report, in which the given fields
replace the defaults. An unknown field raises `TypeError`. Give either a time or its `_ns` field;
the other one is derived.

The pytest fixtures `tracking_status`, `source`, `source_stats` and `rtc_data` return what the
factories do. pytest finds them without an import; they can also be imported from here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ._testing.private_chronyd import PrivateChronyd
from .models import (
    Activity,
    AuthData,
    AuthMode,
    KeyType,
    LeapStatus,
    NTPData,
    NTPFlag,
    NTPMode,
    RTCData,
    SelectData,
    SelectOption,
    SelectState,
    ServerStats,
    Smoothing,
    Source,
    SourceMode,
    SourceState,
    SourceStats,
    Timestamping,
    TrackingStatus,
)

with suppress(ImportError):  # only the fixtures need pytest
    from ._testing.fixtures import rtc_data, source, source_stats, tracking_status

__all__ = [
    "RTCDATA_DEFAULTS",
    "SOURCESTATS_DEFAULTS",
    "SOURCE_DEFAULTS",
    "TRACKING_DEFAULTS",
    "PrivateChronyd",
    "make_activity",
    "make_auth_data",
    "make_ntp_data",
    "make_rtc_data",
    "make_select_data",
    "make_server_stats",
    "make_smoothing",
    "make_source",
    "make_source_stats",
    "make_tracking",
    "rtc_data",
    "source",
    "source_stats",
    "tracking_status",
]

NO_OPTIONS = SelectOption(0)
EVERY_TEST_PASSED = NTPFlag(0x3FF)


def make_tracking(
    *,
    reference_id: int = 0x7F000001,
    reference_id_name: str = "127.0.0.1",
    reference_ip: str = "127.0.0.1",
    stratum: int = 2,
    leap_status: LeapStatus = LeapStatus.NORMAL,
    ref_time: float = 1705320000.1234567,
    offset: float = 0.000123456,
    last_offset: float = 0.000111222,
    rms_offset: float = 0.0001,
    frequency: float = 1.234,
    residual_freq: float = 0.001,
    skew: float = 0.005,
    root_delay: float = 0.001234,
    root_dispersion: float = 0.002345,
    update_interval: float = 64.0,
    ref_time_ns: int | None = None,
) -> TrackingStatus:
    """Return a clock synchronised to 127.0.0.1, except for the given fields."""
    return TrackingStatus(**_with_time(locals()))


def make_source(
    *,
    address: str = "192.168.1.100",
    poll: int = 6,
    stratum: int = 2,
    state: SourceState = SourceState.SELECTED,
    mode: SourceMode = SourceMode.CLIENT,
    flags: int = 0,
    reachability: int = 255,
    last_sample_ago: int | None = 32,
    orig_latest_meas: float = 0.000123456,
    latest_meas: float = 0.000123456,
    latest_meas_err: float = 0.00001,
) -> Source:
    """Return the selected source 192.168.1.100, except for the given fields."""
    return Source(**locals())


def make_source_stats(
    *,
    reference_id: int = 0xC0A80164,
    address: str = "192.168.1.100",
    samples: int = 8,
    runs: int = 3,
    span: int = 512,
    std_dev: float = 0.0001,
    resid_freq: float = 0.001,
    skew: float = 0.005,
    offset: float = 0.000123456,
    offset_err: float = 0.00001,
) -> SourceStats:
    """Return the estimates of the source 192.168.1.100, except for the given fields."""
    return SourceStats(**locals())


def make_rtc_data(
    *,
    ref_time: float = 1705320000.1234567,
    samples: int = 10,
    runs: int = 4,
    span: int = 86400,
    offset: float = 0.123456,
    freq_offset: float = -1.234,
    ref_time_ns: int | None = None,
) -> RTCData:
    """Return a hardware clock that is a little fast, except for the given fields."""
    return RTCData(**_with_time(locals()))


def make_select_data(
    *,
    reference_id: int = 0xC0A80164,
    address: str = "192.168.1.100",
    state: SelectState = SelectState.BEST,
    authentication: bool = False,
    leap_status: LeapStatus = LeapStatus.NORMAL,
    configured_options: SelectOption = NO_OPTIONS,
    effective_options: SelectOption = NO_OPTIONS,
    last_sample_ago: int = 32,
    score: float = 1.0,
    low_limit: float = -0.001,
    high_limit: float = 0.0012,
) -> SelectData:
    """Return the selection of the source 192.168.1.100 as the best, except for the given fields."""
    return SelectData(**locals())


def make_activity(
    *,
    online: int = 3,
    offline: int = 1,
    burst_online: int = 0,
    burst_offline: int = 0,
    unresolved: int = 0,
) -> Activity:
    """Return three sources online and one offline, except for the given fields."""
    return Activity(**locals())


def make_auth_data(
    *,
    address: str = "192.168.1.100",
    mode: AuthMode = AuthMode.SYMMETRIC_KEY,
    key_type: KeyType | None = KeyType.SHA256,
    key_id: int | None = 1,
    key_length: int | None = 256,
    ke_attempts: int = 0,
    last_ke_ago: int | None = None,
    cookies: int = 0,
    cookie_length: int = 0,
    nak: bool = False,
) -> AuthData:
    """Return the authentication of 192.168.1.100 by a key, except for the given fields."""
    return AuthData(**locals())


def make_ntp_data(
    *,
    remote_address: str = "192.168.1.100",
    local_address: str = "192.168.1.1",
    remote_port: int = 123,
    leap_status: LeapStatus = LeapStatus.NORMAL,
    version: int = 4,
    mode: NTPMode = NTPMode.SERVER,
    stratum: int = 2,
    poll: int = 6,
    precision: int = -24,
    root_delay: float = 0.001,
    root_dispersion: float = 0.002,
    reference_id: int = 0xC0A80165,
    reference_id_name: str = "192.168.1.101",
    ref_time: float = 1705319968.1234567,
    ref_time_ns: int | None = None,
    offset: float = -0.000123456,
    peer_delay: float = 0.000234,
    peer_dispersion: float = 0.0000001,
    response_time: float = 0.00005,
    jitter_asymmetry: float = 0.0,
    flags: NTPFlag = EVERY_TEST_PASSED,
    tx_timestamping: Timestamping = Timestamping.KERNEL,
    rx_timestamping: Timestamping = Timestamping.KERNEL,
    tx_messages: int = 24,
    rx_messages: int = 24,
    rx_valid_messages: int = 24,
    rx_good_messages: int | None = 24,
    kernel_tx_timestamps: int | None = 24,
    kernel_rx_timestamps: int | None = 24,
    hardware_tx_timestamps: int | None = 0,
    hardware_rx_timestamps: int | None = 0,
) -> NTPData:
    """Return a measurement of the source 192.168.1.100, except for the given fields."""
    return NTPData(**_with_time(locals()))


def make_server_stats(
    *,
    ntp_requests: int = 1000,
    ntp_dropped: int = 10,
    command_requests: int = 100,
    command_dropped: int = 0,
    log_dropped: int = 0,
    nts_ke_connections: int | None = 5,
    nts_ke_dropped: int | None = 0,
    ntp_auth_requests: int | None = 50,
    ntp_interleaved_requests: int | None = 20,
    ntp_timestamps_held: int | None = 16,
    ntp_timestamp_span: int | None = 600,
    daemon_rx_timestamps: int | None = 0,
    daemon_tx_timestamps: int | None = 970,
    kernel_rx_timestamps: int | None = 990,
    kernel_tx_timestamps: int | None = 20,
    hardware_rx_timestamps: int | None = 0,
    hardware_tx_timestamps: int | None = 0,
) -> ServerStats:
    """Return the counts of a chronyd that serves time, except for the given fields."""
    return ServerStats(**locals())


def make_smoothing(
    *,
    active: bool = True,
    leap_only: bool = False,
    offset: float = 0.0012,
    frequency: float = -0.25,
    wander: float = -0.001,
    last_update_ago: float = 16.0,
    remaining_time: float = 250.0,
) -> Smoothing:
    """Return an active smoothing, except for the given fields."""
    return Smoothing(**locals())


def _with_time(values: dict[str, Any]) -> dict[str, Any]:
    """Derive `ref_time` from `ref_time_ns` if that is given; the report itself does the reverse."""
    if values["ref_time_ns"] is None:
        return {**values, "ref_time_ns": 0}
    return {**values, "ref_time": values["ref_time_ns"] / 1_000_000_000}


def _defaults(make: Callable[..., object]) -> dict[str, Any]:
    """Return what a factory puts into the fields that its caller does not give."""
    values = inspect.signature(make).parameters.values()
    return {field.name: field.default for field in values if field.name != "ref_time_ns"}


TRACKING_DEFAULTS = _defaults(make_tracking)
SOURCE_DEFAULTS = _defaults(make_source)
SOURCESTATS_DEFAULTS = _defaults(make_source_stats)
RTCDATA_DEFAULTS = _defaults(make_rtc_data)
