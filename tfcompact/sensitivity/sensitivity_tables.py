"""A ranking of layers, and a comparison of files, as tables with what their columns mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tfcompact.report.short_numbers import digits, shape_text
from tfcompact.report.table_columns import ABSENT, GAP, Column, fitting, omitted_headings, table_of
from tfcompact.sensitivity.float_layers import LOGIT_IMAGES, Row

if TYPE_CHECKING:
    from tfcompact.sensitivity.layer_ranking import Ranking

RANKING: tuple[Column[Any], ...] = (
    Column("", lambda r: str(r[0])),
    Column("layer", lambda r: r[1].unit.name, left=True),
    Column("kind", lambda r: r[1].unit.kind, yields=3, left=True),
    Column("output", lambda r: shape_text(r[1].unit.output), yields=4),
    Column("MACs\nM", lambda r: digits(r[1].unit.macs / 1e6), yields=5),
    Column("agree\n%", lambda r: f"{100 * r[1].agreement:.1f}"),
    Column("SQNR\ndB", lambda r: _decibel(r[1].sqnr_db)),
    Column("kernel\ndB", lambda r: _decibel(r[1].kernel_db), yields=1),
    Column("output\ndB", lambda r: _decibel(r[1].output_db), yields=2),
)
RANKING_LEGEND = (
    "A layer is what one operator of the file computes: a convolution with its ReLU. Each was rounded alone, the "
    "rest of the network float with the same weights, and its logits compared with those of nothing rounded. agree: "
    "images with the same class. SQNR: the logits' power over that of the noise; 10 dB less is ten times the noise. "
    "kernel, output: with only the kernel and bias, or only the output, rounded."
)
FILES_LEGEND = (
    "accuracy: on validation images. agree: with the class that the float parent names. SQNR: of the logits, against "
    f"the run's weights with nothing rounded, on the first {LOGIT_IMAGES} of these images. XNNPACK: "
    "pieces that it runs. ms: median latency on this computer, one thread; ratio: to that of the first file. "
    "float32: the run's weights, then its float parent's."
)


def ranking_table(ranking: Ranking, limit: int, width: int) -> tuple[Table, str, str]:
    """The worst `limit` layers of a ranking (0: all), the sum of it, and what the columns mean."""
    rows = list(enumerate(ranking.rows, 1))[: limit or None]
    shown = fitting(RANKING, rows, width + 1, GAP)
    table = table_of(shown)
    for row in rows:
        table.add_row(*(column.text(row) for column in shown))
    more = len(ranking.rows) - len(rows)
    summary = (
        f"all {len(ranking.rows)} together: {_decibel(ranking.all_db)} dB, {100 * ranking.all_agreement:.1f} % "
        f"agree, of {ranking.images} training images; the median image has {_decibel(ranking.median_db)} dB"
        + (" (if far more, a few images go beyond the ranges)" if ranking.median_db > ranking.all_db + 6 else "")
        + (f". {more} not shown: --limit 0" if more else "")
    )
    omitted = omitted_headings(RANKING, shown)
    return table, summary, RANKING_LEGEND + (f" Not shown: {omitted}." if omitted else "")


def files_table(rows: Sequence[Row]) -> Table:
    """One line for each file of a comparison."""
    columns: tuple[Column[Row], ...] = (
        Column("file", lambda r: r.file, left=True),
        Column("MB", lambda r: f"{r.bytes / 1e6:.2f}"),
        Column("accuracy\n%", lambda r: f"{100 * r.accuracy:.1f}"),
        Column("agree\n%", lambda r: f"{100 * r.agreement:.1f}"),
        Column("SQNR\ndB", lambda r: _decibel(r.sqnr_db)),
        Column("XNNPACK", lambda r: str(r.partitions)),
        Column("operators", lambda r: str(r.operators)),
        Column("ms", lambda r: f"{r.median_ms:.2f}"),
        Column("ratio", lambda r: f"{r.ratio:.2f}"),
    )
    table = table_of(columns)
    for row in rows:
        table.add_row(*(column.text(row) for column in columns))
    return table


def _decibel(value: float | None) -> str:
    return ABSENT if value is None else "∞" if math.isinf(value) else f"{value:.1f}"
