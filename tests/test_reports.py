"""Tests that every field of every model has the value that chronyd sent."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from enum import Enum, IntFlag
from fractions import Fraction
from typing import Any

import pytest
from connected import connected
from limits import HANG
from methods import LISTS, METHODS
from programs import output
from scripted import ScriptedChronyd, Transport, script, wire
from scripted.wire import (
    LAYOUTS,
    NEVER,
    NO_HIGH_WORD,
    NTPDATA,
    SERVERSTATS,
    Command,
    Layout,
    Record,
    Status,
    authdata,
    ntp_source,
    ntpdata,
    rtcdata,
    selectdata,
    smoothing,
    source,
    sourcestats,
    timespec,
    tracking,
    unresolved_source,
)

import pychrony
from pychrony import (
    AuthData,
    AuthMode,
    ChronyDataError,
    FieldContent,
    FieldType,
    KeyType,
    LeapStatus,
    NTPFlag,
    NTPMode,
    ReportField,
    SelectOption,
    SelectState,
    SourceMode,
    SourceState,
    Timestamping,
    TrackingStatus,
    testing,
)
from pychrony._model.decoder import Shape, reader
from pychrony._model.fields import origins
from pychrony.models import MODELS

every_model = pytest.mark.parametrize(
    "made", [getattr(testing, name)() for name in vars(testing) if name.startswith("make_")]
)

each_layout = pytest.mark.parametrize(
    "layout", LAYOUTS, ids=[f"{layout} {layout.fields[0].keyword}" for layout in LAYOUTS]
)


def answers(*records: Record) -> dict[Command, Any]:
    """A chronyd with one NTP source, whose reports are these, and the defaults for the rest."""
    by_index = {r.layout.command: [r] for r in records if r.layout.command in wire.BY_INDEX}
    others = [r for r in records if r.layout.command not in by_index]
    return script([ntp_source("192.0.2.1", *others)], *others) | by_index


def ask(report: str, *records: Record, transport: Transport = "unix") -> Any:
    """Return the package's report for a chronyd that sends these records."""
    with ScriptedChronyd(answers(*records), transport) as chronyd:
        read = getattr(pychrony, METHODS[report])(chronyd.address, timeout=HANG)
    return read[0] if isinstance(read, list) else read


def ask_fields(report: str, *records: Record) -> dict[str, ReportField]:
    with ScriptedChronyd(answers(*records), "unix") as chronyd:
        return pychrony.get_report(report, chronyd.address, timeout=HANG)[0]


TEXT = wire.reference_id("PPS0")  # an ID that looks like text
LOCAL = tracking(reference_id=0x7F7F0101, address=None, stratum=10)
UNRESOLVED = unresolved_source()
CLOCKS = ((b"PPS0", "PPS0"), (b"GPS\0", "GPS"), (b"P\1\xffS", "PS"), (b"\1\2\3\4", ""))

READ: list[tuple[Record, str, Any]] = [
    # chronyc does not print these; test_oracle.py compares all others with its output.
    (source(flags=9), "flags", 9),
    (sourcestats(offset_error=2.5), "offset_err", 2.5),
    (sourcestats(), "reference_id", 0xC0000201),
    (selectdata(), "reference_id", 0xC0000201),
    (tracking(), "reference_id_name", "192.0.2.1"),
    # All ones stand for "never".
    (source(last_sample_ago=NEVER), "last_sample_ago", None),
    (source(last_sample_ago=NEVER - 1), "last_sample_ago", NEVER - 1),
    (source(last_sample_ago=0), "last_sample_ago", 0),
    (selectdata(last_sample_ago=0), "last_sample_ago", 0),
    (authdata(last_key_establishment_ago=NEVER), "last_ke_ago", None),
    (authdata(last_key_establishment_ago=0), "last_ke_ago", 0),
    (NTPDATA[16](received_good_messages=NEVER), "rx_good_messages", None),
    # A source without a key has no numbers of a key.
    (authdata(), "mode", AuthMode.NONE),
    *((authdata(), name, None) for name in ("key_type", "key_id", "key_length")),
    # A reference clock is named by what is printable of its ID.
    *((tracking(reference_id=raw, address=None), "reference_id_name", n) for raw, n in CLOCKS),
    (tracking(reference_id=TEXT, address=None), "reference_ip", ""),
    (wire.refclock_source(reference_id=TEXT), "address", "PPS0"),
    # The ID of a server is no text, whatever it looks like.
    (tracking(reference_id=TEXT, address="2001:db8::1"), "reference_id_name", "80.80.83.48"),
    (tracking(reference_id=TEXT, address="2001:db8::1"), "reference_ip", "2001:db8::1"),
    (ntpdata(reference_id=TEXT, stratum=2), "reference_id_name", "80.80.83.48"),
    # A server's own reference may be a clock, or a kiss code.
    (ntpdata(reference_id=b"GPS\0", stratum=1), "reference_id_name", "GPS"),
    (ntpdata(reference_id=b"RATE", stratum=0), "reference_id_name", "RATE"),
    (ntpdata(reference_id=0, stratum=1), "reference_id_name", ""),
    (ntpdata(reference_id=0, stratum=3), "reference_id_name", ""),
    # chronyd may be its own reference.
    (LOCAL, "reference_id_name", "127.127.1.1"),
    (LOCAL, "is_local_reference", True),
    (LOCAL, "is_synchronized", True),
    (tracking(), "is_local_reference", False),
    # Synchronised means following a source.
    (tracking(), "is_synchronized", True),
    (tracking(stratum=15), "is_synchronized", True),
    (tracking(stratum=16), "is_synchronized", False),
    (tracking(leap_status=3), "is_synchronized", True),  # while a leap second is applied
    (tracking(reference_id=0, address=None, stratum=0), "is_synchronized", False),
    # Nothing was received from a source whose name is not resolved yet.
    (UNRESOLVED[Command.SOURCES], "last_sample_ago", None),
    (UNRESOLVED[Command.SOURCESTATS], "reference_id", 0),
    (UNRESOLVED[Command.NTPDATA], "local_address", ""),
    (UNRESOLVED[Command.NTPDATA], "mode", NTPMode.UNDEFINED),
    (UNRESOLVED[Command.NTPDATA], "tx_timestamping", Timestamping.NONE),
    (UNRESOLVED[Command.NTPDATA], "rx_timestamping", Timestamping.NONE),
    # What a report says of a source, or of a clock.
    *((source(state=state), "is_selected", state == 0) for state in range(7)),
    (source(reachability=0o200), "is_reachable", True),
    (source(reachability=0), "is_reachable", False),
    (sourcestats(samples=4), "has_sufficient_samples", True),
    (sourcestats(samples=3), "has_sufficient_samples", False),
    (rtcdata(samples=1), "is_calibrated", True),
    (rtcdata(samples=0), "is_calibrated", False),
]


@pytest.mark.parametrize(("sent", "attribute", "value"), READ)
def test_what_chronyd_sent_is_read_with_its_meaning(
    sent: Record, attribute: str, value: object
) -> None:
    read = getattr(ask(sent.layout.report, sent), attribute)
    assert (read() if callable(read) else read) == value


@pytest.mark.parametrize(
    ("layout", "version"),
    [
        (NTPDATA[16], "4.3"),
        (NTPDATA[26], "4.6"),
        (SERVERSTATS[14], "3.5"),
        (SERVERSTATS[22], "4.0"),
        (SERVERSTATS[24], "4.2"),
        (SERVERSTATS[25], "4.4"),
    ],
    ids=str,
)
def test_what_an_older_chronyd_does_not_send_is_none(layout: Layout, version: str) -> None:
    read = ask(layout.report, layout())
    newer = {name for name, origin in origins(type(read)).items() if origin.since > version}
    assert {name for name, value in vars(read).items() if value is None} == newer


@each_layout
def test_every_table_agrees_with_libchrony(layout: Layout) -> None:
    """Names, units and completeness are compared with the loaded libchrony itself."""
    model: type[Any] = MODELS[layout.report]
    described = ask_fields(layout.report, layout())
    used: set[str] = set()
    for attribute, origin in origins(model).items():
        known = [name for name in origin.names if name in described]
        used.update(known, origin.given)
        if not known:
            defaults = {f.name: f.default for f in dataclasses.fields(model)}
            joined = model is AuthData and attribute == "address"
            assert joined or defaults[attribute] is None, attribute
        elif known[0] == origin.names[0]:
            assert described[known[0]].content is origin.content, attribute
    meaningful = {n for n, f in described.items() if f.content is not FieldContent.NONE}
    assert meaningful - used == set()


@pytest.mark.parametrize("kind", [tracking, ntpdata, rtcdata], ids=str)
@pytest.mark.parametrize(
    ("sent", "nanoseconds"),
    [
        (timespec(NO_HIGH_WORD, 1_700_000_000, 5), 1_700_000_000_000_000_005),
        (timespec(0xFFFFFFFF, 0xFFFFFFFF, 0), -1_000_000_000),
        (timespec(0x80000000, 0, 0), -(2**63) * 10**9),
        (timespec(0, 1_700_000_000, 250_000_001), 1_700_000_000_250_000_001),
        (timespec(0, 1, 0xFFFFFFFF), 1_999_999_999),
    ],
    ids=["32-bit chronyd", "before 1970", "least", "now", "hostile"],
)
def test_a_time_is_exact_whatever_its_words(kind: Layout, sent: bytes, nanoseconds: int) -> None:
    read = ask(kind.report, kind(reference_time=sent))
    assert read.ref_time_ns == nanoseconds
    assert read.ref_time == float(Fraction(nanoseconds, 10**9))
    described = ask_fields(kind.report, kind(reference_time=sent))
    assert described["reference time"].value == nanoseconds


def test_reference_clocks_have_no_authentication_and_no_packets() -> None:
    sources = [wire.refclock("PPS0"), ntp_source("192.0.2.1"), wire.refclock("GPS")]
    sources += [ntp_source("2001:db8::2")]
    with connected(script(sources)) as (_, connection):
        auth = connection.get_auth_data()
        ntp = connection.get_ntp_data()
        stats = connection.get_source_stats()
        described = [connection.get_report(name) for name in ("authdata", "ntpdata")]
    assert [record.address for record in auth] == ["192.0.2.1", "2001:db8::2"]
    assert [record.remote_address for record in ntp] == ["192.0.2.1", "2001:db8::2"]
    assert [record.address for record in stats] == ["", "192.0.2.1", "", "2001:db8::2"]
    assert [[bool(record) for record in report] for report in described] == [
        [False, True, False, True]
    ] * 2


UNKNOWN: list[tuple[Record, str, type[Enum], Any]] = [
    (tracking(leap_status=9), "leap_status", LeapStatus, 9),
    (source(state=65535), "state", SourceState, 65535),
    (source(mode=3), "mode", SourceMode, 3),
    (selectdata(state=ord("r")), "state", SelectState, "r"),
    (selectdata(leap_status=4), "leap_status", LeapStatus, 4),
    (authdata(mode=3), "mode", AuthMode, 3),
    (authdata(key_type=12), "key_type", KeyType, 12),
    (ntpdata(mode=7), "mode", NTPMode, 7),
    (ntpdata(leap_status=255), "leap_status", LeapStatus, 255),
    (ntpdata(transmit_timestamping=ord("X")), "tx_timestamping", Timestamping, "X"),
    (ntpdata(receive_timestamping=ord("Y")), "rx_timestamping", Timestamping, "Y"),
]


@pytest.mark.parametrize(("sent", "attribute", "enum", "value"), UNKNOWN)
def test_an_enum_value_newer_than_the_package_becomes_a_member(
    sent: Record, attribute: str, enum: type[Enum], value: Any
) -> None:
    member = getattr(ask(sent.layout.report, sent), attribute)
    assert isinstance(member, enum)
    assert (member.name, member.value) == (f"UNKNOWN_{value}", value)
    assert getattr(ask(sent.layout.report, sent), attribute) is member
    assert enum(value) is member
    assert pickle.loads(pickle.dumps(member)) is member
    assert copy.deepcopy(member) is member
    assert member not in list(enum)


def names_of(kind: Layout, keyword: str, values: list[int]) -> dict[int, tuple[str, ...]]:
    """Return libchrony's names for these values of a field."""
    addresses = [f"192.0.2.{number}" for number, _ in enumerate(values)]
    sources = [
        ntp_source(address, kind(**{keyword: value}))
        for address, value in zip(addresses, values, strict=True)
    ]
    with ScriptedChronyd(script(sources), "unix") as chronyd:
        records = pychrony.get_report(kind.report, chronyd.address, timeout=HANG)
    field = kind.keywords[keyword]
    return {value: record[field].names for value, record in zip(values, records, strict=True)}


OTHER_WORDS: dict[tuple[type[Enum], str], str] = {
    (LeapStatus, "insert second"): "INSERT",
    (LeapStatus, "delete second"): "DELETE",
    (LeapStatus, "not synchronized"): "UNSYNC",
    (SourceMode, "reference clock"): "REFCLOCK",
}
NAMELESS = {NTPMode.UNDEFINED, Timestamping.NONE}  # zeros that libchrony has no name for


@pytest.mark.parametrize(
    ("kind", "keyword", "enum"),
    [
        (selectdata, "leap_status", LeapStatus),
        (source, "state", SourceState),
        (source, "mode", SourceMode),
        (selectdata, "state", SelectState),
        (authdata, "mode", AuthMode),
        (authdata, "key_type", KeyType),
        (ntpdata, "mode", NTPMode),
        (ntpdata, "transmit_timestamping", Timestamping),
        (ntpdata, "receive_timestamping", Timestamping),
    ],
    ids=lambda part: part if isinstance(part, str) else getattr(part, "report", ""),
)
def test_every_constant_of_libchrony_has_a_member_of_its_name(
    kind: Layout, keyword: str, enum: type[Enum]
) -> None:
    words = {
        value: names[0]
        for value, names in names_of(kind, keyword, list(range(128))).items()
        if names
    }
    expected = {
        value: OTHER_WORDS.get((enum, word), word.upper().translate({32: "_", 45: "_"}))
        for value, word in words.items()
    }
    named = [member for member in enum if member not in NAMELESS]
    assert {
        m.value if isinstance(m.value, int) else ord(m.value): m.name for m in named
    } == expected


@pytest.mark.parametrize(
    ("kind", "keyword", "flags"),
    [(selectdata, "configured_options", SelectOption), (ntpdata, "flags", NTPFlag)],
)
def test_every_flag_of_libchrony_has_a_member_of_its_name(
    kind: Layout, keyword: str, flags: type[SelectOption | NTPFlag]
) -> None:
    names = names_of(kind, keyword, [1 << bit for bit in range(16)])
    expected = {names[0].upper(): flag for flag, names in names.items() if names}
    if flags is NTPFlag:  # libchrony has these two exchanged
        expected["TESTB"], expected["TESTC"] = expected["TESTC"], expected["TESTB"]
    assert {name: int(flag) for name, flag in flags.__members__.items()} == expected


def test_an_unknown_member_can_be_read_by_another_process() -> None:
    dump = pickle.dumps((SourceState(77), SelectState("r"), SelectOption(16)))
    code = f"import pickle; print(*pickle.loads({dump!r}))"
    assert output(code).split()[:2] == ["SourceState.UNKNOWN_77", "SelectState.UNKNOWN_r"]


@pytest.mark.parametrize(("enum", "value"), [(SourceState, "best"), (SourceState, -1)])
@pytest.mark.parametrize("again", [1, 2])
def test_what_chronyd_cannot_send_is_no_member(enum: type[Enum], value: Any, again: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        enum(value)


def test_unknown_flags_are_kept() -> None:
    read = ask("selectdata", selectdata(configured_options=0x12, effective_options=0xFFFF))
    options = read.configured_options
    assert isinstance(options, SelectOption)
    assert options == 0x12
    assert SelectOption.PREFER in options
    assert SelectOption.TRUST not in options
    assert read.effective_options == 0xFFFF
    flags = ask("ntpdata", ntpdata(flags=0x0C01)).flags
    assert isinstance(flags, NTPFlag)
    assert (flags, NTPFlag.TESTD in flags, NTPFlag.TEST1 in flags) == (0x0C01, True, False)
    read = ask("smoothing", smoothing(flags=0x8000_0005))
    assert (read.active, read.leap_only) == (True, False)


def shape(report: str, *records: Record) -> dict[str, ReportField]:
    described = ask_fields(report, *records)
    if report != "authdata":
        return described
    joined = ReportField("", FieldType.STRING, FieldContent.ADDRESS, ())
    return {"address": joined, **described}


@pytest.mark.parametrize("report", METHODS)
def test_a_field_that_is_missing_is_named(report: str) -> None:
    """A future libchrony may omit the field, or give it another type."""
    model: type[Any] = MODELS[report]
    described = shape(report)
    needed = {n for o in origins(model).values() for n in (*o.names, *o.given)} & described.keys()
    defaults = {
        o.names[0]
        for f, o in zip(dataclasses.fields(model), origins(model).values(), strict=True)
        if f.default is None
    }
    for missing in needed - defaults:
        for left in (
            {n: f for n, f in described.items() if n != missing},
            described | {missing: ReportField(0, FieldType.NONE, FieldContent.NONE, ())},
        ):
            record = Shape(
                tuple(left),
                tuple(field.type for field in left.values()),
                tuple(field.content for field in left.values()),
            )
            with pytest.raises(ChronyDataError, match=f"{report}: .*'{missing}'"):
                reader(model, record)


def test_a_leap_second_is_pending_if_one_is_inserted_or_deleted() -> None:
    pending = {s for s in LeapStatus if testing.make_tracking(leap_status=s).is_leap_pending()}
    assert pending == {LeapStatus.INSERT, LeapStatus.DELETE}


def test_the_number_of_samples_that_is_sufficient_can_be_chosen() -> None:
    assert not testing.make_source_stats(samples=4).has_sufficient_samples(5)
    assert testing.make_source_stats(samples=3).has_sufficient_samples(minimum=3)


def test_a_report_that_chronyd_does_not_keep_has_no_records() -> None:
    off = script() | {Command.RTCDATA: Status.NORTC, Command.SMOOTHING: Status.NOTENABLED}
    with connected(off) as (_, connection):
        assert [connection.get_report(name) for name in ("rtcdata", "smoothing")] == [[], []]


@pytest.mark.parametrize(
    ("sent", "field", "names"),
    [
        (tracking(leap_status=1), "leap status", ("insert second",)),
        (source(state=5), "state", ("selectable",)),
        (source(state=9), "state", ()),
        (source(), "poll", ()),
        (selectdata(state=ord("M")), "state", ("missing samples",)),
        (selectdata(configured_options=6), "configured options", ("prefer", "trust")),
        (selectdata(effective_options=0x8011), "effective options", ("noselect",)),
        (authdata(mode=2), "mode", ("NTS",)),
        (authdata(key_type=15), "key type", ("AEAD-AES-SIV-CMAC-256",)),
        (ntpdata(flags=0xC200), "flags", ("test1", "interleaved", "authenticated")),
        (smoothing(flags=3), "flags", ("active", "leaponly")),
    ],
    ids=lambda part: part.layout.report if isinstance(part, Record) else str(part),
)
def test_get_report_names_the_constants_and_flags_that_apply(
    sent: Record, field: str, names: tuple[str, ...]
) -> None:
    assert ask_fields(sent.layout.report, sent)[field].names == names


def test_get_report_gives_plain_values() -> None:
    counter, content = FieldType.UINTEGER, FieldContent
    described = ask_fields("selectdata", selectdata(address=None, authentication=1))
    assert described["authentication"] == ReportField(True, counter, content.BOOLEAN, ())
    assert described["authentication"].value is True
    assert described["address"] == ReportField("", FieldType.STRING, content.NONE, ())
    assert described["reserved #1"] == ReportField(0, counter, content.NONE, ())
    time = ask_fields("tracking", tracking())["reference time"]
    assert time == ReportField(1_700_000_000_123_456_789, FieldType.TIMESPEC, content.TIME, ())
    assert type(time.value) is int


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("nothing", ValueError, "unknown report 'nothing'; choose from tracking, sources, "),
        ("", ValueError, "unknown report ''"),
        ("Tracking", ValueError, "'Tracking'"),
        ("tracking\0", ValueError, "tracking"),
        (b"tracking", TypeError, "name must be a str, not bytes"),
        (None, TypeError, "name must be a str, not NoneType"),
        (3, TypeError, "name must be a str, not int"),
    ],
)
def test_a_report_that_libchrony_does_not_know_is_the_callers_mistake(
    name: Any, error: type[Exception], words: str
) -> None:
    with ScriptedChronyd() as chronyd, pytest.raises(error, match=words):
        pychrony.get_report(name, chronyd.address)
    assert not chronyd.requests


def test_the_loaded_libchrony_lists_all_reports() -> None:
    assert set(pychrony.supported_reports()) >= METHODS.keys()
    assert isinstance(pychrony.supported_reports(), tuple)


@pytest.mark.parametrize("method", METHODS.values())
def test_the_timeout_of_a_function_has_to_be_named(method: str) -> None:
    with pytest.raises(TypeError):
        getattr(pychrony, method)("127.0.0.1", 1.0)


@pytest.mark.parametrize("model", MODELS.values())
def test_annotations_are_types(model: type[Any]) -> None:
    assert [f.name for f in dataclasses.fields(model) if isinstance(f.type, str)] == []


@pytest.mark.parametrize("made", [testing.make_tracking(), testing.make_rtc_data()])
def test_the_exact_time_makes_no_two_reports_differ(made: Any) -> None:
    other = dataclasses.replace(made, ref_time=made.ref_time + 1)
    vars(other)["ref_time"] = made.ref_time
    assert other.ref_time_ns != made.ref_time_ns
    assert (other, hash(other), repr(other)) == (made, hash(made), repr(made))


@pytest.mark.parametrize("report", ["tracking", "rtcdata", "ntpdata"])
@pytest.mark.parametrize("time", [0.0, 0.3, 7, 1705320000.25])
def test_a_replaced_time_takes_its_nanoseconds_along(report: str, time: float) -> None:
    replaced = dataclasses.replace(ask(report), ref_time=time)
    assert replaced.ref_time_ns == round(Fraction(time) * 10**9)


def test_a_time_that_is_no_time_has_no_nanoseconds() -> None:
    assert testing.make_tracking(ref_time=float("nan")).ref_time_ns == 0


def test_the_error_bound_is_chronycs() -> None:
    status = testing.make_tracking(offset=-0.25, root_dispersion=0.5, root_delay=0.125)
    assert status.error_bound == 0.25 + 0.5 + 0.0625


@pytest.mark.parametrize(
    ("known", "name"),
    [
        (ntp_source("192.0.2.9"), "192.0.2.9"),
        (wire.refclock("PPS0"), "PPS0"),
        (unresolved_source(7), "ID#0000000007"),
    ],
)
def test_a_source_has_the_same_name_in_every_report(known: wire.Source, name: str) -> None:
    with connected(script([known])) as (_, connection):
        lists = [getattr(connection, METHODS[report])() for report in LISTS]
    assert {record.name for found in lists for record in found} == {name}


@every_model
def test_a_report_becomes_plain_values(made: Any) -> None:
    plain = made.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    names = [f.name for f in dataclasses.fields(made)]
    assert list(plain)[: len(names)] == names
    if isinstance(made, TrackingStatus):
        assert plain["is_synchronized"] is made.is_synchronized()
        assert plain["error_bound"] == made.error_bound
    else:
        assert len(plain) == len(names)
    for name, value in vars(made).items():
        if isinstance(value, IntFlag):
            assert plain[name] == [flag.name for flag in type(value) if flag in value]
        else:
            assert plain[name] == (value.name if isinstance(value, Enum) else value)


@every_model
def test_a_model_is_a_value(made: Any) -> None:
    read = ask(made._report)
    assert pickle.loads(pickle.dumps(read)) == copy.deepcopy(read) == read
    same = type(made)(**vars(read))
    assert (same, hash(same), repr(same)) == (read, hash(read), repr(read))
    assert dataclasses.replace(read) == read
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(read, dataclasses.fields(read)[0].name, None)
