"""`pychrony exporter`: its metrics, the targets it may ask, and HTTP errors."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import resource
import signal
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

import pytest
from programs import command
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from scripted import OPEN_COMMANDS, ScriptedChronyd, script
from scripted.wire import Command, ntp_source, source
from servers import Exporter, exporter, silence

import pychrony
from pychrony import SourceMode, SourceState
from pychrony._command.exporter import _parser
from pychrony._command.exporter.places import NoPlaceError, Places, open_files
from pychrony._command.exporter.targets import RefusedError, parse_allowed, permitted
from pychrony._io.address import Address
from pychrony._model.fields import FieldContent, Report, of, origins
from pychrony._prometheus.metrics import MODES, STATES, metrics
from pychrony.models import MODELS
from pychrony.prometheus import ChronyCollector
from pychrony.testing import PrivateChronyd

SOURCE = {"source_address", "source_name"}

# Names, types and labels that exist elsewhere, so that dashboards and rules depend on them.
GAUGES = {
    "up": set(),
    "tracking_info": {"tracking_address", "tracking_name", "tracking_refid"},
    "tracking_last_offset_seconds": set(),
    "tracking_reference_timestamp_seconds": set(),
    "tracking_system_time_seconds": set(),
    "tracking_remote_reference": set(),
    "tracking_rms_offset_seconds": set(),
    "tracking_root_delay_seconds": set(),
    "tracking_root_dispersion_seconds": set(),
    "tracking_frequency_ppms": set(),
    "tracking_residual_frequency_ppms": set(),
    "tracking_skew_ppms": set(),
    "tracking_update_interval_seconds": set(),
    "tracking_stratum": set(),
    "sources_last_sample_age_seconds": SOURCE,
    "sources_reachability_ratio": SOURCE,
    "sources_reachability_success": SOURCE,
    "sources_last_sample_offset_seconds": SOURCE,
    "sources_last_sample_error_margin_seconds": SOURCE,
    "sources_polling_interval_seconds": SOURCE,
    "sources_state_info": SOURCE | {"source_state", "source_mode"},
    "sources_stratum": SOURCE,
    "sources_peer_offset_seconds": SOURCE,
    "sources_peer_delay_seconds": SOURCE,
    "sources_peer_dispersion_seconds": SOURCE,
    "sources_peer_response_time_seconds": SOURCE,
    "sources_peer_jitter_asymmetry_seconds": SOURCE,
    "sourcestats_samples": SOURCE,
    "sourcestats_runs": SOURCE,
    "sourcestats_span_seconds": SOURCE,
    "sourcestats_stddev": SOURCE,
    "sourcestats_frequency_ppms": SOURCE,
    "sourcestats_frequency_skew_ppms": SOURCE,
    "sourcestats_offset": SOURCE,
    "serverstats_ntp_timestamps_held": set(),
    "serverstats_ntp_timestamp_span_seconds": set(),
}
OURS = (
    "scrape_duration_seconds",
    "report_available",
    "report_missing_info",
    "tracking_leap_status_info",
)
COUNTERS = (
    "ntp_packets_received",
    "ntp_packets_dropped",
    "command_packets_received",
    "command_packets_dropped",
    "client_log_records_dropped",
    "nts_ke_connections_accepted",
    "nts_ke_connections_dropped",
    "authenticated_ntp_packets",
    "interleaved_ntp_packets",
    *(f"ntp_{by}_{way}_timestamps" for by in ("daemon", "kernel", "hw") for way in ("rx", "tx")),
)

SERVERSTATS = [f"serverstats_{name}" for name in COUNTERS]


def scrape(address: str, **options: object) -> dict[str, Family]:
    """Return the metric families for a chronyd, by name."""
    registry = CollectorRegistry()
    registry.register(ChronyCollector(address, **options))  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Family], name: str, **labels: str) -> float:
    """Return the value of the series with these labels."""
    name = f"chrony_{name}"
    (found,) = [
        sample.value
        for sample in families[name.removesuffix("_total")].samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return found


def test_names_types_and_labels_that_exist_elsewhere_are_kept(scripted: ScriptedChronyd) -> None:
    families = scrape(scripted.address)
    assert families.keys() <= {f"chrony_{name}" for name in (*GAUGES, *OURS, *SERVERSTATS)}
    labels = {
        family.name.removeprefix("chrony_"): set(family.samples[0].labels)
        for family in families.values()
        if family.type == "gauge" and family.samples
    }
    assert {name: labels.get(name) for name in GAUGES} == GAUGES
    counters = {family.name for family in families.values() if family.type == "counter"}
    assert counters == {f"chrony_{name}" for name in SERVERSTATS}


def test_values_that_exist_elsewhere_are_kept(scripted: ScriptedChronyd) -> None:
    scripted.script = script([ntp_source("192.0.2.1", source(reachability=0o113))])
    families = scrape(scripted.address)
    reports = pychrony.get_all(address=scripted.address)
    clock, server = reports.require("tracking"), reports.require("serverstats")
    one, stats = reports.require("sources")[0], reports.require("sourcestats")[0]
    peer = reports.require("ntpdata")[0]
    of_clock = {
        "up": 1,
        "tracking_system_time_seconds": clock.offset,
        "tracking_last_offset_seconds": clock.last_offset,
        "tracking_reference_timestamp_seconds": clock.ref_time,
        "tracking_remote_reference": 1,
        "serverstats_ntp_packets_received_total": server.ntp_requests,
    }
    of_source = {
        "sources_last_sample_offset_seconds": one.latest_meas,
        "sources_polling_interval_seconds": 2.0**one.poll,
        "sources_reachability_ratio": one.reachability.bit_count() / 8,
        "sources_reachability_success": one.reachability & 1,
        "sources_peer_offset_seconds": peer.offset,
        "sourcestats_stddev": stats.std_dev,
    }
    assert {name: value(families, name) for name in of_clock} == of_clock
    labels = {"source_address": one.address, "source_name": one.address}
    assert {name: value(families, name, **labels) for name in of_source} == of_source
    labels = {"tracking_address": clock.reference_ip, "tracking_name": clock.reference_ip}
    refid = f"{clock.reference_id:08X}"
    assert value(families, "tracking_info", **labels, tracking_refid=refid) == 1


def test_states_and_modes_have_the_words_that_exist_elsewhere() -> None:
    words = ["sync", "unreach", "falseticker", "jittery", "candidate", "outlier"]
    assert [STATES[state] for state in SourceState] == words
    assert MODES[SourceMode.REFCLOCK] == "reference clock"
    assert set(MODES) == set(SourceMode)


@pytest.mark.parametrize("report", MODELS)
def test_every_field_is_in_a_metric(report: str) -> None:
    model = MODELS[report]
    shown = set().union(*(metric.attributes for metric in metrics(model)))
    labels = {label for metric in metrics(model) for label in metric.labels}
    left = {
        attribute
        for attribute, origin in origins(model).items()
        if attribute not in shown | labels and origin.content is not FieldContent.NONE
    }
    assert left <= {"address", "remote_address", "ref_time_ns"}


@pytest.mark.parametrize("report", MODELS)
def test_numbers_are_those_of_the_report(report: str, scripted: ScriptedChronyd) -> None:
    families = scrape(scripted.address, reports=[report], all_metrics=True)
    answer = getattr(pychrony.get_all(report, address=scripted.address), report)
    record = answer[0] if isinstance(answer, list) else answer
    labels = {"source_name": record.name} if isinstance(answer, list) else {}
    compared = 0
    for metric in metrics(MODELS[report]):
        if metric.name.endswith("_info") or len(metric.attributes) != 1:
            continue
        (attribute,) = metric.attributes
        content = origins(MODELS[report])[attribute].content
        expected = getattr(record, attribute)
        if expected is None:
            assert metric.name not in families
            continue
        if content is FieldContent.INTERVAL_LOG2_SECONDS:
            expected = 2.0**expected
        elif content is FieldContent.LENGTH_BITS:
            expected /= 8
        elif content in (FieldContent.BITS, FieldContent.REFERENCE_ID):
            continue
        assert value(families, metric.name.removeprefix("chrony_"), **labels) == expected
        compared += 1
    assert compared >= 3


def test_a_new_field_is_a_new_metric() -> None:
    @dataclasses.dataclass(frozen=True)
    class Newer(Report):
        _report = "newer"
        drift: float = dataclasses.field(
            metadata=of("clock drift", content=FieldContent.OFFSET_PPM, positive="clock is fast")
        )
        bad_requests: int = dataclasses.field(
            metadata=of("bad requests", content=FieldContent.COUNT)
        )

    drift, requests = metrics(Newer)
    assert (drift.name, drift.type) == ("chrony_newer_clock_drift_ppms", "gauge")
    assert drift.help == "Clock drift. Positive: clock is fast."
    assert (requests.name, requests.type) == ("chrony_newer_bad_requests_total", "counter")
    assert list(drift.samples(Newer(1.5, 7))) == [((), 1.5)]


def test_every_metric_has_a_name_and_a_help_text_of_its_own() -> None:
    all_of_them = [metric for model in MODELS.values() for metric in metrics(model)]
    names = [metric.name for metric in all_of_them]
    assert len(set(names)) == len(names) > 90
    assert all(re.fullmatch(r"[A-Z0-9].+[.]", metric.help) for metric in all_of_them)
    assert not [metric for metric in all_of_them if "`None`" in metric.help]


def test_what_chronyd_does_not_know_has_no_series() -> None:
    configuration = ("server 127.0.0.1 port 9", "server does-not-exist.invalid")
    with PrivateChronyd(*configuration) as chronyd:
        families = scrape(chronyd.address, all_metrics=True)
    text = str(families)
    assert "ID#" not in text
    assert value(families, "activity_unresolved_sources") == 1
    assert value(families, "sources_reachability_ratio", source_name="127.0.0.1") == 0
    unknown = (
        *("tracking_reference_timestamp_seconds", "sources_last_sample_age_seconds"),
        *("sources_last_sample_offset_seconds", "sources_stratum", "sourcestats_stddev"),
        *("sourcestats_frequency_skew_ppms", "sourcestats_offset", "sources_peer_offset_seconds"),
        *("selectdata_low_limit_seconds", "ntpdata_version", "ntpdata_leap_status_info"),
    )
    assert [name for name in unknown if f"chrony_{name}" in families] == []


def test_reference_clocks_of_one_name_are_told_apart(tmp_path: Path) -> None:
    clocks = [f"refclock SOCK {tmp_path}/{n} refid GPS" for n in range(2)]
    with PrivateChronyd(*clocks) as chronyd:
        families = scrape(chronyd.address, all_metrics=True)
    for name in ("sources_reachability_ratio", "sourcestats_samples", "selectdata_state_info"):
        names = [sample.labels["source_name"] for sample in families[f"chrony_{name}"].samples]
        assert names == ["GPS", "GPS (2)"]


@pytest.mark.parametrize("reference", ["local stratum 5", "local stratum 5 orphan"])
def test_a_clock_that_is_its_own_reference_says_so(reference: str) -> None:
    with PrivateChronyd(reference) as own:
        families = scrape(own.address)
    assert value(families, "tracking_remote_reference") == 0
    assert value(families, "tracking_stratum") == 5


def test_reports_that_are_denied_are_named_and_chronyd_is_up() -> None:
    with ScriptedChronyd(opencommands=OPEN_COMMANDS) as chronyd:
        families = scrape(chronyd.address)
    assert value(families, "up") == 1
    assert value(families, "report_available", report="tracking") == 1
    assert value(families, "report_available", report="ntpdata") == 0
    assert value(families, "report_missing_info", report="ntpdata", reason="denied") == 1


def test_a_report_that_is_off_is_no_fault(chronyd: PrivateChronyd) -> None:
    families = scrape(chronyd.address, reports=["smoothing"])
    assert value(families, "report_missing_info", report="smoothing", reason="off") == 1


@pytest.mark.parametrize("address", ["127.0.0.1:9", "/nowhere/chronyd", "silent"])
def test_a_chronyd_that_is_not_there_is_down(address: str) -> None:
    with silence() as (silent, _):
        gone = scrape(silent, timeout=0.2) if address == "silent" else scrape(address)
    reason = "timeout" if address == "silent" else "unreachable"
    assert value(gone, "up") == 0
    assert value(gone, "report_missing_info", report="tracking", reason=reason) == 1
    assert "chrony_tracking_stratum" not in gone


def test_registering_does_not_ask_chronyd(scripted: ScriptedChronyd) -> None:
    CollectorRegistry().register(ChronyCollector(scripted.address))
    assert not scripted.requests


def test_what_is_exported_is_described(scripted: ScriptedChronyd) -> None:
    collector = ChronyCollector(all_metrics=True)
    described = {family.name: family.documentation for family in collector.describe()}
    families = scrape(scripted.address, all_metrics=True)
    exported = {family.name: family.documentation for family in families.values()}
    assert exported.items() <= described.items()


def test_metrics_that_no_dashboard_knows_have_to_be_asked_for(scripted: ScriptedChronyd) -> None:
    usual = scrape(scripted.address)
    assert Command.SELECTDATA not in {request.command for request in scripted.requests}
    everything = scrape(scripted.address, all_metrics=True)
    assert usual.keys() < everything.keys()
    ours = {"chrony_activity_online_sources", "chrony_selectdata_score_ratio"}
    assert ours <= everything.keys() - usual.keys()
    assert "chrony_activity_online_sources" in scrape(scripted.address, reports=["activity"])


def test_a_source_has_at_most_21_series_by_default(scripted: ScriptedChronyd) -> None:
    families = scrape(scripted.address)
    series = [s for f in families.values() for s in f.samples if "source_name" in s.labels]
    assert len(series) / len({sample.labels["source_name"] for sample in series}) <= 21


def test_only_the_reports_that_are_wanted_are_asked_for(scripted: ScriptedChronyd) -> None:
    scrape(scripted.address, reports=["tracking"])
    assert {request.command for request in scripted.requests} == {Command.TRACKING}


@pytest.mark.parametrize("options", [{"reports": ["clients"]}, {"reports": []}, {"timeout": 0}])
def test_a_collector_refuses_wrong_arguments(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"report|timeout"):
        ChronyCollector(None, **options)  # type: ignore[arg-type]


# The server.


def has_received(listener: socket.socket) -> bool:
    try:
        return bool(listener.recv(4096))
    except BlockingIOError:
        return False


@pytest.fixture(scope="module")
def remote() -> Iterator[ScriptedChronyd]:
    with ScriptedChronyd(opencommands=OPEN_COMMANDS) as chronyd:
        yield chronyd


@pytest.fixture(scope="module")
def running(chronyd: PrivateChronyd, remote: ScriptedChronyd) -> Iterator[Exporter]:
    port = remote.address.rpartition(":")[2]
    entries = remote.address, "localhost", f"localhost:{port}", "127.0.0.2", "*.invalid"
    allowed = [word for entry in entries for word in ("--allow", entry)]
    with exporter("--address", chronyd.address, *allowed) as server:
        yield server


def test_metrics_are_those_of_the_local_chronyd(running: Exporter) -> None:
    text = running.metrics()
    assert "\nchrony_up 1.0\n" in text
    assert 'tracking_address="127.0.0.1"' in text
    assert "\nprocess_resident_memory_bytes " in text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_target_is_probed(host: str, running: Exporter, remote: ScriptedChronyd) -> None:
    answer = running.probe(remote.address.replace("127.0.0.1", host))
    assert answer.status == 200
    assert 'tracking_address="192.0.2.1"' in answer.text
    assert "process_" not in answer.text


def test_a_name_that_does_not_exist_is_down(running: Exporter) -> None:
    assert running.probe("does-not-exist.invalid").status == 200
    assert not running.is_up("does-not-exist.invalid")


def test_a_target_that_is_not_allowed_gets_403_and_no_datagram(running: Exporter) -> None:
    with silence() as (address, listener):
        answer = running.probe(address)
        assert answer.status == 403
        assert "--allow" in answer.text
        assert not has_received(listener)


@pytest.mark.parametrize(
    ("target", "part"),
    [
        ("/run/chrony/chronyd.sock", "path /run/chrony/chronyd.sock"),
        ("127.0.0.1", "port 323"),
        ("[::1]:323", "address ::1"),
        ("localhost:324", "port 324"),
        ("0x7f000001", "name 0x7f000001"),
        ("other.test", "name other.test"),
        ("127.0.0.3", "address 127.0.0.3"),
        ("[::ffff:127.0.0.3]:323", "address 127.0.0.3"),
    ],
)
def test_a_target_that_is_not_allowed_gets_the_part_that_is_not(
    target: str, part: str, running: Exporter
) -> None:
    answer = running.probe(target)
    assert answer.status == 403
    assert f"is not allowed: {part} is not covered by --allow" in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/probe", 400),
        ("/probe?target=", 400),
        ("/probe?target=a&target=b", 400),
        ("/probe?target=localhost:0", 400),
        ("/probe?target=http://localhost", 400),
        ("/probe?target=%00", 400),
        ("/probe?target=%ff%0d%0a", 400),
        ("/nothing", 404),
        ("/", 200),
    ],
)
def test_a_wrong_request_gets_a_status_and_text(path: str, status: int, running: Exporter) -> None:
    answer = running.get(path)
    assert answer.status == status
    assert answer.text.strip()
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_prometheus_timeout_is_kept() -> None:
    with silence() as (address, _), exporter("--allow", address) as server:
        answer = server.probe(address, {"X-Prometheus-Scrape-Timeout-Seconds": "1"})
    assert "\nchrony_up 0.0\n" in answer.text
    (seconds,) = re.findall("chrony_scrape_duration_seconds ([0-9.]+)", answer.text)
    assert 0.5 <= float(seconds) < 25


@pytest.mark.parametrize("header", ["", "soon", "nan", "-1", "0", "1e400"])
def test_a_timeout_that_is_none_is_ignored(
    header: str, running: Exporter, remote: ScriptedChronyd
) -> None:
    answer = running.probe(remote.address, {"X-Prometheus-Scrape-Timeout-Seconds": header})
    assert "\nchrony_up 1.0\n" in answer.text


def test_dead_targets_cost_nobody_else() -> None:
    """Each occupies a place until its timeout."""
    with (
        silence() as (dead, _),
        ScriptedChronyd() as alive,
        ThreadPoolExecutor(60) as pool,  # which waits for the probes that the exporter's end ends
        exporter("--allow", dead, "--allow", alive.address, files=256) as server,
    ):
        assert server.is_up(alive.address)
        probes = [pool.submit(server.probe, dead) for _ in range(60)]
        refused = [probe.result() for probe in islice(as_completed(probes, timeout=60), 43)]
        assert {answer.status for answer in refused} == {503}
        assert "is not asked: all 17 places for new and silent targets are" in refused[0].text
        assert sum(probe.done() for probe in probes) == 43
        assert server.is_up(alive.address)
        assert not server.is_up()
        assert sum(probe.done() for probe in probes) == 43


def test_there_is_a_place_for_a_stranger_once_another_has_left() -> None:
    places = Places(4)
    with places.place("one"):
        with places.place("two"), pytest.raises(NoPlaceError, match="all 2 places for new"):
            places.place("three").__enter__()
        with places.place("three"):
            pass


def test_a_target_that_answered_has_a_place_until_it_does_not() -> None:
    places = Places(2)
    places.note("good", answered=True)
    with places.place("one"):
        with places.place("good"), pytest.raises(NoPlaceError, match="all 2 places are taken"):
            places.place("good").__enter__()
        places.note("good", answered=False)
        with pytest.raises(NoPlaceError, match="all 1 places for new"):
            places.place("good").__enter__()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(number: int) -> None:
    with exporter() as server:
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
    assert server.lines == []


def test_it_listens_on_loopback_and_probes_nothing_unless_told() -> None:
    options = _parser().parse([])
    assert (options.listen, options.allow) == (("127.0.0.1", 9123), [])


def test_a_port_that_is_taken_is_code_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        done = command("exporter", "--listen", place)
    assert done.returncode == 1
    assert done.stderr == f"pychrony: listening on {place}: Address already in use\n"


@pytest.mark.parametrize(
    ("allowed", "covered", "others"),
    [
        ("192.0.2.0/24", "192.0.2.7 192.0.2.7:323", "192.0.3.7 192.0.2.7:53"),
        ("192.0.2.0/24:1323", "192.0.2.7:1323", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7 ::ffff:192.0.2.7", ""),
        ("2001:db8::/32", "2001:db8::1 [2001:db8::1]:323", "2001:db9::1"),
        ("[2001:db8::/32]:1323", "[2001:db8::1]:1323", ""),
        ("::/0", "", "192.0.2.7 ::ffff:192.0.2.7"),
        ("0.0.0.0/0", "", "ntp.example.net"),
        ("ntp.example.net", "ntp.example.net NTP.Example.NET.", "ntp.example.net.evil.test"),
        ("*.example.net", "ntp.example.net", "example.net ntp.example.net:53"),
        ("*.example.net:1323", "ntp.example.net:1323", ""),
        ("*", "ntp.example.net", "192.0.2.7 2001:db8::1 /run/chrony/chronyd.sock"),
    ],
)
def test_a_target_is_allowed_by_host_and_port(allowed: str, covered: str, others: str) -> None:
    for target in covered.split():
        assert addresses_of(target, allowed)
    for target in others.split():
        with pytest.raises(RefusedError):
            addresses_of(target, allowed)


def addresses_of(target: str, *allowed: str, found: Sequence[str] = ("198.51.100.1",)) -> list[str]:
    """The addresses at which a target would be asked, if its name is found to have these."""

    async def resolve(address: Address) -> list[str]:
        return list(found)

    return asyncio.run(permitted(target, [parse_allowed(text) for text in allowed], resolve))


@pytest.mark.parametrize(
    ("allowed", "found", "expected"),
    [
        (["*.example.net"], ["198.51.100.1", "2001:db8::1"], ["198.51.100.1", "2001:db8::1"]),
        (["*.example.net", "198.51.100.0/24"], ["192.0.2.1", "198.51.100.1"], ["198.51.100.1"]),
        (["*.example.net", "10.0.0.0/8"], ["::ffff:10.1.2.3"], ["10.1.2.3"]),
        (["*.example.net"], ["127.0.0.1", "198.51.100.1"], ["198.51.100.1"]),
        (["*.example.net", "127.0.0.0/8"], ["127.0.0.1"], ["127.0.0.1"]),
    ],
)
def test_a_name_is_asked_only_at_addresses_that_are_allowed(
    allowed: list[str], found: list[str], expected: list[str]
) -> None:
    asked = addresses_of("ntp.example.net:323", *allowed, found=found)
    assert asked == [f"[{host}]:323" if ":" in host else f"{host}:323" for host in expected]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "169.254.0.1"],
)
@pytest.mark.parametrize("allowed", [["*"], ["*", "192.0.2.0/24"]])
def test_a_name_of_this_machine_is_refused_like_its_address(host: str, allowed: list[str]) -> None:
    with pytest.raises(RefusedError, match=r"address \S+ of 0x7f000001"):
        addresses_of("0x7f000001", *allowed, found=[host])


def test_a_sandbox_may_forbid_to_raise_the_limit_on_open_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbid(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")  # CPython's words for EPERM

    monkeypatch.setattr(resource, "setrlimit", forbid)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert open_files() == min(15_000, limit)
