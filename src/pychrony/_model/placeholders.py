"""Tells which fields of a report hold a placeholder because chronyd does not know the value."""

from __future__ import annotations

from typing import Any

from .fields import Report, origins


def unknown(record: Report) -> frozenset[str]:
    """Return the fields that hold a placeholder.

    Programs written for pychrony 2 expect numbers in these fields. Tables and metrics leave them
    out.
    """
    find = _FINDERS.get(record._report)
    return find(record) if find else frozenset()


def is_resolved(record: Any) -> bool:
    """Whether chronyd knows the address of a record's source.

    Until it has resolved the host name, the source's name is `ID#` and a number.
    """
    return not record.name.startswith("ID#")


def _of_tracking(record: Any) -> frozenset[str]:
    return frozenset() if record.ref_time_ns else frozenset({"ref_time"})


def _of_source(record: Any) -> frozenset[str]:
    return frozenset() if record.last_sample_ago is not None else _OF_A_SAMPLE


def _of_stats(record: Any) -> frozenset[str]:
    known = _BEFORE_ESTIMATE if record.samples else _BEFORE_ESTIMATE | _WITHOUT_SAMPLES
    return frozenset(field for field, value in known.items() if getattr(record, field) == value)


def _of_selection(record: Any) -> frozenset[str]:
    interval = {"last_sample_ago", "low_limit", "high_limit"}
    return frozenset() if any(getattr(record, field) for field in interval) else frozenset(interval)


def _of_packets(record: Any) -> frozenset[str]:
    return _of_a_packet(type(record)) if record.rx_valid_messages == 0 else frozenset()


def _of_rtc(record: Any) -> frozenset[str]:
    return frozenset() if record.samples else frozenset({"ref_time", "offset", "freq_offset"})


def _of_a_packet(model: type[Report]) -> frozenset[str]:
    return frozenset(
        field
        for field in origins(model)
        if field not in ("remote_address", "remote_port")
        and not field.endswith(("_messages", "_timestamps"))
    )


_FINDERS = {
    "tracking": _of_tracking,
    "sources": _of_source,
    "sourcestats": _of_stats,
    "selectdata": _of_selection,
    "ntpdata": _of_packets,
    "rtcdata": _of_rtc,
}

_OF_A_SAMPLE = frozenset({"stratum", "orig_latest_meas", "latest_meas", "latest_meas_err"})
# WORST_CASE_STD_DEV_BOUND and WORST_CASE_FREQ_BOUND in chrony's sourcestats.c: until there are
# enough samples for an estimate.
_BEFORE_ESTIMATE = {"std_dev": 4.0, "skew": 2000.0}
_WITHOUT_SAMPLES = {"resid_freq": 0.0, "offset": 0.0, "offset_err": 0.0}
