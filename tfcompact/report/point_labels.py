"""Labels beside the points of a plot, which cover neither points nor each other. No TensorFlow here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tfcompact.report.measured_rows import Row, pareto_front
from tfcompact.report.plot_style import INK, PALE, area

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7))
GAPS = (4, 14, 28, 44, 64, 90)  # points between a point and its label
MOST_LABELS = 40
FAR = 14
"""A label with a larger gap gets a line to its point."""


class Box(NamedTuple):
    """A rectangle on the picture, in pixels from its lower left corner."""

    left: float
    low: float
    right: float
    high: float

    def overlaps(self, other: Box) -> bool:
        """Whether they have an area in common."""
        across = self.left < other.right and other.left < self.right
        return across and self.low < other.high and other.low < self.high

    def holds(self, other: Box) -> bool:
        """Whether the other lies inside."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.low <= other.low and other.high <= self.high


class Spot(NamedTuple):
    """Where a point is drawn, in pixels."""

    x: float
    y: float
    radius: float

    @property
    def box(self) -> Box:
        """The square around it."""
        return Box(self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius)


def place_labels(ax: Axes, rows: Sequence[Row]) -> list[Annotation]:
    """Writes every row's name beside its point, where it covers no point, no other label and not the front.

    Of more rows than `MOST_LABELS` only those of the front are named: more would cover each other.
    Greedy: points from left to right try eight directions at growing distances and keep the first free place; a
    label far from its point gets a thin line to it. With no free place left, the last one tried is kept.
    """
    renderer = ax.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    frame = Box(*ax.get_window_extent(renderer).extents)
    spots = [_spot(ax, row) for row in rows]
    taken = [*(spot.box for spot in spots), *_front([spots[rows.index(row)] for row in pareto_front(rows)])]
    labels = []
    named = {id(row) for row in (rows if len(rows) <= MOST_LABELS else pareto_front(rows))}
    for spot, row in sorted(zip(spots, rows, strict=True), key=lambda pair: pair[0][:2]):
        if id(row) not in named:
            continue
        label = _label(ax, row)
        extent = label.get_window_extent(renderer)
        places = list(_places(spot, extent.width, extent.height, ax.figure.dpi / 72))
        free = ((gap, box) for gap, box in places if frame.holds(box) and not any(map(box.overlaps, taken)))
        gap, box = next(free, places[-1])
        _move(ax, label, spot, box)
        if gap > FAR:
            _join(ax, spot, box)
        taken.append(box)
        labels.append(label)
    return labels


def _spot(ax: Axes, row: Row) -> Spot:
    x, y = ax.transData.transform(row.point)
    return Spot(x, y, ax.figure.dpi / 72 * math.sqrt(area(row)) / 2)


def _front(spots: Sequence[Spot]) -> Iterator[Box]:
    """Thin boxes along the steps of the front."""
    for a, b in itertools.pairwise(spots):
        yield Box(a.x, a.y - 1, b.x, a.y + 1)
        yield Box(b.x - 1, a.y, b.x + 1, b.y)


def _label(ax: Axes, row: Row) -> Annotation:
    """The row's name, not yet in its place."""
    from matplotlib.patheffects import withStroke

    text = f"{row.model} · {row.format}\n{row.size_mb:.1f} MB"
    label = ax.annotate(text, row.point, (0, 0), textcoords="offset points")
    label.set(fontsize=8.2, color=INK, zorder=5, linespacing=1.25)
    label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    return label


def _places(spot: Spot, width: float, height: float, scale: float) -> Iterator[tuple[float, Box]]:
    """Where a label of that size could go, the nearest first, each with its gap. `scale`: pixels of a point."""
    for gap, (across, up) in itertools.product(GAPS, DIRECTIONS):
        far = spot.radius + gap * scale
        left = spot.x + across * far - (width if across < 0 else width / 2 if across == 0 else 0)
        low = spot.y + up * far - (height if up < 0 else height / 2 if up == 0 else 0)
        yield gap, Box(left, low, left + width, low + height)


def _move(ax: Axes, label: Annotation, spot: Spot, box: Box) -> None:
    """Puts the label there."""
    scale = ax.figure.dpi / 72
    label.set_position(((box.left - spot.x) / scale, (box.low - spot.y) / scale))
    label.set(va="bottom", ha="left", multialignment="right" if box.right < spot.x else "left")


def _join(ax: Axes, spot: Spot, box: Box) -> None:
    """Draws a thin line from the point to its label."""
    nearest = (min(max(spot.x, box.left), box.right), min(max(spot.y, box.low), box.high))
    line = zip(*ax.transData.inverted().transform([(spot.x, spot.y), nearest]), strict=True)
    ax.plot(*line, color=PALE, linewidth=0.7, zorder=2, scalex=False, scaley=False)
