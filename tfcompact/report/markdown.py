"""Measurements as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tfcompact.report import measured_rows
from tfcompact.report.measured_rows import Row
from tfcompact.report.measurement_columns import LEGEND, useful_columns, without_shared_flags


def markdown(rows: Sequence[Row], *, plot: bool) -> str:
    """The report as Markdown; with `plot`, it shows the picture that lies beside it."""
    parts = ["# Measurements"]
    if plot:
        parts.append("![Accuracy against latency; the area of a point is the size of its file](pareto.png)")
    for setting, whole in measured_rows.by_setting(rows).items():
        group, beware = without_shared_flags(whole)
        shown = useful_columns(group)
        front = measured_rows.pareto_front(group)
        lines = [
            _line(column.heading for column in shown),
            _line(":--" if column.left else "--:" for column in shown),
            *(_line(_mark(_cell(column.text(row)), row in front) for column in shown) for row in group),
        ]
        parts += [f"## {_cell(setting.place)}", f"Accuracy: {_cell(setting.images_text)}.", "\n".join(lines)]
        parts.append("Bold: on the Pareto front (no other file is both faster and more accurate).")
        parts += [line for line in (setting.caution, beware) if line]
    return "\n\n".join([*parts, LEGEND]) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mark(text: str, bold: bool) -> str:
    return f"**{text}**" if bold and text else text


def _cell(text: str) -> str:
    """Text that stays one cell of a Markdown table and cannot become markup."""
    for character in "\\|*`<>[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
