"""Tells which fields of a report hold a placeholder because chronyd does not know the value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .fields import Report, origins


def unknown(record: Report) -> frozenset[str]:
    """Return the fields that hold a placeholder.

    Programs written for pychrony 2 expect numbers in these fields. Tables and metrics leave them
    out.
    """
    find = _FINDERS.get(record._report)
    return frozenset(find(record)) if find else frozenset()


def is_resolved(record: Any) -> bool:
    """Whether chronyd knows the address of a record's source.

    Until it has resolved the host name, the source's name is `ID#` and a number.
    """
    return not record.name.startswith("ID#")


def _of_stats(record: Any) -> Iterable[str]:
    known = _BEFORE_ESTIMATE if record.samples else _BEFORE_ESTIMATE | _WITHOUT_SAMPLES
    return (field for field, value in known.items() if getattr(record, field) == value)


def _of_selection(record: Any) -> Iterable[str]:
    interval = ("last_sample_ago", "low_limit", "high_limit")
    return () if any(getattr(record, field) for field in interval) else interval


def _of_packets(record: Any) -> Iterable[str]:
    if record.rx_valid_messages != 0:
        return ()
    known = ("remote_address", "remote_port")
    fields = (field for field in origins(type(record)) if field not in known)
    return (field for field in fields if not field.endswith(("_messages", "_timestamps")))


_OF_A_SAMPLE = ("stratum", "orig_latest_meas", "latest_meas", "latest_meas_err")
# WORST_CASE_STD_DEV_BOUND and WORST_CASE_FREQ_BOUND in chrony's sourcestats.c: until there are
# enough samples for an estimate.
_BEFORE_ESTIMATE = {"std_dev": 4.0, "skew": 2000.0}
_WITHOUT_SAMPLES = {"resid_freq": 0.0, "offset": 0.0, "offset_err": 0.0}

_FINDERS: dict[str, Callable[[Any], Iterable[str]]] = {
    "tracking": lambda record: () if record.ref_time_ns else ("ref_time",),
    "sources": lambda record: _OF_A_SAMPLE if record.last_sample_ago is None else (),
    "sourcestats": _of_stats,
    "selectdata": _of_selection,
    "ntpdata": _of_packets,
    "rtcdata": lambda record: () if record.samples else ("ref_time", "offset", "freq_offset"),
}
