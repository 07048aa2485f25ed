"""Tests that every column that `chronyc -c` prints agrees with the values that pychrony reads."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from chronyc import COLUMNS, chronyc, compare
from limits import wait_until
from scripted import Script, ScriptedChronyd, script, wire
from scripted.wire import (
    NEVER,
    Layout,
    Record,
    Source,
    Value,
    ntp_source,
    refclock,
    unresolved_source,
)
from surroundings import IPV6

from pychrony import ChronyConnection, ChronyError
from pychrony.testing import PrivateChronyd

OTHER_HOST = "::1" if IPV6 else "127.0.0.3"

every_report = pytest.mark.parametrize("report", COLUMNS)

# With a real chronyd.


def feed(clocks: list[Path], end: threading.Event) -> None:
    """Send samples to the SOCK drivers of chronyd, as a receiver of GPS time would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        while not end.wait(0.05):
            now = time.time()
            whole = int(now)
            moment = (whole, int((now - whole) * 1e6))
            # Then the offset, three numbers that are zero (pulse, leap, padding), and a magic one.
            sample = struct.pack("@lldiiii", *moment, 0.00012, 0, 0, 0, 0x534F434B)
            for clock in clocks:
                sender.sendto(sample, str(clock))


@pytest.fixture(scope="module")
def chronyds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, PrivateChronyd]]:
    keys = tmp_path_factory.mktemp("keys") / "chrony.keys"
    keys.write_text(f"1 SHA256 HEX:{'ab' * 32}\n2 AES128 HEX:{'cd' * 16}\n")
    with ExitStack() as stack:

        def run(*lines: str) -> PrivateChronyd:
            return stack.enter_context(PrivateChronyd(f"keyfile {keys}", *lines))

        server = run("local stratum 5")
        elsewhere = () if IPV6 else (f"bindaddress {OTHER_HOST}",)
        other = run("local stratum 3", "smoothtime 400 0.01 leaponly", *elsewhere)
        client = run(
            server.as_source("iburst minpoll -4 maxpoll -4 key 1"),
            other.as_source("iburst minpoll -2 maxpoll -2 xleave offset 0.0123", host=OTHER_HOST),
            server.as_source("noselect", host="127.0.0.2"),  # where it is not
            "server 192.0.2.9 offline",
            f"server {'x' * 64} iburst",  # no name can be that long
            "peer 192.0.2.10 offline prefer key 2",
            "refclock SOCK clock.sock refid PPS0 poll -2 dpoll -4 delay 0.001 stratum 3",
            "smoothtime 400 0.01",
        )
        receiver = run("refclock SOCK clock.sock refid GPS poll -2 dpoll -4")
        end = threading.Event()
        clocks = [chronyd.folder / "clock.sock" for chronyd in (client, receiver)]
        feeder = threading.Thread(target=feed, args=(clocks, end))
        feeder.start()
        stack.callback(feeder.join)
        stack.callback(end.set)
        for chronyd in (client, receiver):
            chronyd.wait_until_synchronized()
        wait_for_samples(client)
        yield {"server": server, "other": other, "client": client, "receiver": receiver}


def wait_for_samples(chronyd: PrivateChronyd) -> None:
    with ChronyConnection(chronyd.address) as connection:
        wait_until(lambda: sum(s.samples >= 6 for s in connection.get_source_stats()) >= 3)


def columns(chronyd: PrivateChronyd, command: str, *places: int) -> set[tuple[str, ...]]:
    lines = chronyc(chronyd.address, "-n", "-c", *command.split()).splitlines()
    return {tuple(line.split(",")[place] for place in places) for line in lines}


def test_the_real_chronyd_has_sources_of_every_kind(chronyds: Mapping[str, PrivateChronyd]) -> None:
    client = chronyds["client"]
    sources = columns(client, "sources -a", 0, 2, 4)
    assert sources >= {("^", "127.0.0.1", "-4"), ("^", OTHER_HOST, "-2"), ("#", "PPS0", "-2")}
    assert sources >= {("=", "192.0.2.10", "6"), ("^", "ID#0000000001", "6")}
    assert {("*",), ("x",), ("?",)} <= columns(client, "sources -a", 1)
    assert {("SK", "1", "3"), ("SK", "2", "13"), ("-", "0", "0")} == columns(
        client, "authdata -a", 1, 2, 3
    )
    assert columns(chronyds["receiver"], "tracking", 1) == {("GPS",)}
    assert columns(chronyds["server"], "tracking", 0) == {("7F7F0101",)}


@pytest.mark.parametrize("which", ["server", "other", "client", "receiver"])
@every_report
def test_chronyc_prints_what_we_read_from_a_real_chronyd(
    chronyds: Mapping[str, PrivateChronyd], which: str, report: str
) -> None:
    chronyd = chronyds[which]
    with ChronyConnection(chronyd.address) as connection:
        compare(connection, chronyd.address, report, patience=5.0)


# With a scripted chronyd: values that depend on hardware, on the network or on luck.


def strange(layout: Layout, number: int, **chosen: Value) -> Record:
    """A record whose numbers differ from each other, and from those of other sources."""
    values: dict[str, Value] = {}
    for place, f in enumerate(layout.fields):
        if f.kind is wire.FLOAT:
            size = 10.0 ** (place % 7 - number % 8)
            values[f.keyword] = (-1) ** (number + place) * (place + 1) * 0.12345 * size
        elif f.kind in (wire.I8, wire.I16):
            values[f.keyword] = number + place - 12
        elif f.kind in (wire.U8, wire.U16, wire.U32):
            values[f.keyword] = (number + place) ** 3 % 2 ** (8 * f.kind.size)
    return layout(**{**values, **chosen})


def strange_source(number: int, ntpdata: Layout) -> Source:
    """A source with values in all fields."""
    key_types = (*range(12), 13, 14, 15, 30)
    flags = (*(1 << bit for bit in range(10)), 0x4000, 0x8000, 0x1FF, 0xC2AA, 0x155, 0)
    ago = NEVER if number == 7 else number**7
    return ntp_source(
        f"2001:db8::{number + 1:x}" if number % 2 else f"192.0.2.{number + 1}",
        strange(wire.source, number, state=number % 6, mode=number % 2, last_sample_ago=ago),
        strange(wire.sourcestats, number),
        strange(
            wire.selectdata,
            number,
            state=ord("NMsd~wSOTxWPUD+*"[number]),
            authentication=number % 2,
            leap_status=number % 4,
            configured_options=number,
            effective_options=15 - number,
        ),
        strange(wire.authdata, number, mode=number % 3, key_type=key_types[number], nak=number % 2),
        strange(
            ntpdata,
            number,
            local_address=f"fd00::{number}" if number % 2 else "198.51.100.7",
            leap_status=number // 4,
            mode=(0, 1, 2, 4)[number % 4],
            stratum=number % 4,
            reference_id=wire.reference_id("GPS"),
            flags=flags[number],
            transmit_timestamping=b"\0DKH"[number % 4],
            receive_timestamping=b"HKD\0"[number % 4],
        ),
    )


def known(layouts: Mapping[int, Layout]) -> Layout:
    """The response that this chronyc can read: each version of it knows one."""
    for layout in layouts.values():
        answers = script([ntp_source()], layout())
        with ScriptedChronyd(answers) as chronyd, suppress(ChronyError):
            chronyc(chronyd.address, "-n", layout.report)
            return layout
    raise AssertionError(f"chronyc can read none of {[*layouts]}")


@pytest.fixture(scope="module")
def ntpdata() -> Layout:
    return known(wire.NTPDATA)


@pytest.fixture(scope="module")
def serverstats() -> Layout:
    return known(wire.SERVERSTATS)


def check(answers: Script, *reports: str) -> None:
    with ScriptedChronyd(answers) as chronyd, ChronyConnection(chronyd.address) as connection:
        for report in reports:
            compare(connection, chronyd.address, report)


@every_report
def test_chronyc_prints_what_we_read_of_strange_sources(
    report: str, ntpdata: Layout, serverstats: Layout
) -> None:
    sources = [strange_source(number, ntpdata) for number in range(16)]
    sources += [refclock("PPS0"), refclock("G\0S\x7f"), unresolved_source(2)]
    check(script(sources, serverstats()), report)


@pytest.mark.parametrize(
    "record",
    [
        wire.tracking(reference_id=wire.reference_id("GPS"), address=None, stratum=1),
        wire.tracking(reference_id=0x47005053, address=None, leap_status=1),
        wire.tracking(reference_id=0x7F7F0101, address=None, leap_status=2, stratum=16),
        wire.tracking(reference_id=0, address=None, leap_status=3, stratum=0, reference_time=0),
        wire.tracking(reference_id=0x42424242, address="2001:db8::1", reference_time=999_999_999),
        wire.tracking(current_correction=-12.5, last_offset=3e5, frequency_offset=0.0004),
        wire.tracking(residual_frequency=-99999.5, skew=1e6, root_delay=1e-10, rms_offset=0.0),
    ],
)
def test_chronyc_prints_what_we_read_of_a_strange_clock(record: Record) -> None:
    check(script([], record), "tracking")


@pytest.mark.parametrize("flags", range(4))
def test_chronyc_prints_what_we_read_of_the_rest(flags: int) -> None:
    sign = (-1) ** flags
    records = (
        wire.activity(
            online_sources=1,
            offline_sources=2,
            burst_online_return_sources=3,
            burst_offline_return_sources=4,
            unresolved_sources=0xFFFFFFFF,
        ),
        wire.rtcdata(offset=sign * 1234.5, frequency_offset=-sign * 0.01, samples=65535),
        wire.smoothing(flags=flags, offset=sign * 2.5, frequency_offset=sign, wander=-sign * 0.5),
    )
    check(script([], *records), "activity", "rtcdata", "smoothing")
