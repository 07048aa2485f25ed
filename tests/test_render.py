"""Tests how the command shows reports: values, tables, blocks and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import pytest

from pychrony import (
    AuthMode,
    KeyType,
    NTPFlag,
    SelectOption,
    SelectState,
    SourceMode,
    SourceState,
    SourceStats,
    testing,
)
from pychrony._command.lists import COLUMNS, LEAST_IMPORTANT
from pychrony._command.render import as_json, block, text
from pychrony._command.values import time as moment
from pychrony._model.durations import interval, parse, seconds
from pychrony._model.fields import Report, of, origins
from pychrony._model.plain import flag_names
from pychrony.models import MODELS, FieldContent
from pychrony.testing import make_ntp_data, make_select_data, make_source, make_source_stats

MAKERS: dict[str, Callable[..., Report]] = {
    make()._report: make for name, make in vars(testing).items() if name.startswith("make_")
}


def lines(report: str, **overrides: Any) -> dict[str, str]:
    """A record as label and value, as narrow terminals get it."""
    shown = block(MAKERS[report](**overrides), 200)
    pairs = (line.split("  ", 1) for line in shown.splitlines())
    return {label: value.strip() for label, value in pairs}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0 s"),
        (1.5e-10, "0.15 ns"),
        (-3.4e-6, "-3.40 µs"),
        (2.1e-5, "21.0 µs"),
        (9.994e-4, "999 µs"),
        (9.996e-4, "1.00 ms"),
        (0.42, "420 ms"),
        (4.0, "4.00 s"),
        (86400.5, "86400 s"),
    ],
)
def test_seconds_have_three_digits_in_the_unit_that_suits_them(value: float, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 s"),
        (599, "599 s"),
        (64.2, "64.2 s"),
        (-0.0068, "-6.80 ms"),
        (599.97, "10m00s"),
        (780, "13m00s"),
        (3599.7, "1h00m"),
        (-3660, "-1h01m"),
        (100_000, "1d04h"),
        (4_294_967_294, "136y70d"),
    ],
)
def test_a_long_interval_has_two_units(value: float, shown: str) -> None:
    assert interval(value) == shown


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5", 1.5),
        ("100ns", 1e-7),
        ("2.5us", 2.5e-6),
        ("2.5µs", 2.5e-6),
        ("10ms", 0.01),
        ("5s", 5.0),
        ("5 m", 300.0),
        ("1.5h", 5400.0),
        ("2d", 172800.0),
    ],
)
def test_a_duration_may_have_any_unit(text: str, value: float) -> None:
    assert parse(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "soon", "-1s", "nan", "inf", "1e400", "5 min", "1m30s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration such as"):
        parse(text)


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (0, "-"),
        (1_700_000_000_123_456_789, "2023-11-14 22:13:20.123 UTC"),
        (9_223_372_036_854_775_807 * 10**9, "9223372036854775807 s since 1970"),
    ],
)
def test_a_time_is_shown_whatever_chronyd_sends(nanoseconds: int, shown: str) -> None:
    assert moment(nanoseconds) == shown


@pytest.mark.parametrize("report", MODELS)
def test_each_field_stands_under_the_name_that_libchrony_gives_it(report: str) -> None:
    names = {o.names[0] for o in origins(MODELS[report]).values() if o.content.name != "NONE"}
    if report in ("sourcestats", "selectdata"):
        names -= {"reference ID"}  # the address says the same
    if report == "smoothing":
        names = names - {"flags"} | {"active", "leap only"}
    assert lines(report).keys() == names


def test_a_field_that_a_model_gains_is_shown_and_goes_into_the_json() -> None:
    @dataclass(frozen=True)
    class Tomorrow(SourceStats):
        drift: float = field(
            default=-2.5e-9, metadata=of("new drift", content=FieldContent.OFFSET_PPM)
        )
        echo: float = field(
            default=0.004, metadata=of("new echo", content=FieldContent.MEASURE_SECONDS)
        )

    record = Tomorrow(**vars(make_source_stats()))
    assert "new echo" in text(Tomorrow, [record], 40)
    assert json.loads(as_json(record))["drift"] == -2.5e-9


@pytest.mark.parametrize(
    ("report", "values", "label", "shown"),
    [
        ("tracking", {"offset": 1e-5}, "current correction", "+10.000 µs (system clock is behind)"),
        ("tracking", {"last_offset": 1e-5}, "last offset", "+10.000 µs (system clock was ahead)"),
        ("tracking", {"frequency": -9.5}, "frequency offset", "-9.500 ppm (system clock is slow)"),
        ("tracking", {"skew": 0.0004}, "skew", "0.000400 ppm"),
        ("tracking", {"reference_ip": ""}, "address", "-"),
        ("ntpdata", {"offset": 1.25e-5}, "offset", "+12.500 µs (system clock is behind)"),
        ("ntpdata", {"poll": -4}, "poll", "-4 (62.5 ms)"),
        ("ntpdata", {"poll": 10}, "poll", "10 (1024 s)"),
        ("ntpdata", {"poll": 32767}, "poll", "32767"),
        ("ntpdata", {"rx_good_messages": None}, "received good messages", "-"),
        ("sources", {"state": SourceState.UNSELECTED}, "state", "+ combined"),
        ("sources", {"state": SourceState(9)}, "state", "unknown 9"),
        ("sources", {"mode": SourceMode.REFCLOCK}, "mode", "# refclock"),
        ("sources", {"reachability": 0o17}, "reachability", "017"),
        ("sources", {"last_sample_ago": None}, "last sample ago", "-"),
        ("sources", {"last_sample_ago": None}, "adjusted last sample offset", "-"),
        ("sources", {"last_sample_ago": None}, "last sample error", "-"),
        ("sourcestats", {"std_dev": 4.0, "samples": 0}, "standard deviation", "-"),
        ("ntpdata", {"rx_valid_messages": 0}, "root delay", "-"),
        ("rtcdata", {"samples": 0}, "offset", "-"),
        ("selectdata", {"state": SelectState("L")}, "state", "unknown L"),
        ("selectdata", {"address": "", "reference_id": 0x50505330}, "address", "PPS0"),
        ("authdata", {"mode": AuthMode.NTS}, "mode", "NTS"),
        ("authdata", {"key_type": KeyType.AEAD_AES_SIV_CMAC_256}, "key length", "256 bits"),
        ("smoothing", {"leap_only": True}, "leap only", "yes"),
        ("smoothing", {"offset": -0.5}, "offset", "-500.000 ms (served time is behind)"),
        ("rtcdata", {"freq_offset": 2.0}, "frequency offset", "+2.000 ppm (RTC is fast)"),
    ],
)
def test_a_value_reads_well(report: str, values: dict[str, Any], label: str, shown: str) -> None:
    assert lines(report, **values)[label] == shown


def test_the_tests_of_a_packet_stand_in_a_row_as_in_chronyc() -> None:
    flags = NTPFlag(0x3FF) & ~NTPFlag.TESTC | NTPFlag.INTERLEAVED
    shown = text(MODELS["ntpdata"], [make_ntp_data(flags=flags)], 80)
    assert "flags                         111 111 1101 (tests 123 567 ABCD), interleaved" in shown


@pytest.fixture
def sources() -> list[Report]:
    return [
        make_source(address="192.0.2.1"),
        make_source(
            address="PPS0",
            mode=SourceMode.REFCLOCK,
            state=SourceState.FALSETICKER,
            latest_meas=-0.0015,
        ),
    ]


@pytest.mark.parametrize(
    ("width", "table"),
    [
        (
            80,
            """\
state          source     stratum  poll  reach    last    system clock    error
* selected     192.0.2.1        2  64 s    377    32 s   123 µs  ahead  10.0 µs
x falseticker  PPS0             2  64 s    377    32 s  1.50 ms behind  10.0 µs
""",
        ),
        (
            60,
            """\
state          source     reach    system clock    error
* selected     192.0.2.1    377   123 µs  ahead  10.0 µs
x falseticker  PPS0         377  1.50 ms behind  10.0 µs
""",
        ),
        (
            40,
            """\
state          source       system clock
* selected     192.0.2.1   123 µs  ahead
x falseticker  PPS0       1.50 ms behind
""",
        ),
    ],
)
def test_a_table_has_the_state_first_and_the_sign_in_words(
    width: int, table: str, sources: list[Report]
) -> None:
    assert text(MODELS["sources"], sources, width) + "\n" == table


def test_a_table_leaves_out_what_was_never_measured() -> None:
    shown = text(MODELS["sources"], [make_source(last_sample_ago=None)], 200)
    assert "ahead" not in shown


@pytest.mark.parametrize("report", ["sources", "sourcestats", "selectdata", "authdata"])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_each_source_has_one_line(report: str, width: int) -> None:
    names = [f"2001:db8:1111:2222:3333:4444:5555:{n}" for n in (6666, 7777)]
    records = [MAKERS[report](address=name) for name in names]
    lines = text(MODELS[report], records, width).splitlines()
    assert max(map(len, lines)) <= width
    assert [lines[n][-60:].count("ahead") for n in (1, 2)] == 2 * [
        {"sources": 2 if width == 200 else 1, "sourcestats": 1, "selectdata": 1}.get(report, 0)
    ]
    assert all(any(name[-6:] in line for line in lines[1:3]) for name in names)


@pytest.mark.parametrize("report", COLUMNS)
def test_a_wide_table_has_all_fields(report: str) -> None:
    fields = {a for a, o in origins(MODELS[report]).items() if o.content.name != "NONE"}
    assert fields - {"reference_id"} == {*COLUMNS[report].values()}
    assert {*LEAST_IMPORTANT[report]} < {*COLUMNS[report]}


def test_options_are_listed_in_words() -> None:
    both = SelectOption.NOSELECT | SelectOption.TRUST
    shown = text(MODELS["selectdata"], [make_select_data(configured_options=both)], 200)
    assert "  noselect, trust  -  " in shown


def test_a_short_interval_has_a_suitable_unit() -> None:
    assert "62.5 ms" in text(MODELS["sources"], [make_source(poll=-4)], 200)


def test_where_no_table_fits_each_source_has_its_lines(sources: list[Report]) -> None:
    first, second = text(MODELS["sources"], sources, 25).split("\n\n")
    assert first.startswith("address                      192.0.2.1\n")
    assert second.startswith("address                      PPS0\n")


@pytest.mark.parametrize("report", [r for r in MODELS if MODELS[r]._per_source])
def test_a_list_says_that_it_is_empty(report: str) -> None:
    assert text(MODELS[report], [], 80) == "none"


@pytest.mark.parametrize("report", MODELS)
def test_the_json_of_a_report_has_the_fields_of_its_model(report: str) -> None:
    record = MAKERS[report]()
    computed = ["is_synchronized", "error_bound"] if report == "tracking" else []
    assert list(json.loads(as_json(record))) == [*(f.name for f in fields(record)), *computed]


def test_in_json_enums_are_names_and_flags_are_lists() -> None:
    answer = json.loads(as_json(make_select_data(configured_options=SelectOption(0x12))))
    assert answer["state"] == "BEST"
    assert answer["configured_options"] == ["PREFER", "UNKNOWN_16"]


def test_all_flags_have_names() -> None:
    assert flag_names(NTPFlag(0)) == []
    assert len(flag_names(NTPFlag(0xFFFF))) == 16
