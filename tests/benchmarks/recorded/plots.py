"""The plots of docs/results.md, drawn from records. A PNG holds a digest of what it was drawn from."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from recorded import digest
from recorded.view import Rows, View
from tfcompact import files
from tfcompact.report.plot_style import INK, PALE, PALETTE, QUIET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN_FROM = "Drawn from"
"""The key of the digest among the texts of a PNG."""


@dataclass(frozen=True)
class Plot:
    """A file under docs/, and how to draw it from rows."""

    file: str
    rows: Callable[[Mapping[str, View]], Rows]
    draw: Callable[[Rows], Figure]

    def digest(self, views: Mapping[str, View]) -> str:
        """Of the rows, and of the code that draws them."""
        code = digest.of_source(inspect.getsource(self.draw))
        return hashlib.sha256(json.dumps([self.rows(views), code]).encode()).hexdigest()

    def current(self, views: Mapping[str, View], docs: Path) -> bool:
        """Whether the file is there, and drawn from these rows by this code."""
        try:
            with Image.open(docs / self.file) as image:
                return image.info.get(DRAWN_FROM) == self.digest(views)
        except FileNotFoundError:
            return False

    def write(self, views: Mapping[str, View], docs: Path) -> Path:
        """Draws the file anew."""
        path = docs / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {DRAWN_FROM: self.digest(views), "Software": None}
        with files.replaced(path) as stream:
            self.draw(self.rows(views)).savefig(stream, format="png", dpi=130, metadata=metadata)
        return path


def board(rows: Rows) -> Figure:
    """What 8 bits cost each network, and what they gain: accuracy against float, latency against float."""
    from matplotlib.figure import Figure

    rows = Rows(sorted(rows, key=lambda row: row["qat_minus_float"]))
    places = range(len(rows))
    figure = Figure(figsize=(11, 0.34 * len(rows) + 1.4), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    left.axvspan(-0.5, 0.5, color=PALE, alpha=0.25, linewidth=0)
    left.axvline(0, color=QUIET, linewidth=1)
    ptq = [row["ptq_accuracy"] - row["float_accuracy"] for row in rows]
    qat = [row["qat_minus_float"] for row in rows]
    left.hlines(places, ptq, qat, color=PALE, linewidth=1.5)
    left.scatter(ptq, places, s=34, facecolor="white", edgecolor=PALETTE[1], linewidth=1.5, label="PTQ", zorder=3)
    left.scatter(qat, places, s=40, color=PALETTE[0], label="QAT", zorder=4)
    left.set_yticks(places, [row["model"] for row in rows])
    left.set_xlabel("int8 - float32, points of test accuracy (the band is half a point)", color=INK)
    left.legend(frameon=False, loc="lower right")
    for place, row in zip(places, rows, strict=True):
        if row["int8_ms_1t"] is not None:
            gain = row["float32_ms_1t"] / row["int8_ms_1t"]
            right.barh(place, gain, color=PALETTE[2], height=0.55)
            right.annotate(f"{gain:.1f}", (gain, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    right.axvline(1, color=QUIET, linewidth=1)
    right.set_xlabel("float32 ms / int8 ms, one thread", color=INK)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=INK, labelsize=9)
    return figure


def curves(rows: Rows) -> Figure:
    """Validation accuracy by epoch, each start labelled where its curve ends."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for row, colour in zip(rows, ("#0b6e4f", "#b5651d"), strict=True):
        values = [value for key, value in row.items() if key.startswith("epoch_")]
        axes.plot(range(1, len(values) + 1), values, marker="o", markersize=4, color=colour)
        end = (len(values), values[-1])
        axes.annotate(row["start"], end, (6, 0), textcoords="offset points", color=colour, va="center")
        axes.set(xlim=(0.8, len(values) + 1.3), xticks=range(1, len(values) + 1))
    axes.set(xlabel="epoch", ylabel="validation accuracy, %", title=f"{rows[0]['network']} on photographs of flowers")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    return figure


def comparison(rows: Rows) -> Figure:
    """The report of `tfcompact compress` on one network."""
    from tfcompact.comparison.comparison_plot import comparison_figure
    from tfcompact.comparison.line import lines
    from tfcompact.comparison.row_result import RowResult

    results = []
    for row in rows:
        counted = {key.removeprefix("instructions_"): row[key] for key in row if key.startswith("instructions_")}
        facts = {key: value for key, value in row.items() if not key.startswith("instructions_")}
        results.append(RowResult(**facts, instructions=counted))
    return comparison_figure(lines(results), f"{rows[0]['model']}: CIFAR-10 at {rows[0]['px']} px")


def compared(network: str) -> Plot:
    """The plot of a network's comparison."""
    return Plot(
        f"images/compression_{network}.png",
        lambda views: views["compression"].part(network).rows("results"),
        comparison,
    )


COMPARED: tuple[str, ...] = ("mobilenet_v1_0.5", "mobilenet_v3_small", "googlenet_bn")
"""The networks whose comparison is recorded, and so has a plot."""
PLOTS = (
    Plot("results/leaderboard.png", lambda views: views["leaderboard"].rows(), board),
    Plot("images/finetune.png", lambda views: views["finetune"].part("efficientnet_lite0").rows(), curves),
    Plot("images/finetune_squeezenet.png", lambda views: views["finetune"].part("squeezenet_1.1").rows(), curves),
    *map(compared, COMPARED),
)
