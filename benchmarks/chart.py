"""Draws how the time of a list grows with the number of sources, as SVG."""

from __future__ import annotations

import math

from competitors import CHRONYC, OURS, RELEASED, C
from results import Label, Results
from targets import DIFFERENT, SAME

SOURCES = (3, 8, 50, 500)
COLORS = {C: "#555555", OURS: "#0969da", RELEASED: "#bf5b00", CHRONYC: "#1a7f37"}
WIDTH, HEIGHT, LEFT, TOP, GAP = 330, 300, 60, 50, 170
DECADES = (-5, 0)  # of seconds, from 10 µs to 1 s
TICKS = {-5: "10 µs", -4: "100 µs", -3: "1 ms", -2: "10 ms", -1: "100 ms", 0: "1 s"}


def draw(results: Results) -> str:
    """Return the chart: a panel for each placement, with a line for each client."""
    width = LEFT + 2 * WIDTH + 2 * GAP
    height = TOP + HEIGHT + 60
    panels = [
        panel(results, placement, LEFT + i * (WIDTH + GAP))
        for i, placement in enumerate((SAME, DIFFERENT))
    ]
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
font-family="sans-serif" font-size="13">
<title>Wall time of sources, by their number</title>
<rect width="{width}" height="{height}" fill="white"/>
{"".join(panels)}</svg>
"""


def panel(results: Results, placement: str, left: int) -> str:
    """Draw axes, lines and their names."""
    middle, bottom = left + WIDTH / 2, TOP + HEIGHT
    parts = [
        text(middle, TOP - 20, f"get_sources, {placement}: wall time", "middle"),
        text(middle, bottom + 42, "sources", "middle"),
    ]
    for decade, words in TICKS.items():
        at = y(10.0**decade)
        parts.append(f'<path d="M{left} {at:.1f}h{WIDTH}" stroke="#dddddd"/>\n')
        parts.append(text(left - 6, at + 4, words, "end"))
    parts += [text(left + x(n), bottom + 20, str(n), "middle") for n in SOURCES]
    ends = {}
    for name, color in COLORS.items():
        seconds = [results.median(Label(name, "sources", "wall", placement, n)) for n in SOURCES]
        points = [f"{left + x(n):.1f},{y(s):.1f}" for n, s in zip(SOURCES, seconds, strict=True)]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{color}" '
            'stroke-width="2"/>\n'
        )
        ends[name] = y(seconds[-1])
    previous = -math.inf
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        previous = max(end + 4, previous + 15)  # names do not cover each other
        parts.append(text(left + x(SOURCES[-1]) + 6, previous, name, "start", COLORS[name]))
    return "".join(parts)


def x(sources: int) -> float:
    """Place a number of sources on a logarithmic axis."""
    first, last = math.log(SOURCES[0]), math.log(SOURCES[-1])
    return 10 + (WIDTH - 20) * (math.log(sources) - first) / (last - first)


def y(seconds: float) -> float:
    """Place a time on a logarithmic axis."""
    low, high = DECADES
    return TOP + HEIGHT * (high - math.log10(seconds)) / (high - low)


def text(x: float, y: float, words: str, anchor: str, color: str = "#222222") -> str:
    """Write some words."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{words}</text>\n'
