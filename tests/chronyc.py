"""Runs chronyc, and compares what it prints with what it should print for a report."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from methods import METHODS
from scripted import wire
from scripted.wire import NEVER

from pychrony import (
    AuthMode,
    ChronyConnection,
    ChronyError,
    LeapStatus,
    NTPData,
    NTPFlag,
    NTPMode,
    SelectData,
    SelectOption,
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

WORDS: Mapping[Any, Any] = {  # for each value of an enum
    AuthMode: ("-", "SK", "NTS"),
    LeapStatus: ("Normal", "Insert second", "Delete second", "Not synchronised"),
    NTPMode: ("Invalid", "Symmetric active", "Symmetric passive", "Client", "Server"),
    SourceMode: "^=#",
    SourceState: "*?x~+-",
    Timestamping: {"\0": "Invalid", "D": "Daemon", "K": "Kernel", "H": "Hardware"},
}
IF_NONE = {"key_id": 0, "key_type": 0, "key_length": 0, "last_sample_ago": NEVER}
IF_NONE |= {"last_ke_ago": NEVER}
TESTS = (
    [NTPFlag.TEST1, NTPFlag.TEST2, NTPFlag.TEST3],
    [NTPFlag.TEST5, NTPFlag.TEST6, NTPFlag.TEST7],
    [NTPFlag.TESTA, NTPFlag.TESTB, NTPFlag.TESTC, NTPFlag.TESTD],
)


def cells(record: Any, names: str) -> Row:
    """Return the columns for these attributes."""
    return tuple(cell(name, getattr(record, name)) for name in names.split())


def cell(name: str, value: Any) -> Cell:
    if name == "ref_time_ns":
        return "{}.{:09}".format(*divmod(value, 10**9))
    if value is None:
        return IF_NONE.get(name)
    words = WORDS.get(type(value))
    number: Cell = getattr(value, "value", value)
    return words[number] if words else number


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
        *cells(t, "stratum ref_time_ns offset last_offset rms_offset frequency residual_freq"),
        *cells(t, "skew root_delay root_dispersion update_interval leap_status"),
    )


def source(s: Source) -> Row:
    return (
        *cells(s, "mode state address stratum poll"),
        f"{s.reachability:o}",
        *cells(s, "last_sample_ago latest_meas orig_latest_meas latest_meas_err"),
    )


def source_stats(s: SourceStats) -> Row:
    return (name(s), *cells(s, "samples runs span resid_freq skew offset std_dev"))


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
        *cells(s, "last_sample_ago score low_limit high_limit leap_status"),
    )


def place(address: str) -> Row:
    return (address or "[UNSPEC]", f"{wire.reference_id(address):08X}")


def ntp_data(n: NTPData) -> Row:
    tests = ("".join("01"[test in n.flags] for test in group) for group in TESTS)
    return (
        *(*place(n.remote_address), n.remote_port, *place(n.local_address)),
        *cells(n, "leap_status version mode stratum"),
        *(n.poll, 2.0**n.poll, n.precision, 2.0**n.precision, n.root_delay, n.root_dispersion),
        *(f"{n.reference_id:08X}", n.reference_id_name if n.stratum <= 1 else ""),
        *cells(n, "ref_time_ns offset peer_delay peer_dispersion response_time jitter_asymmetry"),
        *tests,
        *(yes(NTPFlag.INTERLEAVED in n.flags), yes(NTPFlag.AUTHENTICATED in n.flags)),
        *cells(n, "tx_timestamping rx_timestamping"),
        *cells(n, "tx_messages rx_messages rx_valid_messages rx_good_messages"),
        *cells(n, "kernel_tx_timestamps kernel_rx_timestamps"),
        *cells(n, "hardware_tx_timestamps hardware_rx_timestamps"),
    )


def smoothing(s: Smoothing) -> Row:
    return (
        *(yes(s.active), "(leap second only)" if s.leap_only else ""),
        *cells(s, "offset frequency wander last_update_ago remaining_time"),
    )


COLUMNS: Mapping[str, str | Callable[[Any], Row]] = {  # for each command
    "tracking": tracking,
    "sources -a": source,
    "sourcestats -a": source_stats,
    "selectdata -a": select_data,
    "activity": "online offline burst_online burst_offline unresolved",
    "authdata -a": "address mode key_id key_type key_length last_ke_ago ke_attempts nak cookies "
    "cookie_length",
    "ntpdata": ntp_data,
    "serverstats": "ntp_requests ntp_dropped command_requests command_dropped log_dropped "
    "nts_ke_connections nts_ke_dropped ntp_auth_requests ntp_interleaved_requests "
    "ntp_timestamps_held ntp_timestamp_span daemon_rx_timestamps daemon_tx_timestamps "
    "kernel_rx_timestamps kernel_tx_timestamps hardware_rx_timestamps hardware_tx_timestamps",
    "rtcdata": "ref_time_ns samples runs span offset freq_offset",
    "smoothing": smoothing,
}


def rows(connection: ChronyConnection, command: str) -> list[Row]:
    """Return what chronyc should print; it omits the ntpdata of sources without an address."""
    answer = getattr(connection, METHODS[command.split()[0]])()
    records = answer if isinstance(answer, list) else [answer]
    columns = COLUMNS[command]
    return [
        cells(record, columns) if isinstance(columns, str) else columns(record)
        for record in records
        if record and not getattr(record, "remote_address", "").startswith("ID#")
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
    connection: ChronyConnection, address: str, command: str, *, patience: float = 0.0
) -> None:
    """Compare for some seconds, since a value may change twice between two readings."""
    deadline = time.monotonic() + patience
    while True:
        before = rows(connection, command)
        lines = ask(address, command).splitlines()
        after = rows(connection, command)
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
