"""Draws the path of a batch from a call to its records, for the page about the engine."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from docutils import nodes
from matplotlib.figure import Figure
from pictures import place
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

STATIONS = (
    ("connection.py", "a call: get_sources()", "#dbeafe"),
    ("_io/conversation.py", "whom to ask, and the next address if nobody answers", "#dbeafe"),
    ("_io/client.py", "a batch: which reports, until when", "#dbeafe"),
    ("_io/loop.c", "waits for sockets and timers, without the GIL", "#dcfce7"),
    ("_io/batch.c", "which request comes next, what is overdue", "#dcfce7"),
    ("_io/exchange.c", "one request and its answer in a slot", "#dcfce7"),
    ("libchrony", "builds the request, checks the answer", "#fef3c7"),
    ("chronyd", "", "#fef3c7"),
)
BACK = {
    5: "records.c: fields as bytes of a known shape",
    2: "decoder.py: bytes become a dataclass",
    0: "list[Source]",
}
"""What comes back up, by the station where it arrives."""
ALT = "A call goes down through connection, conversation, client, loop, batch, exchange and \
libchrony to chronyd; bytes and then a dataclass come back up"


class Drawing(SphinxDirective):
    """`{drawing}`: the path of a batch."""

    def run(self) -> list[nodes.Node]:
        """Draw it, and put it where Sphinx finds it."""
        return [place(self.env, "way-of-a-batch", draw(), ALT)]


def draw() -> str:
    """Return the drawing, as SVG."""
    figure = Figure(figsize=(8, 6.4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 10)
    axes.set_ylim(-len(STATIONS) + 0.4, 0.6)
    for row, (name, about, colour) in enumerate(STATIONS):
        box = {"boxstyle": "round,pad=0.45", "facecolor": colour, "edgecolor": "#64748b"}
        axes.text(1.6, -row, name, ha="center", va="center", bbox=box, family="monospace")
        axes.text(3.1, -row, about, va="center")
        if row:
            arrow = {"arrowstyle": "->", "color": "#334155"}
            axes.annotate("", (1.4, -row + 0.27), (1.4, -row + 0.73), arrowprops=arrow)
            axes.annotate("", (1.8, -row + 0.73), (1.8, -row + 0.27), arrowprops=arrow)
    for row, words in BACK.items():
        axes.text(2.0, -row - 0.5, words, va="center", style="italic", color="#b45309")
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "way", "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Title": ALT})
    return file.getvalue()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("drawing", Drawing)
    return {"parallel_read_safe": True}
