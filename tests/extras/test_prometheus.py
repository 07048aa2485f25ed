"""Tests the shipped rules, alerts and dashboard with a real Prometheus and many chronyds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from limits import wait_until
from scripted import ScriptedChronyd, script
from scripted.faults import on, refuse
from scripted.wire import Command, Record, Status, ntp_source, source, tracking
from servers import Exporter, Prometheus, alertmanager, exporter, prometheus

import pychrony
from pychrony.testing import PrivateChronyd

CONTRIB = Path(__file__).parents[2] / "contrib"
DASHBOARD: dict[str, Any] = json.loads((CONTRIB / "grafana" / "chrony.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [
    (panel["title"], target["refId"], target["expr"])
    for panel in PANELS
    for target in panel["targets"]
]

SCRAPES = 4  # enough for a rate, and for every rule to see the results of others

GOOD = "good"  # the chronyd beside the exporter; the others are probed


class Fleet(NamedTuple):
    """Chronyds in every state, an exporter for all of them, and what scrapes it."""

    addresses: dict[str, str]
    exporter: Exporter
    prometheus: Prometheus

    def query(self, expression: str) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Return the result of a query by the name of the chronyd; "" if it is about none."""
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for labels, value in self.prometheus.query(expression):
            found.setdefault(self.name_of(labels), []).append((labels, value))
        return found

    def values(self, expression: str) -> dict[str, float]:
        """The same for a query with one value for each chronyd."""
        return {name: value for name, ((_, value),) in self.query(expression).items()}

    def name_of(self, labels: dict[str, str]) -> str:
        if labels.get("job") == "chrony":
            return GOOD
        names = {address: name for name, address in self.addresses.items()}
        return names[labels["instance"]] if "instance" in labels else ""


def chronyd_with(record: Record) -> ScriptedChronyd:
    return ScriptedChronyd(script([ntp_source()], record))


def scripted_chronyds() -> dict[str, ScriptedChronyd]:
    states = {"192.0.2.1": 2, "192.0.2.2": 2, "192.0.2.3": 0, "192.0.2.4": 1}
    disagreeing = [ntp_source(address, source(state=state)) for address, state in states.items()]
    return {
        "plain": ScriptedChronyd(),
        "leap": chronyd_with(tracking(leap_status=1)),
        "late": chronyd_with(tracking(root_dispersion=0.5)),
        "lost": chronyd_with(tracking(root_dispersion=3.0)),
        "false": ScriptedChronyd(script(disagreeing)),
        "future": chronyd_with(tracking(reference_time=4_000_000_000 * 10**9)),
        "denied": ScriptedChronyd(opencommands=()),
        "odd": ScriptedChronyd(fault=on(Command.SERVERSTATS, refuse(Status.FAILED))),
    }


@pytest.fixture(scope="module")
def fleet(server: PrivateChronyd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as running:
        good = running.enter_context(PrivateChronyd(server.as_source()))
        idle = running.enter_context(PrivateChronyd())
        alone = running.enter_context(PrivateChronyd("server 127.0.0.1 port 9"))
        good.wait_until_synchronized()
        addresses = {
            "own": server.command_address,
            "idle": idle.command_address,
            "alone": alone.command_address,
            "dead": "127.0.0.1:9",
        }
        for name, chronyd in scripted_chronyds().items():
            addresses[name] = running.enter_context(chronyd).address
        allowed = [word for address in addresses.values() for word in ("--allow", address)]
        addresses["refused"] = "192.0.2.99"
        serving = running.enter_context(exporter("--address", good.address, *allowed))
        folder = tmp_path_factory.mktemp("prometheus")
        for path in (CONTRIB / "prometheus").glob("*.yml"):
            shutil.copy(path, folder)
        configuration = example_for(serving, addresses)
        asking = running.enter_context(prometheus(configuration, folder))
        addresses[GOOD] = good.address
        found = Fleet(addresses, serving, asking)
        wait_until(lambda: is_scraped(found))
        yield found


def example_for(server: Exporter, addresses: dict[str, str], interval: str = "5s") -> str:
    """Return the shipped configuration with these addresses and a short interval.

    The interval is Prometheus's timeout, too: a busy machine may take a second or two.
    """
    text = (CONTRIB / "prometheus" / "prometheus.yml").read_text()
    place = server.url.removeprefix("http://")
    replacements = {
        "ntp1.example.net:9123": place,
        "127.0.0.1:9123": place,
        '["192.0.2.1", "ntp2.example.net"]': json.dumps(list(addresses.values())),
    }
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    return f"global: {{scrape_interval: {interval}, evaluation_interval: 1s}}\n{text}"


def is_scraped(fleet: Fleet) -> bool:
    done = fleet.query("count_over_time(chrony_up[1h])")
    rules = fleet.query("count_over_time(chrony:sources:count[1h])")
    least = min((value for series in done.values() for _, value in series), default=0)
    is_complete = done.keys() == fleet.addresses.keys() - {"refused"}
    return is_complete and bool(rules) and least >= SCRAPES


def promtool(*arguments: str, text: str | None = None) -> str:
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=CONTRIB / "prometheus",
        input=text,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# The metrics.


def test_promtool_finds_nothing_in_the_metrics(fleet: Fleet) -> None:
    for text in (fleet.exporter.metrics(), fleet.exporter.probe(fleet.addresses["plain"]).text):
        assert promtool("check", "metrics", text=text) == ""


def test_prometheus_has_nothing_to_complain_about(fleet: Fleet) -> None:
    targets = fleet.prometheus.api("targets")["activeTargets"]
    problems = {t["labels"]["instance"]: t["lastError"] for t in targets if t["lastError"]}
    assert problems == {"192.0.2.99": "server returned HTTP status 403 Forbidden"}


# Rules and alerts.


def test_promtool_and_amtool_find_nothing() -> None:
    files = [path.name for path in (CONTRIB / "prometheus").glob("chrony.*s.yml")]
    assert len(files) == 2  # rules and alerts
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", *files)
    assert "SUCCESS" in promtool("test", "rules", "chrony.test.yml")
    assert "FAILED" not in promtool("check", "config", "prometheus.yml")
    check = ["amtool", "check-config", str(CONTRIB / "prometheus" / "alertmanager.yml")]
    assert "SUCCESS" in subprocess.run(check, capture_output=True, text=True, check=True).stdout


def alerting(server: Prometheus) -> dict[str, str]:
    """The queries of the alerts that Prometheus read from the rule files, by name."""
    found = [rule for group in server.api("rules")["groups"] for rule in group["rules"]]
    assert [rule.get("lastError", "") for rule in found] == [""] * len(found)
    return {rule["name"]: rule["query"] for rule in found if rule["type"] == "alerting"}


UNKNOWN = {"idle", "alone", "dead", "denied", "refused"}  # there is no bound, nor a last update


def test_the_bound_is_the_one_that_the_models_have(fleet: Fleet) -> None:
    bounds = fleet.values("chrony:clock_error_bound_seconds")
    assert bounds.keys() == fleet.addresses.keys() - UNKNOWN
    for name in ("plain", "late", "lost"):
        clock = pychrony.get_tracking(fleet.addresses[name])
        assert bounds[name] == pytest.approx(clock.error_bound)


# How many sources a chronyd has that are:
COUNTED = ["", "_reachable", "_usable", "_falseticker", "_comparable"]
COUNTS = {
    GOOD: [1, 1, 1, 0, 1],
    "own": [0, 0, 0, 0, 0],
    "idle": [0, 0, 0, 0, 0],
    "alone": [1, 0, 0, 0, 0],
    "plain": [2, 2, 2, 0, 2],
    "leap": [1, 1, 1, 0, 1],
    "late": [1, 1, 1, 0, 1],
    "lost": [1, 1, 1, 0, 1],
    "false": [4, 4, 1, 2, 3],
    "odd": [2, 2, 2, 0, 2],
    "future": [1, 1, 1, 0, 1],
}


@pytest.mark.parametrize(("column", "kind"), [*enumerate(COUNTED)])
def test_sources_are_counted(column: int, kind: str, fleet: Fleet) -> None:
    expected = {chronyd: counts[column] for chronyd, counts in COUNTS.items()}
    assert fleet.values(f"chrony:sources{kind}:count") == expected


def test_an_update_is_due_at_the_longest_of_the_intervals(fleet: Fleet) -> None:
    due = fleet.values("chrony:update_due_seconds")
    clock = pychrony.get_tracking(fleet.addresses["plain"])
    polls = [2.0**s.poll for s in pychrony.get_sources(fleet.addresses["plain"])]
    assert due["plain"] == pytest.approx(max(clock.update_interval, *polls))
    assert 0 < due[GOOD] < 10


def test_the_age_of_an_update_is_that_of_its_time(fleet: Fleet) -> None:
    ages = fleet.values("chrony:update_age_seconds")
    assert ages.keys() == fleet.addresses.keys() - UNKNOWN
    clock = pychrony.get_tracking(fleet.addresses["plain"])
    assert ages["plain"] == pytest.approx(time.time() - clock.ref_time, abs=60)
    assert ages["future"] < -1e9
    assert 0 <= ages[GOOD] < 60


# Most scripted chronyds were last updated years ago.
SCRIPTED = {"plain", "leap", "late", "lost", "false", "odd"}
FIRING = {
    "ChronyNotScraped": {"refused"},
    "ChronyJobMissing": set(),
    "ChronyDown": {"dead"},
    "ChronyRestarting": set(),
    "ChronyReportsDenied": {"denied"},
    "ChronyClocksDisagree": {"future"},
    "ChronyNotSynchronised": {"idle", "alone"},
    "ChronyOwnReference": {"own"},
    "ChronyNoSourceReachable": {"alone"},
    "ChronyNoSources": {"own", "idle"},
    "ChronyFalsetickers": {"false"},
    "ChronyClockErrorCritical": {"lost"},
    "ChronyClockErrorLarge": {"late"},
    "ChronyUpdateOverdue": SCRIPTED,
    "ChronyTooFewSources": {"alone"},
    "ChronySourceUnreachable": {"alone"},
    "ChronyReportUnusable": {"odd"},
    "ChronyLeapSecondDue": {"leap"},
}


def test_an_alert_finds_the_clocks_that_it_is_for(fleet: Fleet) -> None:
    alerts = alerting(fleet.prometheus)
    assert {name: set(fleet.query(query)) for name, query in alerts.items()} == FIRING


def test_an_alert_finds_a_restless_chronyd(tmp_path: Path, server: PrivateChronyd) -> None:
    """The windows are shorter here, and so are the chronyd's lives."""
    for path in (CONTRIB / "prometheus").glob("chrony.*s.yml"):
        text = path.read_text().replace("[30m", "[30s").replace("offset 30m", "offset 30s")
        (tmp_path / path.name).write_text(text)
    with (
        PrivateChronyd(server.as_source("iburst minpoll 3 maxpoll 3")) as restless,
        exporter("--allow", restless.command_address) as serving,
        prometheus(
            example_for(serving, {"restless": restless.command_address}, "2s"), tmp_path
        ) as asking,
    ):
        expression = alerting(asking)["ChronyRestarting"]

        def is_found() -> bool:
            restless.restart()
            time.sleep(3)
            return bool(asking.query(expression))

        wait_until(is_found)


def test_each_alert_has_a_section_in_the_manual(fleet: Fleet) -> None:
    manual = (CONTRIB.parent / "docs" / "guides" / "alerts.md").read_text()
    sections = re.findall(r"^## (Chrony\w+)$", manual, re.MULTILINE)
    assert sections == list(alerting(fleet.prometheus))
    for group in fleet.prometheus.api("rules")["groups"]:
        for rule in group["rules"]:
            if rule["type"] == "alerting":
                page, _, anchor = rule["annotations"]["runbook_url"].rpartition("#")
                assert page == "https://arunderwood.github.io/pychrony/guides/alerts.html"
                assert anchor == rule["name"].lower()


CAUSES = {
    **{name: {"ChronyUpdateOverdue"} for name in SCRIPTED},
    "own": {"ChronyNoSources"},
    "idle": {"ChronyNoSources"},
    "alone": {"ChronyNoSourceReachable"},
    "dead": {"ChronyDown"},
    "denied": {"ChronyReportsDenied"},
    "refused": {"ChronyNotScraped"},
    "future": {"ChronyClocksDisagree"},
    "false": {"ChronyFalsetickers"},
    "lost": {"ChronyClockErrorCritical"},
    "odd": {"ChronyReportUnusable", "ChronyUpdateOverdue"},
}


def test_each_host_has_one_cause(fleet: Fleet, tmp_path: Path) -> None:
    """Alertmanager leaves one alert of each clock, and others that have causes of their own."""
    alerts = fleet.prometheus.api("alerts")["alerts"]

    def loud() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for alert in manager.alerts():
            labels = alert["labels"]
            if alert["status"]["state"] == "active" and labels["severity"] != "info":
                found.setdefault(fleet.name_of(labels), set()).add(labels["alertname"])
        return found

    with alertmanager(CONTRIB / "prometheus" / "alertmanager.yml", tmp_path) as manager:
        manager.send([{"labels": a["labels"], "annotations": a["annotations"]} for a in alerts])
        wait_until(lambda: loud() == CAUSES)  # at first, the effects are there without the causes


# The dashboard.


def filled_in(expression: str) -> str:
    """A query of the dashboard with Grafana's variables replaced, as for "All"."""
    text = expression.replace("$__rate_interval", "1m")
    text = re.sub(r"\$(job|instance|source)\b", ".*", text)
    assert "$" not in text
    return text


@pytest.mark.parametrize(("panel", "ref", "expression"), TARGETS)
def test_a_query_of_the_dashboard_returns_something(
    panel: str, ref: str, expression: str, fleet: Fleet
) -> None:
    found = fleet.query(filled_in(expression))
    assert found, (panel, ref)


def expression_of(panel: str, ref: str = "A") -> str:
    (found,) = [e for title, r, e in TARGETS if (title, r) == (panel, ref)]
    return filled_in(found)


def test_the_numbers_on_the_dashboard(fleet: Fleet) -> None:
    expected = {
        "Clocks that answer": 12 / 13,
        "Not synchronised": 2,
        "Only their own reference": 1,
        "No source reachable": 1,
        "Largest error bound": pychrony.get_tracking(fleet.addresses["lost"]).error_bound,
    }
    shown = {panel: fleet.values(expression_of(panel)) for panel in expected}
    assert shown == {panel: {"": pytest.approx(number)} for panel, number in expected.items()}


def test_synchronisation_and_leap_seconds_are_shown(fleet: Fleet) -> None:
    states = fleet.values(expression_of("Synchronisation"))
    expected = dict.fromkeys(fleet.addresses.keys() - {"dead", "denied", "refused"}, 0)
    expected["leap"] = 1
    assert states == expected | {"idle": 3, "alone": 3}


def test_the_state_of_each_source_is_shown(fleet: Fleet) -> None:
    states = fleet.query(expression_of("State in source selection"))
    named = {labels["source_name"]: value for labels, value in states["false"]}
    (mappings,) = next(
        panel["fieldConfig"]["defaults"]["mappings"]
        for panel in PANELS
        if panel["title"] == "State in source selection"
    )
    words = {name: mappings["options"][f"{value:g}"]["text"] for name, value in named.items()}
    assert words == {
        "192.0.2.1": "falseticker",
        "192.0.2.2": "falseticker",
        "192.0.2.3": "selected",
        "192.0.2.4": "not selectable",
    }


def test_what_a_panel_selects_is_what_chronyd_says(fleet: Fleet) -> None:
    reports = pychrony.get_all(address=fleet.addresses["plain"])
    first, stats = reports.require("sources")[0], reports.require("sourcestats")[0]
    clock = reports.require("tracking")
    expected = {
        "Offset": -clock.offset,  # positive: ahead
        "Frequency": clock.frequency,
        "Skew": clock.skew,
        "Stratum": clock.stratum,
        "Root delay and root dispersion": clock.root_delay,
        "Offset of the last sample": first.latest_meas,
        "Error bound of the last sample": first.latest_meas_err,
        "Reachability": bin(first.reachability).count("1") / 8,
        "Standard deviation of the samples": stats.std_dev,
        "Age of the last sample": first.last_sample_ago,
    }
    shown = {}
    for panel in expected:
        series = fleet.query(expression_of(panel))["plain"]
        values = {labels.get("source_name", first.name): value for labels, value in series}
        shown[panel] = values[first.name]
    assert shown == pytest.approx(expected)
    inside = fleet.values(expression_of("Offset inside its error bound", "C"))
    assert inside["plain"] == pytest.approx(-clock.offset)


def test_requests_of_the_exporter_show_as_a_rate(fleet: Fleet) -> None:
    assert fleet.values(expression_of("NTS-KE and monitoring", "C"))[GOOD] > 0


def test_the_variables_of_the_dashboard_have_values(fleet: Fleet) -> None:
    variables = {v["name"]: v for v in DASHBOARD["templating"]["list"]}
    assert variables.keys() == {"datasource", "job", "worst", "instance", "source"}
    for name in ("job", "source"):
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variables[name]["query"]["query"])
        assert match
        series = {"match[]": filled_in(match[1])}
        values = fleet.prometheus.api(f"label/{match[2]}/values", **series)
        assert len(values) >= 2


def test_the_dashboard_shows_the_worst_clocks_by_default(fleet: Fleet) -> None:
    variables = {v["name"]: v for v in DASHBOARD["templating"]["list"]}
    assert variables["worst"]["current"]["value"] == "10"
    assert "allValue" not in variables["instance"]  # "All" stands for those that are listed
    match = re.fullmatch(r"query_result\((.+)\)", variables["instance"]["query"]["query"])
    assert match
    expression = match[1].replace("$worst", "7")
    listed = fleet.query(filled_in(expression))
    assert listed.keys() == {"idle", "alone", "dead", "denied", "lost", "late"} | (
        listed.keys() & {"own", "future", "plain", "leap", "false", "odd", GOOD}
    )
    assert len(listed) == 7


def test_the_dashboard_leads_from_a_fleet_to_a_host() -> None:
    (table,) = [panel for panel in PANELS if panel["title"].startswith("The worst clocks")]
    (links,) = [
        entry["value"]
        for override in table["fieldConfig"]["overrides"]
        for entry in override["properties"]
        if entry["id"] == "links"
    ]
    assert f"/d/{DASHBOARD['uid']}?" in links[0]["url"]
    assert links[0]["url"].endswith("&var-instance=${__value.raw}")


def test_the_dashboard_is_well_formed() -> None:
    assert DASHBOARD["schemaVersion"] >= 36  # the first with data sources as objects
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {t["datasource"]["uid"] for t in panel["targets"]} == {"${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_no_panel_lies_over_another() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        assert 0 <= x < x + w <= 24
        return {(column, row) for column in range(x, x + w) for row in range(y, y + h)}

    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])
