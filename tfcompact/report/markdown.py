"""Measurements as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tfcompact.report import measured_rows
from tfcompact.report.measured_rows import Row
from tfcompact.report.measurement_columns import legend, useful_columns, without_shared_flags
from tfcompact.report.setting import Setting
from tfcompact.report.table_columns import Column


def markdown(rows: Sequence[Row], *, plot: bool) -> str:
    """The report as Markdown; with `plot`, it shows the picture that lies beside it."""
    parts = ["# Measurements"]
    if plot:
        parts.append("![Accuracy against latency; the area of a point is the size of its file](pareto.png)")
    groups = measured_rows.by_setting(rows)
    for setting, group in groups.items():
        parts += _section(setting, group)
    used = dict.fromkeys(column for group in groups.values() for column in useful_columns(group))
    return "\n\n".join([*parts, legend(used)]) + "\n"


def _section(setting: Setting, rows: Sequence[Row]) -> list[str]:
    """The paragraphs about one setting."""
    rows, beware = without_shared_flags(rows)
    front = f"Bold: on the Pareto front (no other file is both {setting.cost.cheaper} and more accurate)."
    return [
        f"## {cell(setting.place)}",
        f"Accuracy: {cell(setting.images_text)}.",
        _table([column.printed for column in useful_columns(rows)], rows),
        *filter(None, (front, setting.caution, beware)),
    ]


def _table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> str:
    """One line a row, bold on the front."""
    front = measured_rows.pareto_front(rows)
    lines = [
        table_line(column.heading for column in columns),
        table_line(":--" if column.left else "--:" for column in columns),
        *(table_line(mark(cell(column.text(row)), row in front) for column in columns) for row in rows),
    ]
    return "\n".join(lines)


def table_line(cells: Iterable[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def mark(text: str, bold: bool) -> str:
    """The text, bold if asked for."""
    return f"**{text}**" if bold and text else text


def cell(text: str) -> str:
    """Text that stays one cell of a Markdown table and cannot become markup."""
    for character in "\\|*`<>[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
