"""Tests that any datagram is read as it was sent, or refused."""

from __future__ import annotations

import inspect
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import HANG, LONG
from methods import METHODS
from scripted import ScriptedChronyd, script, wire
from scripted.faults import drip, honest, instead, on
from scripted.wire import Command, Layout, Record

from pychrony import (
    ChronyConnection,
    ChronyDataError,
    ChronyError,
    ChronyPermissionError,
    ChronyTimeoutError,
    FieldType,
    ReportField,
)
from pychrony.models import MODELS

many = settings(
    max_examples=5_000 if LONG else 30,
    deadline=None,  # a slow machine is no error
    derandomize=not LONG,  # the same examples each time, but for a long run
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedChronyd]:
    with ScriptedChronyd(script()) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def connection(scripted: ScriptedChronyd) -> Iterator[ChronyConnection]:
    with ChronyConnection(scripted.address, timeout=HANG) as connection:
        yield connection


# What each kind of field can carry.

ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.integers(0, 2**32 - 1).map(lambda number: f"ID#{number:010}"),
)


def integers(kind: wire.Kind, *, signed: bool) -> st.SearchStrategy[int]:
    numbers = 2 ** (8 * kind.size)
    least = -numbers // 2 if signed else 0
    most = least + numbers - 1
    return st.sampled_from([least, most]) | st.integers(least, most)


@cache
def values(kind: wire.Kind) -> st.SearchStrategy[Any]:
    if kind is wire.FLOAT:
        return st.binary(min_size=4, max_size=4).map(wire.float_value)
    if kind is wire.TIMESPEC:
        return st.integers(-(2**63) * 10**9, (2**63 - 1) * 10**9 + 999_999_999).filter(
            lambda ns: ns // 10**9 >> 32 & 0xFFFFFFFF != wire.NO_HIGH_WORD
        )
    if kind is wire.ADDRESS:
        return ADDRESSES
    if kind is wire.REFCLOCK:
        return integers(wire.U32, signed=False)
    return integers(kind, signed=kind in (wire.I8, wire.I16))


TYPES = {wire.FLOAT: FieldType.FLOAT, wire.TIMESPEC: FieldType.TIMESPEC}
TYPES |= {wire.ADDRESS: FieldType.STRING, wire.I8: FieldType.INTEGER, wire.I16: FieldType.INTEGER}

BOOLEANS = ("authentication", "NAK")


@cache
def records(layout: Layout) -> st.SearchStrategy[Record]:
    fields: dict[str, st.SearchStrategy[Any]] = {f.name: values(f.kind) for f in layout.fields}
    for name in BOOLEANS:
        if name in fields:
            fields[name] = st.integers(0, 1)
    if layout in (wire.source, wire.refclock_source):  # the mode says which of the two it is
        others = st.integers(0, 2**16 - 1).filter(lambda mode: mode != 2)
        fields["mode"] = st.just(2) if layout is wire.refclock_source else others
    return st.fixed_dictionaries(fields).map(layout.record)


def ask(connection: ChronyConnection, report: str) -> Any:
    answer = getattr(connection, METHODS[report])()
    return answer[0] if isinstance(answer, list) else answer


def answers_with(record: Record) -> dict[Command, Any]:
    """A script in which the only source, or the only answer, is this record."""
    command = record.layout.command
    answers: dict[Command, Any] = {Command.N_SOURCES: 1, command: lambda request: record}
    if command in wire.BY_ADDRESS:
        answers[Command.SOURCESTATS] = [wire.sourcestats()]
    return answers


def sent_of(fields: Mapping[str, ReportField]) -> dict[str, Any]:
    return {name: field.value for name, field in fields.items()}


every_layout = pytest.mark.parametrize(
    "layout",
    wire.LAYOUTS,
    ids=lambda layout: "refclock" if layout is wire.refclock_source else str(layout),
)


@every_layout
@many
@given(data=st.data())
def test_every_valid_record_comes_as_it_was_sent(
    layout: Layout, scripted: ScriptedChronyd, connection: ChronyConnection, data: st.DataObject
) -> None:
    record = data.draw(records(layout))
    scripted.script = answers_with(record)
    [received] = connection.get_report(layout.report)
    for f in layout.fields:
        got, value = received[f.name].value, record.values[f.name]
        if f.kind is wire.ADDRESS:  # the same address can be written in several ways
            assert wire.address_bytes(str(got)) == wire.address_bytes(str(value))
        else:
            assert got == value, f.name
        assert received[f.name].type is TYPES.get(f.kind, FieldType.UINTEGER)
        assert not isinstance(got, float) or math.isfinite(got)
    assert list(received) == list(record.values)
    model = ask(connection, layout.report)
    kinds = inspect.get_annotations(MODELS[layout.report])
    for attribute, value in vars(model).items():
        assert type(value) in (get_args(kinds[attribute]) or [kinds[attribute]]), attribute


@every_layout
@many
@given(data=st.data())
def test_every_body_is_read_or_refused(
    layout: Layout, scripted: ScriptedChronyd, connection: ChronyConnection, data: st.DataObject
) -> None:
    """A datagram of the right length is read, except for a boolean that is neither 0 nor 1."""
    body = data.draw(st.binary(min_size=layout.length - 28, max_size=layout.length - 28))
    scripted.script = answers_with(Record(layout, {}, body))
    [received] = connection.get_report(layout.report)
    for f, raw in zip(layout.fields, pieces(layout, body), strict=True):
        assert_carries(f, raw, received)
    lies = {name for name in BOOLEANS if name in received and int(received[name].value) > 1}
    refusal: str | None = None
    try:
        ask(connection, layout.report)
    except ChronyDataError as error:
        refusal = str(error)
    assert (refusal is None) == (not lies)
    assert refusal is None or any(repr(name) in refusal for name in lies)


def pieces(layout: Layout, body: bytes) -> Iterator[bytes]:
    for f in layout.fields:
        yield body[: f.kind.size]
        body = body[f.kind.size :]


def assert_carries(f: wire.Field, raw: bytes, received: Mapping[str, ReportField]) -> None:
    if f.name not in received:  # `mode` turned an address into a reference clock, or back
        assert f.kind in (wire.ADDRESS, wire.REFCLOCK)
        return
    got = received[f.name].value
    if f.kind is wire.FLOAT:
        assert got == wire.float_value(raw)
    elif f.kind is wire.TIMESPEC:
        high, low, nanoseconds = struct.unpack(">iII", raw)
        seconds = low if high == wire.NO_HIGH_WORD else (high << 32) + low
        assert got == seconds * 10**9 + min(nanoseconds, 999_999_999)
    elif f.kind is wire.ADDRESS:
        family = int.from_bytes(raw[16:18], "big")
        assert isinstance(got, str)
        assert (got == "") == (family == 0)
        assert (got == "?") == (family > 3)
        if 0 < family <= 3:
            assert wire.address_bytes(got)[:4] == raw[:4]
    elif f.kind is wire.REFCLOCK:
        assert got == int.from_bytes(raw[:4], "big")
    else:
        assert got == int.from_bytes(raw, "big", signed=f.kind in (wire.I8, wire.I16))


REFUSALS = (ChronyDataError, ChronyPermissionError, ChronyTimeoutError)


@pytest.mark.parametrize("report", METHODS)
@many
@given(data=st.data())
def test_every_answer_is_read_or_refused(
    report: str, scripted: ScriptedChronyd, connection: ChronyConnection, data: st.DataObject
) -> None:
    """Header and all: the sequence and the command are right, or libchrony would not look."""
    command = Command[report.upper()]
    tail = data.draw(st.binary(max_size=400))
    head = data.draw(st.tuples(st.integers(0, 30), st.sampled_from([0, 0, 0, *range(22), 65535])))
    scripted.script = script()
    scripted.fault = on(
        command,
        lambda request, reply, number: [
            (0, wire.response(command, request.sequence, reply=head[0], status=head[1], body=tail))
        ],
    )
    try:
        with suppress(ChronyDataError, ChronyPermissionError):
            getattr(connection, METHODS[report])()
    finally:
        scripted.fault = honest
    assert connection.get_tracking().stratum == 3


@many
@given(junk=st.lists(st.binary(max_size=1500), max_size=20))
def test_junk_before_the_answer_changes_nothing(
    scripted: ScriptedChronyd, connection: ChronyConnection, junk: list[bytes]
) -> None:
    scripted.script = script()
    scripted.fault = drip(0, junk=instead(*junk), count=1)
    try:
        assert connection.get_tracking().stratum == 3
        assert [s.samples for s in connection.get_source_stats()] == [12, 12]
    finally:
        scripted.fault = honest


@many
@given(junk=st.lists(st.binary(max_size=1500), min_size=1, max_size=5))
def test_junk_alone_is_no_answer(scripted: ScriptedChronyd, junk: list[bytes]) -> None:
    scripted.script = script()
    scripted.fault = instead(*junk)
    try:
        with (
            ChronyConnection(scripted.address, timeout=0.005) as connection,
            pytest.raises(ChronyError) as caught,
        ):
            connection.get_tracking()
    finally:
        scripted.fault = honest
    assert type(caught.value) in REFUSALS


@many
@given(numbers=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4))
def test_any_number_of_sources_is_true_or_refused(
    scripted: ScriptedChronyd, connection: ChronyConnection, numbers: list[int]
) -> None:
    left = list(numbers)
    scripted.script = {**script(), Command.N_SOURCES: lambda request: left.pop(0) if left else 2}
    refusal = "cannot be true"
    try:
        assert len(connection.get_sources()) <= 2
    except ChronyDataError as error:
        refusal = str(error)
    assert "cannot be true" in refusal
    scripted.script = script()
