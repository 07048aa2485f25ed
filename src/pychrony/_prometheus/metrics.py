"""Derives metrics from the models' tables: names, types, labels, help texts and values.

The content class of a model's field determines its metric, so that a new field needs no code here.
`NAMES` keeps the names that dashboards for chrony already use; all others are derived from
libchrony's names of the fields. A value that chronyd does not know has no series.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, Flag
from functools import partial
from typing import Any, NamedTuple

from .._model.converters import LOCAL_REFERENCE
from .._model.fields import FieldContent as C
from .._model.fields import Origin, Report, origins
from .._model.meanings import Meaning, meanings
from .._model.placeholders import is_resolved
from .._model.plain import flag_names
from ..assessment import reference_of
from ..models import Source, SourceMode, SourceState, TrackingStatus

PREFIX = "chrony_"
SOURCE_LABELS = ("source_address", "source_name")

NAMES = {
    ("tracking", "stratum"): "tracking_stratum",
    ("tracking", "leap_status"): "tracking_leap_status_info",  # ours, for the alerts
    ("tracking", "ref_time"): "tracking_reference_timestamp_seconds",
    ("tracking", "offset"): "tracking_system_time_seconds",
    ("tracking", "last_offset"): "tracking_last_offset_seconds",
    ("tracking", "rms_offset"): "tracking_rms_offset_seconds",
    ("tracking", "frequency"): "tracking_frequency_ppms",
    ("tracking", "residual_freq"): "tracking_residual_frequency_ppms",
    ("tracking", "skew"): "tracking_skew_ppms",
    ("tracking", "root_delay"): "tracking_root_delay_seconds",
    ("tracking", "root_dispersion"): "tracking_root_dispersion_seconds",
    ("tracking", "update_interval"): "tracking_update_interval_seconds",
    ("sources", "poll"): "sources_polling_interval_seconds",
    ("sources", "stratum"): "sources_stratum",
    ("sources", "last_sample_ago"): "sources_last_sample_age_seconds",
    ("sources", "latest_meas"): "sources_last_sample_offset_seconds",
    ("sources", "latest_meas_err"): "sources_last_sample_error_margin_seconds",
    ("sourcestats", "samples"): "sourcestats_samples",
    ("sourcestats", "runs"): "sourcestats_runs",
    ("sourcestats", "span"): "sourcestats_span_seconds",
    ("sourcestats", "std_dev"): "sourcestats_stddev",
    ("sourcestats", "resid_freq"): "sourcestats_frequency_ppms",
    ("sourcestats", "skew"): "sourcestats_frequency_skew_ppms",
    ("sourcestats", "offset"): "sourcestats_offset",
    ("ntpdata", "offset"): "sources_peer_offset_seconds",
    ("ntpdata", "peer_delay"): "sources_peer_delay_seconds",
    ("ntpdata", "peer_dispersion"): "sources_peer_dispersion_seconds",
    ("ntpdata", "response_time"): "sources_peer_response_time_seconds",
    ("ntpdata", "jitter_asymmetry"): "sources_peer_jitter_asymmetry_seconds",
    ("serverstats", "ntp_requests"): "serverstats_ntp_packets_received_total",
    ("serverstats", "ntp_dropped"): "serverstats_ntp_packets_dropped_total",
    ("serverstats", "command_requests"): "serverstats_command_packets_received_total",
    ("serverstats", "command_dropped"): "serverstats_command_packets_dropped_total",
    ("serverstats", "log_dropped"): "serverstats_client_log_records_dropped_total",
    ("serverstats", "nts_ke_connections"): "serverstats_nts_ke_connections_accepted_total",
    ("serverstats", "nts_ke_dropped"): "serverstats_nts_ke_connections_dropped_total",
    ("serverstats", "ntp_auth_requests"): "serverstats_authenticated_ntp_packets_total",
    ("serverstats", "ntp_interleaved_requests"): "serverstats_interleaved_ntp_packets_total",
    ("serverstats", "ntp_timestamps_held"): "serverstats_ntp_timestamps_held",
    ("serverstats", "ntp_timestamp_span"): "serverstats_ntp_timestamp_span_seconds",
    ("serverstats", "daemon_rx_timestamps"): "serverstats_ntp_daemon_rx_timestamps_total",
    ("serverstats", "daemon_tx_timestamps"): "serverstats_ntp_daemon_tx_timestamps_total",
    ("serverstats", "kernel_rx_timestamps"): "serverstats_ntp_kernel_rx_timestamps_total",
    ("serverstats", "kernel_tx_timestamps"): "serverstats_ntp_kernel_tx_timestamps_total",
    ("serverstats", "hardware_rx_timestamps"): "serverstats_ntp_hw_rx_timestamps_total",
    ("serverstats", "hardware_tx_timestamps"): "serverstats_ntp_hw_tx_timestamps_total",
}
"""Names that dashboards for chrony use already, by report and attribute.

These metrics are exported by default. The metrics of other attributes must be asked for, unless
their report has none that are exported by default.
"""

USUAL_REPORTS = ("tracking", "sources", "sourcestats", "ntpdata", "serverstats")
"""The reports that are read by default."""

# The words of facebook/time, whose client other exporters use.
STATES = {
    SourceState.SELECTED: "sync",
    SourceState.NONSELECTABLE: "unreach",
    SourceState.FALSETICKER: "falseticker",
    SourceState.JITTERY: "jittery",
    SourceState.UNSELECTED: "candidate",
    SourceState.SELECTABLE: "outlier",
}
MODES = {
    SourceMode.CLIENT: "client",
    SourceMode.PEER: "peer",
    SourceMode.REFCLOCK: "reference clock",
}


SUFFIXES = {
    C.TIME: "_timestamp_seconds",
    C.INTERVAL_LOG2_SECONDS: "_seconds",
    C.INTERVAL_SECONDS: "_seconds",
    C.OFFSET_SECONDS: "_seconds",
    C.MEASURE_SECONDS: "_seconds",
    C.OFFSET_PPM: "_ppms",
    C.MEASURE_PPM: "_ppms",
    C.OFFSET_PPM_PER_SECOND: "_ppms_per_second",
    C.RATIO: "_ratio",
    C.LENGTH_BITS: "_bytes",  # Prometheus' base unit
    C.LENGTH_BYTES: "_bytes",
    C.ENUM: "_info",
}
"""Ends of the names of metrics, by content class."""

NUMBERS: dict[C, Callable[[Any], float]] = {
    C.INTERVAL_LOG2_SECONDS: lambda power: math.ldexp(1.0, min(power, 1023)),
    C.LENGTH_BITS: lambda bits: bits / 8,
}
"""How to turn a value into the exported number, where the two differ."""

IDENTITIES = {C.ADDRESS, C.REFERENCE_ID, C.PORT, C.INDEX}
"""Fields that identify something: labels of the report's info metric."""

BOOLEANS = {C.FLAGS, C.BOOLEAN}

COUNTERS = ("_messages", "_timestamps", "_requests", "_connections", "_dropped")
"""Endings of the attributes that count events since chronyd's start."""

Samples = Iterable[tuple[tuple[str, ...], float]]


class Metric(NamedTuple):
    """One metric of a report, and how to get its values from a record."""

    name: str
    help: str
    labels: tuple[str, ...]
    attributes: frozenset[str]
    """The fields that it needs; if one of them is unknown, it has no value."""
    samples: Callable[[Any], Samples]
    """Returns the series of a record: the values of its own labels, and a number."""
    usual: bool = True
    """Whether it is exported by default."""

    @property
    def type(self) -> str:
        """Prometheus' type of the metric."""
        return "counter" if self.name.endswith("_total") else "gauge"


def exported(model: type[Report], *, everything: bool) -> tuple[Metric, ...]:
    """Return the metrics of a report: the usual ones, or all of them if it has no usual ones."""
    found = metrics(model)
    usual = () if everything else tuple(metric for metric in found if metric.usual)
    return usual or found


def metrics(model: type[Report]) -> tuple[Metric, ...]:
    """Return all metrics of a report."""
    combined = _COMBINED.get(model, ())
    done = {attribute for metric in combined for attribute in metric.attributes}
    if model._per_source:
        done |= _SOURCE_FIELDS
    identities: list[str] = []
    measured: list[Metric] = []
    for attribute, meaning in meanings(model).items():
        content = meaning.origin.content
        if attribute in done or content is C.NONE or attribute.endswith("_ns"):
            continue  # reserved, or the nanoseconds of a time
        if content in IDENTITIES:
            identities.append(attribute)
        else:
            measured.append(_metric(model._report, attribute, meaning))
    found = (*combined, *([_identity(model, identities)] if identities else []), *measured)
    of_source = SOURCE_LABELS if model._per_source else ()
    return tuple(metric._replace(labels=(*of_source, *metric.labels)) for metric in found)


def by_source(records: Iterable[Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the records of sources that have an address, each with its source's labels.

    Reference clocks may share an ID. The second and later ones get a number, since two series must
    not have the same labels.
    """
    seen = Counter[str]()
    for record in records:
        name: str = record.name
        if is_resolved(record):
            seen[name] += 1
            label = name if seen[name] == 1 else f"{name} ({seen[name]})"
            yield (label, label), record


# Metrics of a single field.


def _metric(report: str, attribute: str, meaning: Meaning) -> Metric:
    origin = meaning.origin
    usual = NAMES.get((report, attribute))
    name = PREFIX + (usual or _name(report, attribute, origin))
    labels = (attribute,) if origin.content is C.ENUM else ("flag",) if _is_set(origin) else ()
    remark = " (always 1)" if labels else " (1 or 0)" if origin.content in BOOLEANS else ""
    samples = partial(_samples, attribute, NUMBERS.get(origin.content, float))
    words = _help(meaning, remark)
    return Metric(name, words, labels, frozenset({attribute}), samples, usual is not None)


def _help(meaning: Meaning, remark: str) -> str:
    """Return the first sentence of a field's description, for the number that is exported."""
    origin = meaning.origin
    sentence = re.split(r"[.;](?: |$)", meaning.text or origin.names[0])[0]
    # The description is that of the attribute, which may be a power of two, or in bits.
    sentence = re.sub(" as a power of two.*", ", in seconds", sentence)
    sentence = sentence.replace(", in bits", ", in bytes")
    sign = f" Positive: {origin.positive}." if origin.positive else ""
    return f"{sentence[0].upper()}{sentence[1:]}{remark}.{sign}"


def _name(report: str, attribute: str, origin: Origin) -> str:
    """Build a metric's name from libchrony's name of the field, and from the unit."""
    content = origin.content
    if content is C.FLAGS:  # several attributes may come from one such field
        return f"{report}_{attribute}{'_info' if _is_set(origin) else ''}"
    words = re.sub(r"\W+", "_", origin.names[0].lower())
    words = re.sub("_ago$", "_age", words)
    if content is C.TIME:
        words = words.removesuffix("_time")
    suffix = "_total" if attribute.endswith(COUNTERS) else SUFFIXES.get(content, "")
    return f"{report}_{words}{suffix}"


def _is_set(origin: Origin) -> bool:
    return isinstance(origin.convert, type) and issubclass(origin.convert, Flag)


def _samples(attribute: str, number: Callable[[Any], float], record: Report) -> Samples:
    """Return a number, or a 1 for the member of an enum, and for each flag that is set."""
    value = getattr(record, attribute)
    if value is None:
        return ()
    if isinstance(value, Flag):
        return [((name.lower(),), 1.0) for name in flag_names(value)]
    if isinstance(value, Enum):
        return (((value.name.lower(),), 1.0),)
    return (((), number(value)),)


# Metrics of several fields, and several metrics of one field.


def _identity(model: type[Report], attributes: Sequence[str]) -> Metric:
    def samples(record: Report) -> Samples:
        return ((tuple(_as_label(record, attribute) for attribute in attributes), 1.0),)

    return Metric(
        f"{PREFIX}{model._report}_info",
        f"Addresses and identifiers in {model._report} (always 1).",
        tuple(attributes),
        frozenset(),
        samples,
        usual=False,
    )


def _as_label(record: Report, attribute: str) -> str:
    value = getattr(record, attribute)
    if value is None:
        return ""
    is_reference_id = origins(type(record))[attribute].content is C.REFERENCE_ID
    return f"{value:08X}" if is_reference_id and isinstance(value, int) else str(value)


def _tracking_info(tracking: TrackingStatus) -> Samples:
    name = reference_of(tracking)
    return (((name, name, f"{tracking.reference_id:08X}"), 1.0),)


def _state_info(source: Source) -> Samples:
    labels = (
        STATES.get(source.state, f"unknown ({source.state.value})"),
        MODES.get(source.mode, f"unknown ({source.mode.value})"),
    )
    return ((labels, 1.0),)


_COMBINED: dict[type[Report], tuple[Metric, ...]] = {
    TrackingStatus: (
        Metric(
            f"{PREFIX}tracking_info",
            "What the clock is synchronised to (always 1).",
            ("tracking_address", "tracking_name", "tracking_refid"),
            frozenset({"reference_ip", "reference_id", "reference_id_name"}),
            _tracking_info,
        ),
        Metric(
            f"{PREFIX}tracking_remote_reference",
            "0 if chronyd is its own reference (local mode), else 1.",
            (),
            frozenset({"reference_id"}),
            lambda tracking: (((), float(tracking.reference_id != LOCAL_REFERENCE)),),
        ),
    ),
    Source: (
        Metric(
            f"{PREFIX}sources_state_info",
            "State in source selection, and kind of the source (always 1).",
            ("source_state", "source_mode"),
            frozenset({"state", "mode"}),
            _state_info,
        ),
        Metric(
            f"{PREFIX}sources_reachability_ratio",
            "Share of the last eight polls that were answered.",
            (),
            frozenset({"reachability"}),
            lambda source: (((), (source.reachability & 0xFF).bit_count() / 8),),
        ),
        Metric(
            f"{PREFIX}sources_reachability_success",
            "1 if the last poll was answered, else 0.",
            (),
            frozenset({"reachability"}),
            lambda source: (((), float(source.reachability & 1)),),
        ),
    ),
}

_SOURCE_FIELDS = {"address", "remote_address"}
"""Fields that identify the source of a record, and are its labels."""
