"""Tests that any datagram is read as it was sent, or refused."""

from __future__ import annotations

import inspect
import struct
from collections.abc import Iterator
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
    FieldContent,
    FieldType,
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
TYPES = {wire.FLOAT: FieldType.FLOAT, wire.TIMESPEC: FieldType.TIMESPEC}
TYPES |= {wire.ADDRESS: FieldType.STRING, wire.I8: FieldType.INTEGER, wire.I16: FieldType.INTEGER}
REFCLOCK = b"\0\2"  # the mode that says which of the two kinds of a source it is


def extremes(size: int) -> list[bytes]:
    rest = size - 1
    first = [byte + rest * byte for byte in (b"\0", b"\xff")]
    first += [b"\x7f" + rest * b"\xff", b"\x80" + rest * b"\0"]
    return first + [rest * b"\0" + last for last in (b"\1", b"\2")]


@cache
def values(kind: wire.Kind) -> st.SearchStrategy[bytes]:
    anything = st.binary(min_size=kind.size, max_size=kind.size)
    return ADDRESSES.map(wire.address_bytes) | anything if kind is wire.ADDRESS else anything


@cache
def bodies(layout: Layout) -> st.SearchStrategy[dict[str, bytes]]:
    fields = {f.name: values(f.kind) for f in layout.fields}
    if layout is wire.refclock_source:
        fields["mode"] = st.just(REFCLOCK)
    elif layout is wire.source:
        fields["mode"] = fields["mode"].filter(lambda mode: mode != REFCLOCK)
    return st.fixed_dictionaries(fields)


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


every_layout = pytest.mark.parametrize(
    "layout",
    wire.LAYOUTS,
    ids=lambda layout: "refclock" if layout is wire.refclock_source else str(layout),
)


@every_layout
@many
@given(data=st.data())
def test_every_record_comes_as_it_was_sent_or_is_refused(
    layout: Layout, scripted: ScriptedChronyd, connection: ChronyConnection, data: st.DataObject
) -> None:
    assert_comes(layout, data.draw(bodies(layout)), scripted, connection)


@every_layout
def test_every_extreme_comes_as_it_was_sent_or_is_refused(
    layout: Layout, scripted: ScriptedChronyd, connection: ChronyConnection
) -> None:
    for extreme in zip(*(extremes(f.kind.size) for f in layout.fields), strict=True):
        body = dict(zip((f.name for f in layout.fields), extreme, strict=True))
        if layout in (wire.source, wire.refclock_source):
            body["mode"] = b"\0\0" if layout is wire.source else REFCLOCK
        assert_comes(layout, body, scripted, connection)


def assert_comes(
    layout: Layout, body: dict[str, bytes], scripted: ScriptedChronyd, connection: ChronyConnection
) -> None:
    """Only a boolean that is neither 0 nor 1 is refused, and only by the model."""
    scripted.script = answers_with(layout.record(body))
    [received] = connection.get_report(layout.report)
    assert [*received] == [f.name for f in layout.fields]
    for f in layout.fields:
        assert received[f.name].type is TYPES.get(f.kind, FieldType.UINTEGER)
        assert_carries(f, body[f.name], received[f.name].value)
    lies = [
        f"reading {layout.report}: {name!r} cannot be {int(field.value)} (neither 0 nor 1)"
        for name, field in received.items()
        if field.content is FieldContent.BOOLEAN and int(field.value) > 1
    ]
    if lies:
        with pytest.raises(ChronyDataError) as refused:
            ask(connection, layout.report)
        assert str(refused.value) in lies
        return
    model = ask(connection, layout.report)
    kinds = inspect.get_annotations(MODELS[layout.report])
    for attribute, value in vars(model).items():
        assert type(value) in (get_args(kinds[attribute]) or [kinds[attribute]]), attribute


def assert_carries(f: wire.Field, raw: bytes, got: object) -> None:
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
            size = 16 if family == 2 else 4
            assert wire.address_bytes(got)[:size] == raw[:size]
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
