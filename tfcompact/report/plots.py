"""The plot of accuracy against cost and size, as a PNG.

matplotlib is imported when a plot is drawn, since it takes half a second that `tfcompact --help` should not.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from tfcompact.report.measured_rows import Row, by_setting, drawable, pareto_front
from tfcompact.report.plot_style import INK, PALE, QUIET, SHAPES, area, colours, wide
from tfcompact.report.point_labels import MOST_LABELS, place_labels
from tfcompact.report.setting import Setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pareto_png(rows: Sequence[Row]) -> bytes | None:
    """A PNG with one panel per setting, or None where no row has both an accuracy and a cost."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    groups = {setting: drawable(group) for setting, group in by_setting(rows).items() if drawable(group)}
    if not groups:
        return None
    figure = _figure(len(groups))
    canvas = FigureCanvasAgg(figure)
    colour = colours(row.model for row in rows)
    for ax, (setting, group) in zip(figure.axes, groups.items(), strict=False):
        panel(ax, setting, group, colour)
    canvas.draw()  # type: ignore[no-untyped-call]  # fixes the panels' sizes: labels are measured next
    figure.set_layout_engine("none")
    for ax, group in zip(figure.axes, groups.values(), strict=False):
        place_labels(ax, group)
    image = BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def _figure(panels: int) -> Figure:
    """A figure with that many panels, two beside each other."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    across = min(2, panels)
    down = math.ceil(panels / across)
    size = (9.6 if across == 1 else 16.0, 6.2 * down)
    engine = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15, wspace=0.04, hspace=0.06)
    figure = Figure(figsize=size, dpi=130, layout=engine, facecolor="white")
    for ax in list(figure.subplots(down, across, squeeze=False).flat)[panels:]:
        ax.set_visible(False)
    return figure


def panel(ax: Axes, setting: Setting, rows: Sequence[Row], colour: dict[str, str]) -> None:
    """Draws the drawable rows of one setting and their front, without labels."""
    _points(ax, rows, colour)
    _words(ax, setting, logarithmic=wide(rows), many=len(rows) > MOST_LABELS)
    if wide(rows):
        _make_logarithmic(ax)
    ax.margins(0.16, 0.18)
    ax.grid(color="#e8ebf0", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", colors=PALE, labelcolor=INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)


def _points(ax: Axes, rows: Sequence[Row], colour: dict[str, str]) -> None:
    """The points, those that are not on the front pale, and the front."""
    front = pareto_front(rows)
    ax.plot(
        *zip(*(row.point for row in front), strict=True),
        color=PALE,
        linewidth=1.4,
        linestyle=(0, (4, 3)),
        drawstyle="steps-post",  # a cost between those of two files buys what the cheaper one has
        zorder=1,
    )
    on_front = {id(row) for row in front}
    for format in dict.fromkeys(row.format for row in rows):
        drawn = sorted(
            (row for row in rows if row.format == format), key=lambda row: -row.size_mb
        )  # small ones on top
        ax.scatter(
            [row.point[0] for row in drawn],
            [row.point[1] for row in drawn],
            s=[area(row) for row in drawn],
            marker=SHAPES[format].matplotlib,
            color=[(colour[row.model], 0.9 if id(row) in on_front else 0.45) for row in drawn],
            edgecolor="white",
            linewidth=1.0,
            zorder=3,
        )


def _words(ax: Axes, setting: Setting, *, logarithmic: bool, many: bool) -> None:
    """Title, what the axes are, and what a reader must know."""
    cost = setting.cost
    title = f"Accuracy against {cost.name}: up and to the left is better"
    ax.set_title(title, loc="left", color=INK, fontsize=13, pad=28)
    subtitle = f"{setting.place}; {setting.images_text}"
    ax.text(0, 1.02, subtitle, transform=ax.transAxes, color=QUIET, fontsize=9).set_in_layout(False)  # however long
    ax.set_xlabel(f"{cost.text}{', logarithmic' if logarithmic else ''}", color=INK)
    ax.set_ylabel("Top-1 accuracy in %", color=INK)
    note = f"Point area: file size. Dashed: the Pareto front (no file is both {cost.cheaper} and more accurate)."
    if many:
        note += " Named: the front."
    lines = [note, *textwrap.wrap(setting.caution or "", 100)]
    ax.annotate("\n".join(lines), (0, -0.13), xycoords="axes fraction", va="top", color=QUIET, fontsize=8.5)


def _make_logarithmic(ax: Axes) -> None:
    """Puts the costs on a logarithmic axis with ticks at 1, 2, 5, 10, …"""
    from matplotlib.ticker import LogLocator, NullLocator

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
