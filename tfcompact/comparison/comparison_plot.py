"""A comparison as a picture: accuracy against time and against the size of the download, with the plain networks."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from tfcompact.comparison.comparison_plan import CLASSES
from tfcompact.comparison.line import COSTS, Cost, Line, front
from tfcompact.report.plot_style import INK, PALE, PALETTE, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORDS = {"ms": "Median time on this computer in ms, one thread", "zip": "Deflated file in kB"}
SCALE = {"ms": 1.0, "zip": 1e-3}
NEAR = 0.022
"""How near two points' numbers may come, as a share of the panel, before the second one moves."""


def comparison_png(lines: Sequence[Line], title: str) -> bytes | None:
    """The figure as a PNG, None where no row succeeded."""
    if all(line.error for line in lines):
        return None
    image = BytesIO()
    comparison_figure(lines, title).savefig(image, format="png")
    return image.getvalue()


def comparison_figure(lines: Sequence[Line], title: str) -> Figure:
    """A panel for each cost, points with the numbers of the table. One line at least must not have failed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    whole = [line for line in lines if not line.error]
    engine = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12, wspace=0.04)
    figure = Figure(figsize=(15.0, 6.6), dpi=130, layout=engine, facecolor="white")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, len(COSTS), sharey=True))
    for ax, (name, cost) in zip(panels, COSTS.items(), strict=True):
        _panel(ax, whole, name, cost)
    panels[0].set_ylabel("Top-1 accuracy of the file in %", color=INK)
    panels[0].set_title(title, loc="left", color=INK, fontsize=13, pad=14)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, labelcolor=INK)
    return figure


def _panel(ax: Axes, whole: Sequence[Line], name: str, cost: Cost) -> None:
    scale = SCALE[name]

    def place(line: Line) -> tuple[float, float]:
        return (cost(line) or 0.0) * scale, line.accuracy

    known = [line for line in whole if cost(line) is not None]
    best = front(known, cost)
    across, up = zip(*map(place, best), strict=True)
    ax.plot(across, up, color=PALE, linestyle=(0, (4, 3)), drawstyle="steps-post", label="front", zorder=1)
    plain = sorted((line for line in known if line.plain), key=place)
    if plain:
        across, up = zip(*map(place, plain), strict=True)
        ax.plot(across, up, color=INK, linewidth=1.2, label="plain, narrower", zorder=2)
    for kind, colour in zip(CLASSES, PALETTE, strict=False):
        points = [place(line) for line in known if line.kind == kind]
        if points:
            across, up = zip(*points, strict=True)
            ax.scatter(across, up, s=58, color=colour, edgecolor="white", label=kind, zorder=3)
    ax.set_xscale("log")
    ax.margins(0.08, 0.08)
    ax.autoscale_view()
    _numbers(ax, [(line.number, place(line)) for line in known])
    _ticks(ax)
    ax.set_xlabel(f"{WORDS[name]}, logarithmic", color=INK)
    ax.grid(color="#e8ebf0", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", colors=PALE, labelcolor=INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)


def _numbers(ax: Axes, points: Sequence[tuple[int, tuple[float, float]]]) -> None:
    """The table's number beside each point; one whose place is taken goes round the point."""
    to_share = ax.transData + ax.transAxes.inverted()
    taken: list[tuple[float, float]] = []
    ways = [(7, 4), (7, -9), (-14, 4), (-14, -9), (-3, 9), (-3, -15), (18, 4), (18, -9), (-24, 4), (-24, -9)]
    for number, place in points:
        x, y = to_share.transform(place)
        for way in ways:
            here = (x + way[0] / 500, y + way[1] / 400)
            if all(abs(here[0] - a) > NEAR or abs(here[1] - b) > NEAR for a, b in taken):
                break
        taken.append(here)
        ax.annotate(str(number), place, xytext=way, textcoords="offset points", fontsize=8, color=QUIET)


def _ticks(ax: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    ax.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
