"""Tables of measurements and runs: for the terminal, as Markdown and as CSV, with the plot beside them.

Rows of different settings (device, delegate, threads, test images) are never put under one heading, since their
numbers do not compare. No TensorFlow here.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfcompact import listing, plots, results, runs
from tfcompact.columns import ABSENT, Column, fitting
from tfcompact.errors import UserError
from tfcompact.listing import History
from tfcompact.results import Row, Setting


def _number(value: float | None, form: str, scale: float = 1.0) -> str:
    return ABSENT if value is None else format(value * scale, form)


COLUMNS = (
    Column("Model", lambda r: r.model, left=True),
    Column("Format", lambda r: r.format, left=True),
    Column("Made by", lambda r: r.made_by or ABSENT, yields=5, left=True),
    Column("MB", lambda r: _number(r.size_mb, ".2f")),
    Column("Params M", lambda r: _number(r.parameters, ".2f", 1e-6), yields=7),
    Column("MACs M", lambda r: _number(r.macs, ".0f", 1e-6), yields=6),
    Column("Top-1 %", lambda r: _number(r.top1, ".1f", 100)),
    Column("Top-5 %", lambda r: _number(r.top5, ".1f", 100), yields=8),
    Column("p50 ms", lambda r: _number(r.p50_ms, ".2f")),
    Column("p90 ms", lambda r: _number(r.p90_ms, ".2f"), yields=4),
    Column("p99 ms", lambda r: _number(r.p99_ms, ".2f"), yields=3),
    Column("Cold ms", lambda r: _number(r.cold_ms, ".0f"), yields=9),
    Column("M instr", lambda r: _number(r.instructions, ".2f", 1e-6)),
    Column("XNN", lambda r: _number(r.partitions, ".0f"), yields=2),
    Column("Peak MB", lambda r: _number(r.peak_memory_mb, ".0f"), yields=1),
    Column("Beware", lambda r: _flags(r.flags), left=True),
)


def _flags(names: Iterable[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


LEGEND = (
    "MB: size of the file (10^6 bytes). Top-1, Top-5: share of test images whose label was first, or among the first "
    "five. p50, p90, p99: percentiles of the latency of one image. XNN: partitions that the XNNPACK delegate runs "
    "(1 is best). Peak MB: memory of the measuring process. Cold ms: from the file to the first answer. M instr: "
    "millions of ARM64 instructions of one inference."
)


def rows(root: Path = runs.ROOT, model: str | None = None) -> tuple[Row, ...]:
    """Every measurement under `root`, or of one model. Raises `UserError` naming the first file that is damaged."""
    return results.measured(root, model).whole()


def nothing_measured(root: Path, model: str | None = None) -> str:
    """The line shown where there is no measurement."""
    if model is None:
        return f"no measurements under {root}; try: make train MODEL=mobilenet_v2"
    return f"no measurements of {model} under {root}; try: make measure MODEL={model}"


def write(root: Path = runs.ROOT, model: str | None = None, out: Path | None = None) -> list[Path]:
    """Writes report.md, report.csv and pareto.png, and returns their paths.

    They go to `out`, by default `<root>/report`, or `<root>/report/<model>` for one model. Each file is replaced in
    one step. There is no plot where no row has both accuracy and latency. Raises `UserError` without measurements.
    """
    found = rows(root, model)
    if not found:
        raise UserError(nothing_measured(root, model))
    out = out or (root / "report" / model if model else root / "report")
    out.mkdir(parents=True, exist_ok=True)
    picture = plots.pareto_png(found)
    if picture is None:
        (out / "pareto.png").unlink(missing_ok=True)  # one of an earlier report, which no longer tells the truth
    contents = {
        "report.md": markdown(found, plot=picture is not None).encode(),
        "report.csv": as_csv(found).encode(),
        "pareto.png": picture,
    }
    return [_replace(out / name, content) for name, content in contents.items() if content is not None]


def print_table(console: Console, rows: Sequence[Row], root: Path = runs.ROOT) -> None:
    """Prints one table per setting; columns that do not fit the terminal's width are left out, and that is said."""
    if not rows:
        console.print(nothing_measured(root), markup=False, highlight=False, soft_wrap=True)
        return
    for setting, whole in results.by_setting(rows).items():
        group, beware = _without_shared_flags(whole)
        useful = _useful(group)
        shown = fitting(useful, group, console.width - 1, gap=2)  # the right edge
        table = Table(box=SIMPLE_HEAD, title_justify="left", caption_justify="left", padding=(0, 1, 0, 0))
        table.title, table.caption = _heading(setting), escape(_footnote(setting, useful, shown, beware))
        front = results.pareto_front(group)
        for column in shown:
            table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True)
        for row in group:
            style = "bold" if row in front else ""
            table.add_row(*(escape(column.text(row)) for column in shown), style=style)
        console.print(table)


def markdown(rows: Sequence[Row], *, plot: bool) -> str:
    """The report as Markdown; with `plot`, it shows the picture that lies beside it."""
    parts = ["# Measurements"]
    if plot:
        parts.append("![Accuracy against latency; the area of a point is the size of its file](pareto.png)")
    for setting, whole in results.by_setting(rows).items():
        group, beware = _without_shared_flags(whole)
        shown = _useful(group)
        front = results.pareto_front(group)
        lines = [
            _line(column.heading for column in shown),
            _line(":--" if column.left else "--:" for column in shown),
            *(_line(_mark(_cell(column.text(row)), row in front) for column in shown) for row in group),
        ]
        parts += [f"## {_cell(setting.place)}", f"Accuracy: {_cell(setting.images_text)}.", "\n".join(lines)]
        parts.append("Bold: on the Pareto front (no other file is both faster and more accurate).")
        parts += [line for line in (setting.caution, beware) if line]
    return "\n\n".join([*parts, LEGEND]) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """One line per measurement, numbers unrounded, units in the column names, shares in [0, 1]; absent is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_csv_line(rows[0])) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_line(row) for row in rows)
    return text.getvalue()


def _csv_line(row: Row) -> dict[str, object]:
    setting = {_CSV_NAMES.get(name, name): value for name, value in vars(row.setting).items()}
    own = {_CSV_NAMES.get(name, name): value for name, value in vars(row).items() if name != "setting"}
    return own | setting | {"flags": " ".join(row.flags)}


_CSV_NAMES = {"data": "data_digest", "images": "test_images", "data_name": "data", "partitions": "xnnpack_partitions"}


RUN_HEADINGS = {"Model": 0, "Run": 0, "Stage": 3, "Finished": 0, "Took": 1, "From": 2, "Result": 0}
"""Columns of the table of runs; of those that are not 0, the larger yields earlier where room is short."""


def runs_table(root: Path = runs.ROOT, model: str | None = None, width: int = 200) -> Table:
    """Every run under `root`, oldest first; unfinished ones last. Columns yield where `width` is short.

    Raises `UserError` naming what is damaged.
    """
    found = listing.histories(root, model).whole()
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


def print_runs(console: Console, root: Path = runs.ROOT, model: str | None = None) -> None:
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


def _without_shared_flags(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """The rows with only the flags that tell them apart, and a line with those that all of them have."""
    shared = results.shared_flags(rows)
    kept = [dataclasses.replace(row, flags=tuple(f for f in row.flags if f not in shared)) for row in rows]
    return kept, f"Beware, all rows: {_flags(shared)}." if shared else ""


def _useful(group: Sequence[Row]) -> list[Column]:
    """The columns, but for those that only some settings have and none of these rows."""
    have = {
        "Beware": any(row.flags for row in group),
        "Cold ms": any(row.cold_ms is not None for row in group),
        "M instr": any(row.instructions is not None for row in group),
        "Peak MB": any(row.peak_memory_mb is not None for row in group),
        "p50 ms": any(row.p50_ms is not None for row in group),
        "p90 ms": any(row.p90_ms is not None for row in group),
        "p99 ms": any(row.p99_ms is not None for row in group),
    }
    return [column for column in COLUMNS if have.get(column.heading, True)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mark(text: str, bold: bool) -> str:
    return f"**{text}**" if bold and text else text


def _cell(text: str) -> str:
    """Text that stays one cell of a Markdown table and cannot become markup."""
    for character in "\\|*`<>[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def _replace(path: Path, content: bytes) -> Path:
    """Writes the file so that a reader sees the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path
