"""Draws how the time of a list grows with the number of sources, as SVG."""

from __future__ import annotations

import io

import matplotlib
from competitors import CHRONYC, OURS, RELEASED, C
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter, NullLocator
from results import Label, Results
from targets import DIFFERENT, SAME

SOURCES = (3, 8, 50, 500)
STYLES = {C: "#555555", OURS: "#0969da", RELEASED: "#bf5b00", CHRONYC: "#1a7f37"}
MARKS = {C: "s", OURS: "o", RELEASED: "^", CHRONYC: "D"}  # for people who do not see colours


def draw(results: Results) -> str:
    """Return the chart: a panel for each placement, with a line for each client."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, placement in zip(panels, (SAME, DIFFERENT), strict=True):
        panel(axes, results, placement)
    panels[0].set_ylabel("wall time of get_sources()")
    panels[0].legend(frameon=False)
    file = io.StringIO()
    # The same values make the same file; text stays text, for searches and screen readers.
    with matplotlib.rc_context({"svg.hashsalt": "speed", "svg.fonttype": "none"}):
        title = "Wall time of a list of sources, by their number"
        figure.savefig(file, format="svg", metadata={"Date": None, "Title": title})
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def panel(axes: Axes, results: Results, placement: str) -> None:
    """Draw the lines of one placement on logarithmic axes."""
    for name, colour in STYLES.items():
        seconds = [results.median(Label(name, "sources", "wall", placement, n)) for n in SOURCES]
        axes.loglog(SOURCES, seconds, color=colour, marker=MARKS[name], label=name)
    axes.set_title(placement)
    axes.set_xlabel("sources")
    axes.set_xticks(SOURCES, [str(n) for n in SOURCES])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(EngFormatter(unit="s"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#dddddd")
