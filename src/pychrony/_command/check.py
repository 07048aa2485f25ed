"""Judges the clock as a monitoring plug-in for Nagios, Icinga or Sensu: `pychrony check`.

Output, performance data and exit codes follow the guidelines of the Monitoring Plugins project:
https://www.monitoring-plugins.org/doc/guidelines.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

from .._model.ranges import plain
from .._version import __version__
from ..assessment import Assessment, Limits, State, age_of_update, in_words, judge, known_sources
from ..connection import get_all
from ..exceptions import ChronyError
from ..models import AllReports, Source, TrackingStatus
from .arguments import Parser, add_address, add_limits, add_timeout, limits

NAME = "CHRONY"
WIDTH = 100  # columns of the reports

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
  3  UNKNOWN: wrong options, no libchrony, an unreadable answer, or unwritable output
"""


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:
        """Exit with the line and the exit code that a monitoring system expects."""
        print(_line(State.UNKNOWN, f"{message}; see '{self.prog} --help'"))
        self.exit(State.UNKNOWN.value)


def run(argv: Sequence[str]) -> int:
    """Print the judgement, and return its state as an exit code."""
    options = _parser().parse(argv)
    wanted = limits(options)
    try:
        reports, error = _read(options.address, options.timeout)
        assessment = judge(error or reports, wanted)
        text = _text(reports, assessment, options.verbose)
        print(_line(assessment.state, text, _measured(reports, wanted)))
        if options.verbose > 1 and error is None:
            print("\n".join(map(_ascii, _details(reports))))
        return assessment.state.value
    except Exception as error:  # a traceback would end with 1, which is a WARNING
        print(_line(State.UNKNOWN, f"{type(error).__name__}: {error}"))
        return State.UNKNOWN.value


def _read(address: str | None, timeout: float | None) -> tuple[AllReports, ChronyError | None]:
    try:
        return get_all("tracking", "sources", address=address, timeout=timeout), None
    except ChronyError as error:
        return AllReports(), error


def _line(state: State, text: str, measured: Iterable[str] = ()) -> str:
    """Return the line; the only bar in it separates the performance data."""
    words = _ascii(f"{NAME} {state.name}: {' '.join(text.split())}")
    return " | ".join(filter(None, [words, " ".join(measured)]))


def _ascii(text: str) -> str:
    return text.replace("|", "/").replace("µ", "u")


def _text(reports: AllReports, assessment: Assessment, verbose: int) -> str:
    reasons, summary = "; ".join(assessment.reasons), ", ".join(_summary(reports))
    if assessment.state is State.OK:
        return "; ".join(filter(None, [summary, reasons]))
    return "; ".join(filter(None, [reasons, summary if verbose else ""]))


def _details(reports: AllReports) -> Iterator[str]:
    """Return both reports as text, line by line."""
    from .render import text_of  # slow to import, and only -vv needs it

    for name in ("tracking", "sources"):
        yield ""
        yield from text_of(reports, name, WIDTH).splitlines()


def _summary(reports: AllReports) -> Iterator[str]:
    if (tracking := reports.tracking) is not None:
        yield in_words(tracking)
    if (known := known_sources(reports)) is not None:
        yield f"{sum(map(Source.is_usable, known))} of {len(known)} sources usable"


def _measured(reports: AllReports, wanted: Limits) -> Iterator[str]:
    """Yield performance data: 'label'=value[unit];warning;critical;minimum;maximum."""
    if (tracking := reports.tracking) is not None:
        yield from _measured_clock(reports, tracking, wanted)
    if (known := known_sources(reports)) is not None:
        usable = sum(map(Source.is_usable, known))
        yield f"usable_sources={usable};{wanted.sources}:;;0;{len(known)}"


def _measured_clock(reports: AllReports, tracking: TrackingStatus, wanted: Limits) -> Iterator[str]:
    bounds = f"{wanted.warning};{wanted.critical};0"
    if not tracking.is_synchronized():
        yield f"error_bound=U;{bounds}"  # the guidelines' value for unknown
        return
    own = tracking.is_local_reference()
    yield f"error_bound={'U' if own else plain(tracking.error_bound) + 's'};{bounds}"
    yield f"offset={plain(tracking.offset)}s"
    yield f"frequency_ppm={plain(tracking.frequency)}"
    yield f"skew_ppm={plain(tracking.skew)}"
    yield f"stratum={tracking.stratum};{wanted.stratum};;0"
    yield f"last_update={round(age_of_update(reports, tracking))}s"


def _parser() -> Parser:
    parser = _Parser(prog="pychrony check", description=DESCRIPTION, epilog=EPILOG)
    add_address(parser, "-H")
    add_timeout(parser, "-t")
    add_limits(parser)
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="always show the error bound and what else is known; -vv also shows both reports",
    )
    parser.add_argument("-V", "--version", action="version", version=f"pychrony {__version__}")
    return parser
