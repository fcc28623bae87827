"""NetAdapt's way as a picture: every proposal that was trained, and the one that each step took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

CHOSEN, OTHERS, INK = "#1f6feb", "#c4cad3", "#1f2933"


def trace_png(rows: Sequence[Mapping[str, Any]], first_cost: float, title: str) -> bytes:
    """Accuracy on the images that judge against the share of the first cost that is left, as a PNG.

    `rows` are those of a trace: `cost`, `accuracy` (None for one that was not trained), `chosen`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def points(chosen: bool) -> tuple[list[float], list[float]]:
        kept = [row for row in rows if row["accuracy"] is not None and bool(row["chosen"]) == chosen]
        return [100 * row["cost"] / first_cost for row in kept], [100 * row["accuracy"] for row in kept]

    figure = Figure(figsize=(7.5, 4.6), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.scatter(*points(False), s=18, color=OTHERS, label="proposals that were trained")
    axes.plot(*points(True), marker="o", markersize=5, color=CHOSEN, label="taken")
    axes.invert_xaxis()
    axes.set_xlabel("Predicted cost in % of the first", color=INK)
    axes.set_ylabel("Accuracy after the short training in %", color=INK)
    axes.set_title(title, loc="left", color=INK)
    axes.grid(color="#e8ebf0", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK)
    axes.legend(frameon=False, labelcolor=INK)
    image = BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()
