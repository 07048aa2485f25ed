"""Judges the clock as a monitoring plug-in for Nagios, Icinga or Sensu: `pychrony check`.

Output, performance data and exit codes follow the guidelines of the Monitoring Plugins project:
https://www.monitoring-plugins.org/doc/guidelines.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from .._model.durations import seconds
from .._model.placeholders import is_resolved
from ..assessment import Assessment, State, age_of_update, assess
from ..connection import ChronyConnection
from ..exceptions import ChronyError
from ..models import AllReports, Source, TrackingStatus
from .arguments import Limits, Parser, add_address, add_limits, duration_or_none, limits

NAME = "CHRONY"

DESCRIPTION = """\
Judge the clock in one line, as a monitoring plug-in (Nagios, Icinga, Sensu).

CRITICAL: chronyd does not answer, is not synchronised, is its own reference, or has no reachable
source; most of its sources are falsetickers; the error bound is above --critical; the last update
is in the future.
WARNING: the error bound is above --warning; the last update is older than eight update intervals;
fewer than --sources sources are usable; the stratum is above --stratum.
"""

EPILOG = """\
examples:
  pychrony check
  pychrony check --warning 10ms --critical 100ms --sources 3
  pychrony check --address ntp1.example.net --stratum 2

The error bound is |offset| + root dispersion + root delay / 2, as in chronyc's manual.

exit codes:
  0  OK
  1  WARNING
  2  CRITICAL
  3  UNKNOWN: wrong options, no libchrony, an answer that cannot be read, or output that cannot be
     written
"""


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:
        """Exit with the line and the exit code that a monitoring system expects."""
        print(_line(State.UNKNOWN, f"{message}; see '{self.prog} --help'"))
        self.exit(State.UNKNOWN.value)


def run(argv: Sequence[str]) -> int:
    """Print the judgement, and return its state as an exit code."""
    parser = _parser()
    options = parser.parse(argv)
    wanted = limits(parser, options)
    try:
        connection = ChronyConnection(options.address, timeout=options.timeout)
    except ValueError as error:
        parser.error(str(error))
    try:
        reports = _read(connection)
        assessment = assess(reports, **wanted)
        print(_line(assessment.state, _text(reports, assessment), _measured(reports, wanted)))
        return assessment.state.value
    except Exception as error:  # a traceback would end with 1, which is a WARNING
        print(_line(State.UNKNOWN, f"{type(error).__name__}: {error}"))
        return State.UNKNOWN.value


def _read(connection: ChronyConnection) -> AllReports | ChronyError:
    try:
        with connection:
            return connection.get_all("tracking", "sources")
    except ChronyError as error:
        return error


def _line(state: State, text: str, measured: Sequence[str] = ()) -> str:
    """Return the line; the only bar in it separates the performance data."""
    words = f"{NAME} {state.name}: {' '.join(text.split())}".replace("|", "/").replace("µ", "u")
    return " | ".join([words, *([" ".join(measured)] if measured else [])])


def _text(reports: AllReports | ChronyError, assessment: Assessment) -> str:
    reasons = "; ".join(assessment.reasons)
    if isinstance(reports, ChronyError) or assessment.state is not State.OK:
        return reasons
    return "; ".join(filter(None, [", ".join(_summary(reports)), reasons]))


def _summary(reports: AllReports) -> Iterator[str]:
    if (tracking := reports.tracking) is not None:
        own = tracking.is_local_reference()
        yield "its own reference" if own else f"error bound {seconds(tracking.error_bound)}"
        yield f"stratum {tracking.stratum}"
        yield f"reference {tracking.reference_ip or tracking.reference_id_name}"
    if reports.sources is not None:
        known = [*filter(is_resolved, reports.sources)]
        yield f"{sum(map(Source.is_usable, known))} of {len(known)} sources usable"


def _measured(reports: AllReports | ChronyError, wanted: Limits) -> list[str]:
    """Return performance data: 'label'=value[unit];warning;critical;minimum;maximum."""
    if isinstance(reports, ChronyError):
        return []
    found: list[str] = []
    if (tracking := reports.tracking) is not None:
        found += _measured_clock(reports, tracking, wanted)
    if reports.sources is not None:
        known = [*filter(is_resolved, reports.sources)]
        usable = sum(map(Source.is_usable, known))
        found.append(f"usable_sources={usable};{wanted['sources']}:;;0;{len(known)}")
    return found


def _measured_clock(reports: AllReports, tracking: TrackingStatus, wanted: Limits) -> Iterator[str]:
    bounds = f"{_number(wanted['warning'])};{_number(wanted['critical'])};0"
    if not tracking.is_synchronized():
        yield f"error_bound=U;{bounds}"  # the guidelines' value for unknown
        return
    own = tracking.is_local_reference()
    yield f"error_bound={'U' if own else _number(tracking.error_bound) + 's'};{bounds}"
    yield f"offset={_number(tracking.offset)}s"
    yield f"frequency_ppm={_number(tracking.frequency)}"
    yield f"skew_ppm={_number(tracking.skew)}"
    yield f"stratum={tracking.stratum};{wanted['stratum']};;0"
    yield f"last_update={round(age_of_update(reports, tracking))}s"


def _number(value: float) -> str:
    """Return a number without an exponent, which not all graphing tools understand."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _parser() -> Parser:
    parser = _Parser(prog="pychrony check", description=DESCRIPTION, epilog=EPILOG)
    add_address(parser, "-H")
    parser.add_argument(
        "-t",
        "--timeout",
        type=duration_or_none,
        default=5.0,
        metavar="DURATION",
        help="how long to wait for chronyd, over all requests (default: 5s); 'none' waits for ever",
    )
    add_limits(parser)
    return parser
