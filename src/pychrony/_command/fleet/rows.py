"""Judges the answer of one host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..._io.address import parse_address
from ...assessment import Assessment, Limits, State, judge, known_sources, reference_of
from ...exceptions import ChronyLibraryError
from ...many import get_many
from ...models import Answer, Source, TrackingStatus
from ..record import now


class Row(NamedTuple):
    """The result for one host."""

    host: str
    assessment: Assessment
    error: str | None = None
    """Name of the exception, if there are no reports."""
    wrong: str = ""
    """The reasons in a few words."""
    clock: TrackingStatus | None = None
    """The clock, if it is synchronised."""
    sources: list[Source] | None = None
    """Those whose name is resolved."""

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
            "error": self.error,
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
            found = Assessment(State.UNKNOWN, (str(error),))
            yield Row(host, found, type(error).__name__, str(error))
    for answer in get_many(valid, "tracking", "sources", timeout=timeout):
        if isinstance(answer.error, ChronyLibraryError):
            raise answer.error  # the same for all hosts
        yield _row(answer, limits)


def _row(answer: Answer, limits: Limits) -> Row:
    found = judge(answer, limits)
    if answer.error is not None:
        name = type(answer.error).__name__
        return Row(answer.address, found, name, answer.error._outcome)
    reports = answer.result()
    tracking = reports.tracking
    return Row(
        answer.address,
        found,
        wrong="; ".join(found.reasons),
        clock=tracking if tracking and tracking.is_synchronized() else None,
        sources=known_sources(reports),
    )
