"""Colours, shapes and sizes that the report's plot and the app's have in common. No TensorFlow here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tfcompact.report.measured_rows import Row

PALETTE = ("#3B7DD8", "#E07A3F", "#3FA37C", "#B565C4", "#C9A227", "#D1567C", "#3AA6B9", "#8A7B6C")
"""Of middle lightness, so that each is told from its ground on a light page and on a dark one."""
INK, QUIET, PALE = "#2b3340", "#687181", "#a3abb8"


class Shape(NamedTuple):
    """One shape of a point, as each library calls it."""

    matplotlib: str
    vega: str
    character: str


SHAPES = {  # by the file's format
    "float32": Shape("o", "circle", "●"),
    "float16": Shape("^", "triangle-up", "▲"),
    "dynamic": Shape("P", "cross", "✚"),
    "int16x8": Shape("v", "triangle-down", "▼"),
    "int8": Shape("D", "diamond", "◆"),
    "uint8": Shape("s", "square", "■"),
}
SPREAD = 8.0
"""Where the costliest file costs more than this many times what the cheapest one does, its axis is logarithmic."""


def colours(models: Iterable[str]) -> dict[str, str]:
    """A colour for each model name, in alphabetical order; they repeat after eight."""
    return dict(zip(sorted(set(models)), itertools.cycle(PALETTE), strict=False))


def wide(rows: Sequence[Row]) -> bool:
    """Whether the costs of drawable rows spread so far that only a logarithmic axis keeps them apart."""
    costs = [row.cost for row in rows if row.cost]
    return bool(costs) and max(costs) > SPREAD * min(costs)


def area(row: Row) -> float:
    """The size of the row's point in square points: it grows by the same amount for each MB."""
    return 36.0 + 22.0 * row.size_mb
