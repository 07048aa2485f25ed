"""Runs chronyc, and compares what it prints with what it should print for a report."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from scripted import wire
from scripted.wire import NEVER

from pychrony import (
    Activity,
    AuthData,
    AuthMode,
    ChronyConnection,
    ChronyError,
    LeapStatus,
    NTPData,
    NTPFlag,
    NTPMode,
    RTCData,
    SelectData,
    SelectOption,
    ServerStats,
    Smoothing,
    Source,
    SourceMode,
    SourceState,
    SourceStats,
    Timestamping,
    TrackingStatus,
)

# Expected columns: numbers are compared to the precision that chronyc prints. None at the end of a
# row is not printed, since this chronyd does not have the value.
Cell = int | float | str | None
Row = tuple[Cell, ...]

LEAPS = {
    LeapStatus.NORMAL: "Normal",
    LeapStatus.INSERT: "Insert second",
    LeapStatus.DELETE: "Delete second",
    LeapStatus.UNSYNC: "Not synchronised",
}
STATES = {
    SourceState.SELECTED: "*",
    SourceState.NONSELECTABLE: "?",
    SourceState.FALSETICKER: "x",
    SourceState.JITTERY: "~",
    SourceState.UNSELECTED: "+",
    SourceState.SELECTABLE: "-",
}
MODES = {SourceMode.CLIENT: "^", SourceMode.PEER: "=", SourceMode.REFCLOCK: "#"}
NTP_MODES = {
    NTPMode.UNDEFINED: "Invalid",
    NTPMode.ACTIVE_SYMMETRIC: "Symmetric active",
    NTPMode.PASSIVE_SYMMETRIC: "Symmetric passive",
    NTPMode.SERVER: "Server",
}
AUTH_MODES = {AuthMode.NONE: "-", AuthMode.SYMMETRIC_KEY: "SK", AuthMode.NTS: "NTS"}
STAMPS = {
    Timestamping.NONE: "Invalid",
    Timestamping.DAEMON: "Daemon",
    Timestamping.KERNEL: "Kernel",
    Timestamping.HARDWARE: "Hardware",
}
TESTS = (
    [NTPFlag.TEST1, NTPFlag.TEST2, NTPFlag.TEST3],
    [NTPFlag.TEST5, NTPFlag.TEST6, NTPFlag.TEST7],
    [NTPFlag.TESTA, NTPFlag.TESTB, NTPFlag.TESTC, NTPFlag.TESTD],
)


def instant(nanoseconds: int) -> str:
    return "{}.{:09}".format(*divmod(nanoseconds, 10**9))


def yes(flag: object) -> str:
    return "Yes" if flag else "No"


def name(record: SourceStats | SelectData) -> str:
    """A refclock has no address in these reports."""
    text = record.reference_id.to_bytes(4, "big").decode("ascii", "ignore")
    return record.address or "".join(filter(str.isprintable, text))


def tracking(t: TrackingStatus) -> Row:
    is_local = t.reference_id == 0x7F7F0101
    return (
        f"{t.reference_id:08X}",
        t.reference_ip or ("" if is_local else t.reference_id_name),
        t.stratum,
        instant(t.ref_time_ns),
        *(t.offset, t.last_offset, t.rms_offset),
        *(t.frequency, t.residual_freq, t.skew),
        *(t.root_delay, t.root_dispersion, t.update_interval),
        LEAPS[t.leap_status],
    )


def source(s: Source) -> Row:
    age = NEVER if s.last_sample_ago is None else s.last_sample_ago
    return (
        *(MODES[s.mode], STATES[s.state], s.address),
        *(s.stratum, s.poll, f"{s.reachability:o}", age),
        *(s.latest_meas, s.orig_latest_meas, s.latest_meas_err),
    )


def source_stats(s: SourceStats) -> Row:
    measured = (s.samples, s.runs, s.span, s.resid_freq, s.skew, s.offset, s.std_dev)
    return (name(s), *measured)


def options(chosen: SelectOption) -> Row:
    letters = {
        "N": SelectOption.NOSELECT,
        "P": SelectOption.PREFER,
        "T": SelectOption.TRUST,
        "R": SelectOption.REQUIRE,
    }
    return (*(letter if option in chosen else "-" for letter, option in letters.items()), "-")


def select_data(s: SelectData) -> Row:
    return (
        *(s.state.value, name(s), "Y" if s.authentication else "N"),
        *(*options(s.configured_options), *options(s.effective_options)),
        *(s.last_sample_ago, s.score, s.low_limit, s.high_limit, LEAPS[s.leap_status]),
    )


def activity(a: Activity) -> Row:
    return (a.online, a.offline, a.burst_online, a.burst_offline, a.unresolved)


def auth_data(a: AuthData) -> Row:
    return (
        *(a.address, AUTH_MODES[a.mode], a.key_id or 0),
        *(a.key_type.value if a.key_type else 0, a.key_length or 0),
        *(NEVER if a.last_ke_ago is None else a.last_ke_ago, a.ke_attempts),
        *(int(a.nak), a.cookies, a.cookie_length),
    )


def place(address: str) -> Row:
    return (address or "[UNSPEC]", f"{wire.reference_id(address):08X}")


def ntp_data(n: NTPData) -> Row:
    tests = ("".join("01"[test in n.flags] for test in group) for group in TESTS)
    return (
        *(*place(n.remote_address), n.remote_port, *place(n.local_address)),
        *(LEAPS[n.leap_status], n.version, NTP_MODES[n.mode], n.stratum),
        *(n.poll, 2.0**n.poll, n.precision, 2.0**n.precision, n.root_delay, n.root_dispersion),
        *(f"{n.reference_id:08X}", n.reference_id_name if n.stratum <= 1 else ""),
        *(instant(n.ref_time_ns), n.offset, n.peer_delay, n.peer_dispersion),
        *(n.response_time, n.jitter_asymmetry),
        *tests,
        *(yes(NTPFlag.INTERLEAVED in n.flags), yes(NTPFlag.AUTHENTICATED in n.flags)),
        *(STAMPS[n.tx_timestamping], STAMPS[n.rx_timestamping]),
        *(n.tx_messages, n.rx_messages, n.rx_valid_messages, n.rx_good_messages),
        *(n.kernel_tx_timestamps, n.kernel_rx_timestamps),
        *(n.hardware_tx_timestamps, n.hardware_rx_timestamps),
    )


def server_stats(s: ServerStats) -> Row:
    return (
        *(s.ntp_requests, s.ntp_dropped, s.command_requests, s.command_dropped, s.log_dropped),
        *(s.nts_ke_connections, s.nts_ke_dropped, s.ntp_auth_requests, s.ntp_interleaved_requests),
        *(s.ntp_timestamps_held, s.ntp_timestamp_span),
        *(s.daemon_rx_timestamps, s.daemon_tx_timestamps),
        *(s.kernel_rx_timestamps, s.kernel_tx_timestamps),
        *(s.hardware_rx_timestamps, s.hardware_tx_timestamps),
    )


def rtc_data(r: RTCData) -> Row:
    return (instant(r.ref_time_ns), r.samples, r.runs, r.span, r.offset, r.freq_offset)


def smoothing(s: Smoothing) -> Row:
    return (
        *(yes(s.active), "(leap second only)" if s.leap_only else ""),
        *(s.offset, s.frequency, s.wander, s.last_update_ago, s.remaining_time),
    )


class Report(NamedTuple):
    command: str
    read: Callable[[ChronyConnection], Any]
    columns: Callable[[Any], Row]

    def __str__(self) -> str:
        return self.command

    def rows(self, connection: ChronyConnection) -> list[Row]:
        """Return what chronyc should print; it omits the ntpdata of sources without an address."""
        answer = self.read(connection)
        records = answer if isinstance(answer, list) else [answer]
        resolved = [
            record
            for record in records
            if record and not getattr(record, "remote_address", "").startswith("ID#")
        ]
        return [self.columns(record) for record in resolved]


REPORTS = [
    Report("tracking", ChronyConnection.get_tracking, tracking),
    Report("sources -a", ChronyConnection.get_sources, source),
    Report("sourcestats -a", ChronyConnection.get_source_stats, source_stats),
    Report("selectdata -a", ChronyConnection.get_select_data, select_data),
    Report("activity", ChronyConnection.get_activity, activity),
    Report("authdata -a", ChronyConnection.get_auth_data, auth_data),
    Report("ntpdata", ChronyConnection.get_ntp_data, ntp_data),
    Report("serverstats", ChronyConnection.get_server_stats, server_stats),
    Report("rtcdata", ChronyConnection.get_rtc_data, rtc_data),
    Report("smoothing", ChronyConnection.get_smoothing, smoothing),
]


def agrees(text: str, before: Cell, after: Cell) -> bool:
    """Whether chronyc printed a value read just before or after, or a number in between."""
    if isinstance(before, str) or isinstance(after, str) or before is None or after is None:
        return text in (before, after)
    decimals = len(text.partition(".")[2])
    slack = 0.500001 * 10**-decimals if isinstance(before, float) else 0
    return min(before, after) - slack <= float(text) <= max(before, after) + slack


def differences(printed: list[list[str]], before: list[Row], after: list[Row]) -> list[str]:
    if not len(printed) == len(before) == len(after):
        return [f"{len(printed)} rows, but {len(before)} of ours: {printed}, {before}"]
    found = []
    for texts, *ours in zip(printed, before, after, strict=True):
        known = [[cell for cell in row if cell is not None] for row in ours]
        if not len(texts) == len(known[0]) == len(known[1]):
            found.append(f"{len(texts)} columns: {texts}, {ours}")
            continue
        for column, cells in enumerate(zip(texts, *known, strict=True)):
            if not agrees(*cells):
                found.append(f"column {column}: {cells}, of {texts}")
    return found


def compare(
    connection: ChronyConnection, address: str, report: Report, *, patience: float = 0.0
) -> None:
    """Compare for some seconds, since a value may change twice between two readings."""
    deadline = time.monotonic() + patience
    while True:
        before = report.rows(connection)
        lines = ask(address, report.command).splitlines()
        after = report.rows(connection)
        found = differences([line.split(",") for line in lines], before, after)
        if not found or time.monotonic() > deadline:
            break
    assert not found


def ask(address: str, command: str) -> str:
    try:
        return chronyc(address, "-n", "-c", *command.split())
    except ChronyError as error:
        if "513 RTC driver not running" in error.message or "not enabled" in error.message:
            return ""
        raise


def chronyc(address: str, *arguments: str) -> str:
    """Run chronyc, and return its output; raise `ChronyError` if it fails."""
    host, _, port = address.rpartition(":")
    where = ["-h", host, "-p", port] if host else ["-h", address]
    command = ["chronyc", *as_root(), *where, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ChronyError(f"chronyc {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


@cache
def as_root() -> list[str]:
    """Return the option that lets root stay root, who alone may enter a chronyd's folder."""
    said = subprocess.run(["chronyc", "--help"], capture_output=True, text=True).stdout
    return ["-u", "root"] if os.geteuid() == 0 and " -u " in said else []
