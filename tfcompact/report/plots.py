"""The accuracy/latency/size plot as a PNG, and the colours and shapes that the app's plot shares with it.

matplotlib is imported when a plot is drawn, since it takes half a second that `tfcompact --help` should not.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from tfcompact.report.measured_rows import Row, Setting, by_setting, drawable, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

PALETTE = ("#3B7DD8", "#E07A3F", "#3FA37C", "#B565C4", "#C9A227", "#D1567C", "#3AA6B9", "#8A7B6C")
"""Of middle lightness, so that each is told from its ground on a light page and on a dark one."""

SHAPES = {  # format: (matplotlib's marker, Vega's shape, the same as a character)
    "float32": ("o", "circle", "●"),
    "float16": ("^", "triangle-up", "▲"),
    "dynamic": ("P", "cross", "✚"),
    "int16x8": ("v", "triangle-down", "▼"),
    "int8": ("D", "diamond", "◆"),
    "uint8": ("s", "square", "■"),
}
INK, QUIET, PALE = "#2b3340", "#687181", "#a3abb8"
SPREAD = 8.0
"""Where the slowest file takes more than this many times the fastest one's time, the latency axis is logarithmic."""
SMALLEST_POINT, POINT_PER_MB = 36.0, 22.0  # points^2: area grows by the same amount for each MB


def colours(models: Iterable[str]) -> dict[str, str]:
    """A colour for each model name, in alphabetical order; they repeat after eight."""
    return dict(zip(sorted(set(models)), itertools.cycle(PALETTE), strict=False))


def pareto_png(rows: Sequence[Row]) -> bytes | None:
    """A PNG with one panel per setting, or None where no row has both accuracy and latency."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    groups = {setting: drawable(group) for setting, group in by_setting(rows).items() if drawable(group)}
    if not groups:
        return None
    across = min(2, len(groups))
    down = math.ceil(len(groups) / across)
    size = (9.6 if across == 1 else 16.0, 6.2 * down)
    engine = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15, wspace=0.04, hspace=0.06)
    figure = Figure(figsize=size, dpi=130, layout=engine, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    colour = colours(row.model for row in rows)
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for ax in panels[len(groups) :]:
        ax.set_visible(False)
    for ax, (setting, group) in zip(panels, groups.items(), strict=False):
        panel(ax, setting, group, colour)
    canvas.draw()  # type: ignore[no-untyped-call]  # fixes the panels' sizes: labels are measured next
    figure.set_layout_engine("none")
    for ax, group in zip(panels, groups.values(), strict=False):
        place_labels(ax, group)
    image = BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def wide(rows: Sequence[Row]) -> bool:
    """Whether the costs of drawable rows spread so far that only a logarithmic axis keeps them apart."""
    costs = [row.cost for row in rows if row.cost]
    return bool(costs) and max(costs) > SPREAD * min(costs)


def panel(ax: Axes, setting: Setting, rows: list[Row], colour: dict[str, str]) -> None:
    """Draws the drawable rows of one setting and their front, without labels."""
    from matplotlib.ticker import LogLocator, NullLocator

    front = pareto_front(rows)
    ax.plot(
        *zip(*(row.point for row in front), strict=True),
        color=PALE,
        linewidth=1.4,
        linestyle=(0, (4, 3)),
        drawstyle="steps-post",  # a latency between two files buys what the faster one has
        zorder=1,
    )
    for row in sorted(rows, key=lambda row: -row.size_mb):  # the small ones on top
        ax.scatter(
            *row.point,
            s=SMALLEST_POINT + POINT_PER_MB * row.size_mb,
            marker=SHAPES[row.format][0],
            color=colour[row.model],
            alpha=0.9 if row in front else 0.45,
            edgecolor="white",
            linewidth=1.0,
            zorder=3,
        )
    against = "instructions" if setting.device_kind == "emulated" else "latency"
    ax.set_title(
        f"Accuracy against {against}: up and to the left is better", loc="left", color=INK, fontsize=13, pad=28
    )
    subtitle = f"{setting.place}; {setting.images_text}"
    ax.text(0, 1.02, subtitle, transform=ax.transAxes, color=QUIET, fontsize=9).set_in_layout(False)  # however long
    logarithmic = wide(rows)
    if logarithmic:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(f"{setting.cost_text}{', logarithmic' if logarithmic else ''}", color=INK)
    ax.set_ylabel("Top-1 accuracy in %", color=INK)
    cheaper = "cheaper" if setting.device_kind == "emulated" else "faster"
    note = f"Point area: file size. Dashed: the Pareto front (no file is both {cheaper} and more accurate)."
    lines = [note, *textwrap.wrap(setting.caution or "", 100)]
    ax.annotate("\n".join(lines), (0, -0.13), xycoords="axes fraction", va="top", color=QUIET, fontsize=8.5)
    ax.margins(0.16, 0.18)
    ax.grid(color="#e8ebf0", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", colors=PALE, labelcolor=INK, length=0)
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)


def place_labels(ax: Axes, rows: list[Row]) -> list[Annotation]:
    """Writes every row's name beside its point, where it covers no point, no other label and not the front.

    Greedy: points from left to right try eight directions at growing distances and keep the first free place; a
    label far from its point gets a thin line to it. With no free place left, the last one tried is kept.
    """
    from matplotlib.patheffects import withStroke

    renderer = ax.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    frame = ax.get_window_extent(renderer)
    scale = ax.figure.dpi / 72
    centres = [ax.transData.transform(row.point) for row in rows]
    radii = [scale * math.sqrt(SMALLEST_POINT + POINT_PER_MB * row.size_mb) / 2 for row in rows]
    taken = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(centres, radii, strict=True)]
    steps = [centres[rows.index(row)] for row in pareto_front(rows)]
    for (x, y), (x_next, y_next) in itertools.pairwise(steps):
        taken += [(x, y - 1, x_next, y + 1), (x_next - 1, y, x_next + 1, y_next)]
    labels = []
    for i in sorted(range(len(rows)), key=lambda i: tuple(centres[i])):
        text = f"{rows[i].model} · {rows[i].format}\n{rows[i].size_mb:.1f} MB"
        label = ax.annotate(text, rows[i].point, (0, 0), textcoords="offset points")
        label.set(fontsize=8.2, color=INK, zorder=5, linespacing=1.25)
        label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        width, height = label.get_window_extent(renderer).width, label.get_window_extent(renderer).height
        (x, y), r = centres[i], radii[i]
        for gap, (across, up) in itertools.product((4, 14, 28, 44, 64, 90), DIRECTIONS):
            far = r + gap * scale
            left = x + across * far - (width if across < 0 else width / 2 if across == 0 else 0)
            low = y + up * far - (height if up < 0 else height / 2 if up == 0 else 0)
            box = (left, low, left + width, low + height)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
            if inside and not any(_overlap(box, other) for other in taken):
                break
        label.set_position(((left - x) / scale, (low - y) / scale))
        label.set(va="bottom", ha="left", multialignment="right" if box[2] < x else "left")
        taken.append(box)
        labels.append(label)
        if gap > 14:
            ends = [(x, y), (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))]
            line = zip(*ax.transData.inverted().transform(ends), strict=True)
            ax.plot(*line, color=PALE, linewidth=0.7, zorder=2, scalex=False, scaley=False)
    return labels


DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
