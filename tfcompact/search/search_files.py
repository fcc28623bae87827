"""What a search found, as files: every candidate, the best architectures, and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from tfcompact import files
from tfcompact.report.plot_style import INK, PALE, PALETTE
from tfcompact.search.searching import Found, best

HEAD = ("name", "accuracy", "cost", "interpolated", "reward", "seeds", "run", "on_front")


def write(found: Sequence[Found], unit: str, target: float, title: str, out: Path) -> list[Path]:
    """Writes `trials.csv`, `best.json` (an architecture to train) and `trials.png`, and returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    contents = {
        out / "trials.csv": as_csv(found).encode(),
        out / "trials.png": picture(found, unit, target, title),
    }
    for path, content in contents.items():
        files.write_bytes(path, content)
    files.write_json(out / "best.json", found[0].architecture.to_json())
    return [*contents, out / "best.json"]


def as_csv(found: Sequence[Found]) -> str:
    """Every candidate, the best first; costs in the unit of the table, accuracies as shares."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    leading = best(found)
    for row in found:
        writer.writerow(
            [row.name, row.accuracy, row.cost, row.interpolated, row.reward, row.seeds, row.run, row in leading]
        )
    return text.getvalue()


def picture(found: Sequence[Found], unit: str, target: float, title: str) -> bytes:
    """Accuracy against cost: all candidates, the front, the target, and the one that won."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5.4), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    ax.scatter(
        [row.cost for row in found], [100 * row.accuracy for row in found], s=26, color=PALETTE[0], label="candidates"
    )
    leading = best(found)
    ax.plot(
        [row.cost for row in leading],
        [100 * row.accuracy for row in leading],
        color=PALE,
        drawstyle="steps-post",
        linestyle=(0, (4, 3)),
        label="front",
    )
    ax.axvline(target, color=INK, linewidth=1, label="asked for")
    ax.scatter([found[0].cost], [100 * found[0].accuracy], s=90, color=PALETTE[1], label="best", zorder=3)
    ax.set_xlabel(f"Predicted cost in {unit}", color=INK)
    ax.set_ylabel("Validation accuracy after the short training in %", color=INK)
    ax.set_title(title, loc="left", color=INK)
    ax.grid(color="#e8ebf0", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", colors=PALE, labelcolor=INK, length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.legend(frameon=False, labelcolor=INK)
    image = BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()
