"""Judges the answer of one host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..._io.address import parse_address
from ...assessment import Assessment, Limits, State, judge, known_sources, reference_of
from ...exceptions import ChronyError, ChronyLibraryError
from ...many import get_many
from ...models import AllReports, Source, TrackingStatus
from ..record import now


class Row(NamedTuple):
    """The result for one host."""

    host: str
    assessment: Assessment
    error: Exception | None = None
    """Why there are no reports."""
    reports: AllReports = AllReports()

    @property
    def wrong(self) -> str:
        """The reasons in a few words."""
        if isinstance(self.error, ChronyError):
            return self.error._outcome
        return "; ".join(self.assessment.reasons)

    @property
    def clock(self) -> TrackingStatus | None:
        """The clock, if it is synchronised."""
        clock = self.reports.tracking
        return clock if clock and clock.is_synchronized() else None

    @property
    def sources(self) -> list[Source] | None:
        """The sources whose name is resolved, if they are known."""
        return known_sources(self.reports)

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return self.assessment.state is State.OK

    @property
    def usable(self) -> int | None:
        """How many sources are usable; `None` if that is not known."""
        return None if self.sources is None else sum(map(Source.is_usable, self.sources))

    @property
    def bound(self) -> float | None:
        """The error bound in seconds, if the clock has one."""
        if self.clock is None or self.clock.is_local_reference():
            return None
        return self.clock.error_bound

    @property
    def badness(self) -> tuple[int, float, str]:
        """A key for sorting that puts the worst host first."""
        bound = float("inf") if self.bound is None else self.bound
        return -self.assessment.state.severity, -bound, self.host

    def plain(self) -> dict[str, Any]:
        """Return the row as `json.dumps()` takes it."""
        clock = self.clock
        return {
            "time": now(),
            "host": self.host,
            "state": self.assessment.state.name,
            "reasons": list(self.assessment.reasons),
            "error": self.error and type(self.error).__name__,
            "error_bound": self.bound,
            "offset": clock and clock.offset,
            "stratum": clock and clock.stratum,
            "reference": clock and reference_of(clock),
            "usable_sources": self.usable,
            "sources": None if self.sources is None else len(self.sources),
        }


def judged(hosts: Iterable[str], timeout: float | None, limits: Limits) -> Iterator[Row]:
    """Ask all hosts, and yield the result for each as it arrives."""
    valid = []
    for host in hosts:
        try:
            parse_address(host)
            valid.append(host)
        except ValueError as error:
            yield Row(host, Assessment(State.UNKNOWN, (str(error),)), error)
    for answer in get_many(valid, "tracking", "sources", timeout=timeout):
        if isinstance(answer.error, ChronyLibraryError):
            raise answer.error  # the same for all hosts
        yield Row(
            answer.address, judge(answer, limits), answer.error, answer.reports or AllReports()
        )
