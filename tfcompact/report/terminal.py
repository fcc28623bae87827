"""Tables of measurements and of runs in a terminal.

Rows of different settings (device, delegate, threads, test images) are never put under one heading, since their
numbers do not compare. No TensorFlow here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfcompact.report import measured_rows, run_columns
from tfcompact.report.measured_rows import Row
from tfcompact.report.measurement_columns import useful_columns, without_shared_flags
from tfcompact.report.nothing_yet import nothing_measured, nothing_run
from tfcompact.report.setting import Setting
from tfcompact.report.table_columns import Column, R, fitting
from tfcompact.runs import history, store

SPACE = 2  # characters after a column


def print_table(console: Console, rows: Sequence[Row], root: Path = store.ROOT) -> None:
    """Prints one table per setting; columns that do not fit the terminal's width are left out, and that is said."""
    if not rows:
        _print_line(console, nothing_measured(root))
    for setting, group in measured_rows.by_setting(rows).items():
        console.print(_measurements(setting, group, console.width))


def print_runs(console: Console, root: Path = store.ROOT, model: str | None = None) -> None:
    """Prints every run under `root`, oldest first, unfinished ones last and dim.

    Raises `UserError` naming what is damaged.
    """
    found = history.histories(root, model).whole()
    if not found:
        _print_line(console, nothing_run(root, model))
        return
    columns = fitting(run_columns.COLUMNS, found, console.width - 1, SPACE)
    table = _ruled(columns)
    for run in found:
        table.add_row(*_cells(columns, run), style="" if run.finished else "dim")
    console.print(table)


def _measurements(setting: Setting, rows: Sequence[Row], width: int) -> Table:
    """The table of one setting, bold on the front."""
    rows, beware = without_shared_flags(rows)
    useful = [column.printed for column in useful_columns(rows)]
    shown = fitting(useful, rows, width - 1, SPACE)  # the right edge
    table = _ruled(shown)
    table.title = f"[bold]{escape(setting.place)}[/bold]\n{escape(setting.images_text)}"
    table.caption = escape(_footnote(setting, useful, shown, beware))
    front = measured_rows.pareto_front(rows)
    for row in rows:
        table.add_row(*_cells(shown, row), style="bold" if row in front else "")
    return table


def _footnote(setting: Setting, useful: Sequence[Column[Row]], shown: Sequence[Column[Row]], beware: str) -> str:
    """What a reader of the table must know, and which columns found no room."""
    omitted = [c.heading for c in useful if c not in shown]
    lines = ["Bold: the Pareto front. " + (setting.caution or ""), beware]
    if omitted:
        lines.append(f"Left out for want of width: {', '.join(omitted)} (they are in report.csv).")
    return "\n".join(filter(None, lines))


def _ruled(columns: Sequence[Column[R]]) -> Table:
    """A table without rows, which has a rule under the columns' headings."""
    table = Table(box=SIMPLE_HEAD, title_justify="left", caption_justify="left", padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
    return table


def _cells(columns: Sequence[Column[R]], row: R) -> list[str]:
    return [escape(column.text(row)) for column in columns]


def _print_line(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
