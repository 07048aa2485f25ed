"""Sums up logs of `--json --watch` for an audit of the clock: `pychrony history`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from ..._model.durations import interval, seconds
from ..arguments import Parser, add_json, duration
from ..exits import BAD, UNUSABLE, USAGE, complain
from ..grid import aligned
from ..logs import Log, add_arguments, chosen, read
from ..logs.columns import ASKED
from ..logs.stretches import ABOVE
from ..screen import write
from ..values import NOTHING
from .sums import PERCENTILES, Account, Sum, sum_up

DESCRIPTION = """\
Sum up logs of --json --watch, for each day (UTC) and in all: percentiles of the clock's error
bound; how long the bound was above --limit, the clock was not synchronised to a source, chronyd did
not answer, or no lines were written; and how often the clock was set.
"""

EPILOG = """\
examples:
  pychrony all --json --watch 60 >>clock.log    a line each minute, until Ctrl-C
  pychrony history clock.log
  pychrony history clock.log* --since 2026-11-01 --limit 100us

Percentiles count lines: half of the lines have an error bound of at most the value below '50 %'.
Times count each line until the next one, or for the usual interval where lines are missing.

exit codes:
  0  in every answer, the error bound was within the limit; or there is no limit
  1  the error bound was above the limit, or the clock was not synchronised
  2  the command line is wrong, or a log cannot be read
  4  the logs have no lines about the clock
"""


def run(argv: Sequence[str]) -> int:
    """Sum up the logs."""
    parser = _parser()
    options = parser.parse(argv)
    log = Log(options.since, options.until)
    if not read(log, options.logs):
        return USAGE
    histories = [(a, log.history(a)) for a in chosen(parser, log, options.address)]
    accounts = [sum_up(a, h, options.limit) for a, h in histories if h and h.has(ASKED)]
    if not accounts:
        complain(
            "no lines about the clock: a log comes from 'pychrony all --json --watch INTERVAL'"
        )
        return UNUSABLE
    if options.json:
        write(json.dumps([_plain(account, options.limit) for account in accounts], indent=2))
    else:
        write("\n\n".join("\n".join(_text(account, options.limit)) for account in accounts))
    kept = all(account.whole.keeps(options.limit) for account in accounts)
    return 0 if kept else BAD


def _plain(account: Account, limit: float | None) -> dict[str, Any]:
    return {
        "address": account.address,
        "from": _moment(account.start),
        "until": _moment(account.end),
        "limit": limit,
        "days": [{"day": day, **_plain_sum(s, limit)} for day, s in account.days.items()],
        "all": _plain_sum(account.whole, limit),
    }


def _plain_sum(sum_: Sum, limit: float | None) -> dict[str, Any]:
    known = {key: round(value, 6) for key, value in sum_.seconds.items()}
    return {
        "lines": sum_.lines,
        "error_bound": {str(p): value for p, value in sum_.percentiles().items()},
        "seconds": {**known, ABOVE: None if limit is None else known[ABOVE]},
        "steps": [
            {"time": _moment(t), "seconds": round(step.seconds, 6)} for t, step in sum_.steps
        ],
    }


def _text(account: Account, limit: float | None) -> Iterator[str]:
    yield (
        f"chronyd at {account.address or 'an unknown address'}, "
        f"{_moment(account.start)} to {_moment(account.end)}"
    )
    above = "" if limit is None else f", and how long it was above {seconds(limit)}"
    yield f"percentiles of the error bound{above}"
    yield ""
    rows = [
        [
            *("day", "lines", *(f"{p} %" for p in PERCENTILES), *(["above"] if above else [])),
            *("not synchronised", "no answer", "no lines", "steps"),
        ],
        *(_row(day, sum_, limit) for day, sum_ in account.days.items()),
        _row("all", account.whole, limit),
    ]
    yield from aligned(zip(*rows, strict=True), left={"day"})
    if account.whole.steps:
        yield ""
    for time, step in account.whole.steps:
        yield f"{_moment(time)}: {step}"


def _row(name: str, sum_: Sum, limit: float | None) -> list[str]:
    bounds = [NOTHING if b is None else seconds(b) for b in sum_.percentiles().values()]
    times = [
        interval(value) if value else NOTHING
        for state, value in sum_.seconds.items()
        if not (state == ABOVE and limit is None)
    ]
    return [name, str(sum_.lines), *bounds, *times, str(len(sum_.steps) or NOTHING)]


def _moment(time: float) -> str:
    return f"{datetime.fromtimestamp(time, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def _parser() -> Parser:
    parser = Parser(prog="pychrony history", description=DESCRIPTION, epilog=EPILOG)
    add_arguments(parser)
    parser.add_argument(
        "--limit",
        type=duration,
        metavar="BOUND",
        help="largest error bound that is allowed, such as 100us",
    )
    add_json(parser, "the sums")
    return parser
