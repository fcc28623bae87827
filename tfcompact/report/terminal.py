"""Tables of measurements and runs: for the terminal, as Markdown and as CSV, with the plot beside them.

Rows of different settings (device, delegate, threads, test images) are never put under one heading, since their
numbers do not compare. No TensorFlow here.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfcompact.report import measured_rows
from tfcompact.report.measured_rows import Row, Setting
from tfcompact.report.measurement_columns import useful_columns, without_shared_flags
from tfcompact.report.report_files import nothing_measured
from tfcompact.report.table_columns import ABSENT, Column, fitting
from tfcompact.runs import history, store
from tfcompact.runs.history import History


def print_table(console: Console, rows: Sequence[Row], root: Path = store.ROOT) -> None:
    """Prints one table per setting; columns that do not fit the terminal's width are left out, and that is said."""
    if not rows:
        console.print(nothing_measured(root), markup=False, highlight=False, soft_wrap=True)
        return
    for setting, whole in measured_rows.by_setting(rows).items():
        group, beware = without_shared_flags(whole)
        useful = useful_columns(group)
        shown = fitting(useful, group, console.width - 1, gap=2)  # the right edge
        table = Table(box=SIMPLE_HEAD, title_justify="left", caption_justify="left", padding=(0, 1, 0, 0))
        table.title, table.caption = _heading(setting), escape(_footnote(setting, useful, shown, beware))
        front = measured_rows.pareto_front(group)
        for column in shown:
            table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
        for row in group:
            style = "bold" if row in front else ""
            table.add_row(*(escape(column.text(row)) for column in shown), style=style)
        console.print(table)


RUN_HEADINGS = {"Model": 0, "Run": 0, "Stage": 3, "Finished": 0, "Took": 1, "From": 2, "Result": 0}
"""Columns of the table of runs; of those that are not 0, the larger yields earlier where room is short."""


def runs_table(root: Path = store.ROOT, model: str | None = None, width: int = 200) -> Table:
    """Every run under `root`, oldest first; unfinished ones last. Columns yield where `width` is short.

    Raises `UserError` naming what is damaged.
    """
    found = history.histories(root, model).whole()
    cells = [dict(zip(RUN_HEADINGS, _run_cells(row), strict=True)) for row in found]
    shown = list(RUN_HEADINGS)
    while len(shown) > 4 and sum(2 + max(len(h), *(len(line[h]) for line in cells), 0) for h in shown) > width:
        shown.remove(max(shown, key=lambda heading: RUN_HEADINGS[heading]))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in shown:
        table.add_column(heading, justify="right" if heading == "Took" else "left", no_wrap=True)
    for row, line in zip(found, cells, strict=True):
        table.add_row(*(escape(line[heading]) for heading in shown), style="" if row.finished else "dim")
    return table


def print_runs(console: Console, root: Path = store.ROOT, model: str | None = None) -> None:
    """Prints `runs_table`, or where there is no run the command that makes one."""
    table = runs_table(root, model, console.width)
    if table.row_count:
        console.print(table)
        return
    of = f" of {model}" if model else ""
    line = f"no runs{of} under {root}; try: make train MODEL={model or 'mobilenet_v2'}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _run_cells(row: History) -> tuple[str, ...]:
    took = ABSENT if row.seconds is None else duration(row.seconds)
    when = _local(row.finished) if row.finished else "unfinished"
    result = ABSENT if row.headline is None else f"{row.headline[0]} {row.headline[1]:.1%}"
    if row.finished is None:
        result = f"touched {row.touched.astimezone():%m-%d %H:%M}"  # it may be at work, or killed and waiting
    return (row.model, row.run.removesuffix(".partial"), row.stage, when, took, row.parent or ABSENT, result)


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _local(time: datetime.datetime) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M")


def _heading(setting: Setting) -> str:
    return f"[bold]{escape(setting.place)}[/bold]\n{escape(setting.images_text)}"


def _footnote(setting: Setting, useful: Sequence[Column], shown: Sequence[Column], beware: str) -> str:
    omitted = [c.heading for c in useful if c not in shown]
    lines = ["Bold: the Pareto front. " + (setting.caution or ""), beware]
    if omitted:
        lines.append(f"Left out for want of width: {', '.join(omitted)} (they are in report.csv).")
    return "\n".join(filter(None, lines))
