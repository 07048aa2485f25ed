"""Compares pychrony with its last release, with a C loop over libchrony, and with chronyc.

All ask the same chronyds in turn, round by round, so that ratios of medians are reliable even on a
busy machine. Writes docs/speed.json (in pyperf's format), and from that docs/speed.md and
docs/speed.svg.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import chart
import daemons
import deadlines
import machine
import page
import serving
import startup
from competitors import OURS, Commands, Competitor, Cost, prepare
from results import Label, Results

from pychrony.testing import PrivateChronyd

DOCS = Path(__file__).parent.parent / "docs"
SOURCES = (3, 8, 50, 500)
REPORTS = ("tracking", "sources", "undecoded", "sourcestats", "ntpdata", "everything", "in-turn")


class Effort(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: float
    """The least time that a competitor runs in each round."""
    starts: int
    crowds: int
    """Rounds of asking many daemons."""
    daemons: int
    waits: int
    """Calls of each thread that get no answer."""


FULL = Effort(rounds=31, seconds=0.005, starts=41, crowds=7, daemons=daemons.DAEMONS, waits=40)
QUICK = Effort(rounds=1, seconds=0.0, starts=2, crowds=1, daemons=200, waits=1)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument("--redraw", action="store_true", help="only the chart, from speed.json")
    parser.add_argument("--output", type=Path, metavar="DIR", help="instead of docs")
    options = parser.parse_args()
    if options.redraw:
        folder = options.output or DOCS
        (folder / "speed.svg").write_text(chart.draw(Results.load(folder / "speed.json")))
        return
    with tempfile.TemporaryDirectory() as scratch:
        # Let every program use compiled modules, whatever the caller's environment says.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = scratch
        folder = options.output or (Path(scratch) if options.quick else DOCS)
        folder.mkdir(exist_ok=True)
        results = Results(machine.describe())
        effort = QUICK if options.quick else FULL
        for label, values in measure(Path(scratch), effort):
            results.add(label, values)
        results.save(folder / "speed.json")
        reached = page.write(results, folder)
    print("It works; the figures of a quick run mean nothing." if options.quick else reached)


def measure(scratch: Path, effort: Effort) -> Iterator[tuple[Label, list[float]]]:
    """Measure everything."""
    commands = prepare(scratch)
    yield from startup.imports(effort.starts)
    yield from daemons.measure(scratch, effort.crowds, effort.daemons)
    yield from deadlines.measure(effort.waits)
    with ExitStack() as resources:
        chronyds = {n: resources.enter_context(with_sources(n)) for n in SOURCES}
        for placement, (client, daemon) in placements().items():
            print(f"bench: single calls, {placement}", file=sys.stderr)
            for chronyd in chronyds.values():
                os.sched_setaffinity(chronyd.pid, daemon)
            for name, report, sources, costs in race(chronyds, commands, client, effort):
                for kind in ("wall", "cpu"):
                    values = [getattr(cost, kind) for cost in costs]
                    yield Label(name, report, kind, placement, sources), values
            with ExitStack() as asking:
                most = max(chronyds)
                busy = chronyds[most]
                competitor = Competitor(commands[OURS](busy.address), client, asking)
                label = Label(OURS, "sources", "cpu", placement, most)
                yield from serving.measure(busy.pid, competitor, label, effort.rounds)
        few, *_, many = chronyds.values()
        few.wait_until_synchronized()
        yield from startup.checks(few.address, effort.starts)
        yield from startup.memory(many.address, commands)


def with_sources(count: int) -> PrivateChronyd:
    """A chronyd that is its own reference, and has sources that it does not ask."""
    lines = (f"server 127.1.{n // 250}.{n % 250 + 1} offline" for n in range(count))
    return PrivateChronyd("local stratum 5", *lines)


def placements() -> dict[str, tuple[set[int], set[int]]]:
    """The CPUs on which client and chronyd run."""
    every = os.sched_getaffinity(0)
    first, last = {min(every)}, {max(every)}
    return {"same CPU": (last, last), "different CPUs": (first, last), "unpinned": (every, every)}


def race(
    chronyds: Mapping[int, PrivateChronyd], commands: Commands, cpus: set[int], effort: Effort
) -> Iterator[tuple[str, str, int, list[Cost]]]:
    """Ask each chronyd for each report with each competitor, round by round."""
    with ExitStack() as resources:
        competitors = {
            (name, sources): Competitor(command(chronyd.address), cpus, resources)
            for name, command in commands.items()
            for sources, chronyd in chronyds.items()
        }
        for competitor in competitors.values():
            competitor.ask("nothing", 1)  # until all have started, they disturb each other
        for report in REPORTS:
            calls = {n: c.calls_in(report, effort.seconds) for n, c in competitors.items()}
            costs: dict[tuple[str, int], list[Cost]] = {
                n: [] for n, count in calls.items() if count
            }
            for _ in range(effort.rounds):
                for each in random.sample(list(costs), len(costs)):  # so that the order differs
                    cost = competitors[each].ask(report, calls[each])
                    assert cost
                    costs[each].append(cost)
            for (name, sources), measured in costs.items():
                yield name, report, sources, measured


if __name__ == "__main__":
    main()
