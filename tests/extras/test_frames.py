"""Reports go into a pandas data frame with proper types: times as UTC, enums as categories."""

from __future__ import annotations

import json

import pandas as pd
from scripted import ScriptedChronyd

import pychrony
from pychrony import SourceMode, SourceState
from pychrony.testing import PrivateChronyd


def test_sources_are_a_data_frame(chronyd: PrivateChronyd) -> None:
    sources = pychrony.get_sources(chronyd.address)
    frame = pd.DataFrame([source.to_dict() for source in sources])
    frame["state"] = pd.Categorical(frame["state"], categories=[s.name for s in SourceState])
    assert list(frame["latest_meas"]) == [source.latest_meas for source in sources]
    assert frame["latest_meas"].dtype == float
    assert frame["reachability"].dtype == int
    assert isinstance(frame["state"].dtype, pd.CategoricalDtype)
    assert list(frame["state"]) == [source.state.name for source in sources]


def test_times_are_utc_to_the_nanosecond(chronyd: PrivateChronyd) -> None:
    reports = [pychrony.get_all("tracking", address=chronyd.address) for _ in range(3)]
    frame = pd.DataFrame([r.tracking.to_dict() for r in reports if r.tracking])
    frame["time"] = pd.to_datetime([r.time_ns for r in reports], unit="ns", utc=True)
    frame["ref_time"] = pd.to_datetime(frame["ref_time_ns"], unit="ns", utc=True)
    frame = frame.set_index("time")
    assert str(frame.index.dtype) == "datetime64[ns, UTC]"
    assert [time.value for time in frame.index] == [r.time_ns for r in reports]
    assert [time.value for time in frame["ref_time"]] == list(frame["ref_time_ns"])
    assert (frame.index - frame["ref_time"] < pd.Timedelta(minutes=1)).all()


def test_reports_about_sources_join_by_name() -> None:
    with ScriptedChronyd() as chronyd:
        reports = pychrony.get_all("sources", "sourcestats", address=chronyd.address)
    frames = [
        pd.DataFrame([r.to_dict() | {"name": r.name} for r in records]).set_index("name")
        for records in (reports.sources or [], reports.sourcestats or [])
    ]
    joined = frames[0].merge(frames[1], left_index=True, right_index=True, suffixes=("", "_stats"))
    assert list(joined.index) == ["192.0.2.1", "PPS0"]
    assert joined["std_dev"].notna().all()


def test_a_log_of_json_lines_is_a_data_frame(chronyd: PrivateChronyd) -> None:
    tracking = pychrony.get_tracking(chronyd.address)
    line = {"time": "2026-09-21T13:33:20.000000Z", "answer": tracking.to_dict()}
    frame = pd.json_normalize([json.loads(json.dumps(line))])
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    frame["answer.leap_status"] = frame["answer.leap_status"].astype("category")
    assert frame["time"][0] == pd.Timestamp("2026-09-21T13:33:20", tz="UTC")
    assert frame["answer.offset"][0] == tracking.offset
    assert list(frame["answer.leap_status"].cat.categories) == [tracking.leap_status.name]


def test_what_chronyd_does_not_say_is_missing() -> None:
    with PrivateChronyd("server 127.0.0.1 port 9") as chronyd:
        (source,) = pychrony.get_sources(chronyd.address)
    frame = pd.DataFrame([source.to_dict()]).astype({"last_sample_ago": "Int64"})
    assert frame["last_sample_ago"].isna().all()
    assert frame["mode"][0] == SourceMode.CLIENT.name
