"""Provides the pytest fixtures; imports nothing until one is used, since pytest always loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..models import RTCData, Source, SourceStats, TrackingStatus


@pytest.fixture
def tracking_status() -> TrackingStatus:
    """A synchronised clock, as from `pychrony.testing.make_tracking()`."""
    from ..testing import make_tracking

    return make_tracking()


@pytest.fixture
def source() -> Source:
    """A selected source, as from `pychrony.testing.make_source()`."""
    from ..testing import make_source

    return make_source()


@pytest.fixture
def source_stats() -> SourceStats:
    """The estimates of a source, as from `pychrony.testing.make_source_stats()`."""
    from ..testing import make_source_stats

    return make_source_stats()


@pytest.fixture
def rtc_data() -> RTCData:
    """A hardware clock, as from `pychrony.testing.make_rtc_data()`."""
    from ..testing import make_rtc_data

    return make_rtc_data()
