"""Tests that a list is one that chronyd had during the call, whatever happens to its sources."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any

import pytest
from chronyc import chronyc
from connected import connected
from limits import HANG, LONG, meanwhile
from scripted import Fault, Request, ScriptedChronyd, Transport, changing, script
from scripted.wire import Command, ntp_source
from surroundings import both

import pychrony
from pychrony import ChronyConnection, ChronyError, ChronyTimeoutError
from pychrony.testing import PrivateChronyd

METHODS = ("get_sources", "get_source_stats", "get_auth_data")


@cache
def known(names: str) -> dict[Command, Any]:
    """A chronyd whose sources have one-letter names."""
    return script([ntp_source(f"192.0.2.{ord(name) - 64}") for name in names])


def names_of(records: list[Any]) -> str:
    places = [getattr(r, "address", "") or getattr(r, "remote_address", "") for r in records]
    return "".join(chr(64 + int(place.rpartition(".")[2])) for place in places)


def becoming(*lists: str, when: int) -> dict[Command, Any]:
    """Serve one list of sources after the other, starting with the request of this number."""
    scripts = [known(names) for names in lists]
    return changing(scripts, lambda number: max(0, min(number - when, len(scripts) - 1)))


CHANGES = [
    ("ABCDE", "BCDEF"),
    ("ABCDE", "ACDEF"),
    ("ABCDE", "ABCEF"),
    ("ABCDE", "ABCDF"),
    ("ABCDE", "ABCDEF"),
    ("ABCDE", "ABCD"),
    ("ABCDE", "BCDE", "BCDEA"),
    ("ABCDE", "FGHIJ"),
    ("ABC", "BCDE"),
    ("A", "BC"),
    ("A", "B"),
    ("AB", "B", "BC"),
]


@both
@pytest.mark.parametrize("change", CHANGES, ids=" ".join)
@pytest.mark.parametrize("kept", [False, True], ids=["first call", "later call"])
def test_a_list_is_never_a_mixture(
    transport: Transport, change: tuple[str, ...], kept: bool
) -> None:
    for method in METHODS:
        for when in range(1, 12, 1 if LONG else 2):
            with connected(known(change[0]), transport) as (chronyd, connection):
                for _ in range(5 * kept):
                    getattr(connection, method)()
                chronyd.script = becoming(*change, when=when)
                assert names_of(getattr(connection, method)()) in change, (method, when)


def test_a_source_that_goes_while_an_answer_is_lost_shifts_no_record() -> None:
    for lost in range(8):
        with ScriptedChronyd(known("ABCDE")) as chronyd:
            chronyd.fault = losing(chronyd, lost, known("BCDEF"))
            read = pychrony.get_sources(chronyd.address, timeout=HANG)
        assert names_of(read) in ("ABCDE", "BCDEF"), lost


def losing(chronyd: ScriptedChronyd, number: int, then: dict[Command, Any]) -> Fault:
    """Lose the answer with this number; from then on, the sources are different."""

    def lose(_: Request, reply: bytes, count: int) -> list[tuple[float, bytes]]:
        if count != number:
            return [(0, reply)]
        chronyd.script = then
        return []

    return lose


@both
def test_a_list_costs_at_most_one_more_request_than_its_number_and_records(
    transport: Transport,
) -> None:
    """The first is counted twice. A busy machine may have requests repeated: the best counts."""
    counts: list[list[int]] = [[], [], []]
    for _ in range(5):
        with connected(known("ABCDEFGHIJ"), transport) as (chronyd, connection):
            for count in counts:
                chronyd.requests.clear()
                connection.get_sources()
                count.append(len([r for r in chronyd.requests if r.raw]))
    assert [min(count) for count in counts] == [2 + 10 + 1, 1 + 10 + 1, 1 + 10 + 1]


@both
@pytest.mark.parametrize(("timeout", "words"), [(0.5, "changing for 0.5 s;"), (None, "changing;")])
def test_sources_that_never_stop_changing_are_told_of(
    transport: Transport, timeout: float | None, words: str
) -> None:
    """Each request finds others."""
    scripts = [
        script([ntp_source(f"192.0.{turn}.{number}") for number in range(5)]) for turn in range(101)
    ]
    with (
        ScriptedChronyd(changing(scripts, lambda number: number % 101), transport) as chronyd,
        pytest.raises(ChronyTimeoutError, match=f"sources kept {words}"),
    ):
        pychrony.get_sources(chronyd.address, timeout=timeout)


def test_a_real_chronyd_whose_sources_come_and_go_is_read_right() -> None:
    chance = Random(1)
    places = [f"127.0.1.{number}" for number in range(1, 60)]
    last = places[-1]

    def replace_one() -> None:
        nonlocal last  # which must not go and come back during a call
        place = last = chance.choice([place for place in places if place != last])
        for command in (f"delete {place}", f"add server {place} offline"):
            with suppress(ChronyError):  # chronyc gives up on a busy machine
                chronyc(chronyd.address, *command.split())

    servers = "\n".join(f"server {place} offline" for place in places)
    with (
        PrivateChronyd(servers) as chronyd,
        ChronyConnection(chronyd.address, timeout=HANG) as connection,
        meanwhile(replace_one),
    ):
        for _ in range(3000 if LONG else 300):
            found = [source.address for source in connection.get_sources()]
            assert len(set(found)) == len(found)
            assert {*found} <= {*places}


@both
@pytest.mark.parametrize("turns", range(1, 9))
def test_lists_that_change_faster_than_they_are_read_take_the_timeout(
    transport: Transport, turns: int
) -> None:
    """The number is never true for longer than a few requests, whatever these ask for."""
    lists = [known("ABCDEFGHI"), known("A")]
    changes = changing(lists, lambda number: number // turns % 2)
    timeout = 0.3
    with ScriptedChronyd(changes, transport) as chronyd:
        for method in METHODS:
            start = time.monotonic()
            read = ""
            with (
                ChronyConnection(chronyd.address, timeout=timeout) as connection,
                suppress(ChronyTimeoutError),
            ):
                read = names_of(getattr(connection, method)())
            assert read in ("A", "ABCDEFGHI") or time.monotonic() - start >= timeout
