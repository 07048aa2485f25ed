"""Provides plausible reports and a private chronyd for testing programs that use pychrony.

`make_tracking()` and the other factories return a plausible report, in which the given fields
replace the defaults; the defaults are in `TRACKING_DEFAULTS` and its siblings. An
unknown field raises `TypeError`. Give either a time or its `_ns` field; the other one is derived.

The pytest fixtures `tracking_status`, `source`, `source_stats` and `rtc_data` return what the
factories do. pytest finds them without an import; they can also be imported from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from ._testing.fixtures import rtc_data, source, source_stats, tracking_status

__all__ = [
    "ACTIVITY_DEFAULTS",
    "AUTHDATA_DEFAULTS",
    "NTPDATA_DEFAULTS",
    "RTCDATA_DEFAULTS",
    "SELECTDATA_DEFAULTS",
    "SERVERSTATS_DEFAULTS",
    "SMOOTHING_DEFAULTS",
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

TRACKING_DEFAULTS: dict[str, Any] = {
    "reference_id": 0x7F000001,
    "reference_id_name": "127.0.0.1",
    "reference_ip": "127.0.0.1",
    "stratum": 2,
    "leap_status": LeapStatus.NORMAL,
    "ref_time": 1705320000.1234567,
    "offset": 0.000123456,
    "last_offset": 0.000111222,
    "rms_offset": 0.0001,
    "frequency": 1.234,
    "residual_freq": 0.001,
    "skew": 0.005,
    "root_delay": 0.001234,
    "root_dispersion": 0.002345,
    "update_interval": 64.0,
}

SOURCE_DEFAULTS: dict[str, Any] = {
    "address": "192.168.1.100",
    "poll": 6,
    "stratum": 2,
    "state": SourceState.SELECTED,
    "mode": SourceMode.CLIENT,
    "flags": 0,
    "reachability": 255,
    "last_sample_ago": 32,
    "orig_latest_meas": 0.000123456,
    "latest_meas": 0.000123456,
    "latest_meas_err": 0.00001,
}

SOURCESTATS_DEFAULTS: dict[str, Any] = {
    "reference_id": 0xC0A80164,
    "address": "192.168.1.100",
    "samples": 8,
    "runs": 3,
    "span": 512,
    "std_dev": 0.0001,
    "resid_freq": 0.001,
    "skew": 0.005,
    "offset": 0.000123456,
    "offset_err": 0.00001,
}

RTCDATA_DEFAULTS: dict[str, Any] = {
    "ref_time": 1705320000.1234567,
    "samples": 10,
    "runs": 4,
    "span": 86400,
    "offset": 0.123456,
    "freq_offset": -1.234,
}

SELECTDATA_DEFAULTS: dict[str, Any] = {
    "reference_id": 0xC0A80164,
    "address": "192.168.1.100",
    "state": SelectState.BEST,
    "authentication": False,
    "leap_status": LeapStatus.NORMAL,
    "configured_options": SelectOption(0),
    "effective_options": SelectOption(0),
    "last_sample_ago": 32,
    "score": 1.0,
    "low_limit": -0.001,
    "high_limit": 0.0012,
}

ACTIVITY_DEFAULTS: dict[str, Any] = {
    "online": 3,
    "offline": 1,
    "burst_online": 0,
    "burst_offline": 0,
    "unresolved": 0,
}

AUTHDATA_DEFAULTS: dict[str, Any] = {
    "address": "192.168.1.100",
    "mode": AuthMode.SYMMETRIC_KEY,
    "key_type": KeyType.SHA256,
    "key_id": 1,
    "key_length": 256,
    "ke_attempts": 0,
    "last_ke_ago": None,
    "cookies": 0,
    "cookie_length": 0,
    "nak": False,
}

NTPDATA_DEFAULTS: dict[str, Any] = {
    "remote_address": "192.168.1.100",
    "local_address": "192.168.1.1",
    "remote_port": 123,
    "leap_status": LeapStatus.NORMAL,
    "version": 4,
    "mode": NTPMode.SERVER,
    "stratum": 2,
    "poll": 6,
    "precision": -24,
    "root_delay": 0.001,
    "root_dispersion": 0.002,
    "reference_id": 0xC0A80165,
    "reference_id_name": "192.168.1.101",
    "ref_time": 1705319968.1234567,
    "offset": -0.000123456,
    "peer_delay": 0.000234,
    "peer_dispersion": 0.0000001,
    "response_time": 0.00005,
    "jitter_asymmetry": 0.0,
    "flags": NTPFlag(0x3FF),  # every test passed
    "tx_timestamping": Timestamping.KERNEL,
    "rx_timestamping": Timestamping.KERNEL,
    "tx_messages": 24,
    "rx_messages": 24,
    "rx_valid_messages": 24,
    "rx_good_messages": 24,
    "kernel_tx_timestamps": 24,
    "kernel_rx_timestamps": 24,
    "hardware_tx_timestamps": 0,
    "hardware_rx_timestamps": 0,
}

SERVERSTATS_DEFAULTS: dict[str, Any] = {
    "ntp_requests": 1000,
    "ntp_dropped": 10,
    "command_requests": 100,
    "command_dropped": 0,
    "log_dropped": 0,
    "nts_ke_connections": 5,
    "nts_ke_dropped": 0,
    "ntp_auth_requests": 50,
    "ntp_interleaved_requests": 20,
    "ntp_timestamps_held": 16,
    "ntp_timestamp_span": 600,
    "daemon_rx_timestamps": 0,
    "daemon_tx_timestamps": 970,
    "kernel_rx_timestamps": 990,
    "kernel_tx_timestamps": 20,
    "hardware_rx_timestamps": 0,
    "hardware_tx_timestamps": 0,
}

SMOOTHING_DEFAULTS: dict[str, Any] = {
    "active": True,
    "leap_only": False,
    "offset": 0.0012,
    "frequency": -0.25,
    "wander": -0.001,
    "last_update_ago": 16.0,
    "remaining_time": 250.0,
}


def make_tracking(**overrides: Any) -> TrackingStatus:
    """Return a clock synchronised to 127.0.0.1, except for `overrides`."""
    return TrackingStatus(**_with_time(TRACKING_DEFAULTS, overrides))


def make_source(**overrides: Any) -> Source:
    """Return the selected source 192.168.1.100, except for `overrides`."""
    return Source(**{**SOURCE_DEFAULTS, **overrides})


def make_source_stats(**overrides: Any) -> SourceStats:
    """Return the estimates of the source 192.168.1.100, except for `overrides`."""
    return SourceStats(**{**SOURCESTATS_DEFAULTS, **overrides})


def make_rtc_data(**overrides: Any) -> RTCData:
    """Return a hardware clock that is a little fast, except for `overrides`."""
    return RTCData(**_with_time(RTCDATA_DEFAULTS, overrides))


def make_select_data(**overrides: Any) -> SelectData:
    """Return the selection of the source 192.168.1.100 as the best, except for `overrides`."""
    return SelectData(**{**SELECTDATA_DEFAULTS, **overrides})


def make_activity(**overrides: Any) -> Activity:
    """Return three sources online and one offline, except for `overrides`."""
    return Activity(**{**ACTIVITY_DEFAULTS, **overrides})


def make_auth_data(**overrides: Any) -> AuthData:
    """Return the authentication of the source 192.168.1.100 by a key, except for `overrides`."""
    return AuthData(**{**AUTHDATA_DEFAULTS, **overrides})


def make_ntp_data(**overrides: Any) -> NTPData:
    """Return a measurement of the source 192.168.1.100, except for `overrides`."""
    return NTPData(**_with_time(NTPDATA_DEFAULTS, overrides))


def make_server_stats(**overrides: Any) -> ServerStats:
    """Return the counts of a chronyd that serves time, except for `overrides`."""
    return ServerStats(**{**SERVERSTATS_DEFAULTS, **overrides})


def make_smoothing(**overrides: Any) -> Smoothing:
    """Return an active smoothing, except for `overrides`."""
    return Smoothing(**{**SMOOTHING_DEFAULTS, **overrides})


def _with_time(defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Join the two; derive `ref_time` if only `ref_time_ns` is given."""
    values = {"ref_time_ns": 0, **defaults, **overrides}
    if "ref_time_ns" in overrides and "ref_time" not in overrides:
        values["ref_time"] = values["ref_time_ns"] / 1_000_000_000
    return values


if not TYPE_CHECKING:

    def __getattr__(name):
        """Import the fixtures, and with them pytest, only if one is used (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ._testing import fixtures

        return getattr(fixtures, name)

    def __dir__():
        return sorted({*globals(), *__all__})
