"""A comparison as a table in a terminal, in Markdown and as comma-separated values, with what its columns mean."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from tfcompact.comparison.line import Line
from tfcompact.comparison.row_result import RowResult
from tfcompact.report.markdown import cell, mark, table_line
from tfcompact.report.short_numbers import digits
from tfcompact.report.table_columns import ABSENT, GAP, Column, fitting, omitted_headings, table_of


def columns(lines: Sequence[Line]) -> tuple[Column[Line], ...]:
    """The columns that these lines fill, in their order."""
    processors = list(dict.fromkeys(name for line in lines for name in line.instructions))

    def of(processor: str) -> Column[Line]:
        return Column(
            f"Minsn\n{processor.removeprefix('cortex-')}",
            lambda line: _optional(line.instructions.get(processor), 1e-6),
            yields=4,
        )

    return (
        Column("", lambda line: str(line.number)),
        Column("row", lambda line: line.name, left=True),
        Column("class", lambda line: line.kind, yields=9, left=True),
        Column("params\nk", lambda line: digits(line.first.parameters / 1e3), yields=8),
        Column("MACs\nM", lambda line: digits(line.macs / 1e6), yields=3),
        Column("float\n%", lambda line: f"{line.float_accuracy:.1f}", yields=6),
        Column("file\n%", lambda line: f"{line.accuracy:.1f}"),
        Column("±", lambda line: f"{line.half:.1f}", yields=1),
        Column("kB", lambda line: digits(line.first.bytes / 1e3), yields=5),
        Column("zip\nkB", lambda line: digits(line.zipped_bytes / 1e3)),
        Column("ms", lambda line: _optional(line.ms, 1)),
        *map(of, processors),
        Column("energy\nµJ", lambda line: digits(line.first.energy_uj), yields=7),
        Column("- plain\nMACs", lambda line: _gain(line.gain_macs)),
        Column("- plain\nzip", lambda line: _gain(line.gain_zipped)),
        Column("front", lambda line: ", ".join(line.fronts), yields=2, left=True),
    )


def legend(lines: Sequence[Line]) -> str:
    """What the columns mean."""
    whole = [line for line in lines if not line.error]
    seeds = max((line.seeds for line in whole), default=1)
    interval = (
        f"half the 95 % interval of the mean over {seeds} seeds"
        if seeds > 1
        else "half the 95 % interval of a share of so many images; one seed, so that differences between trainings "
        "are not in it"
    )
    images = f" on {whole[0].first.images:,} test images" if whole else ""
    return (
        f"float, file: top-1 accuracy{images} of the float32 file and of the file that is shipped, int8 unless the "
        f"row says otherwise; ±: {interval}. zip: the file deflated, as a download is. ms: median on this computer, "
        "one thread, all files in turns. energy: of one image by the model of costs. - plain: percentage points "
        "ahead of the same network made narrower and trained as long, of equal multiply-adds and of equal zip; none "
        "where no plain network is as cheap. front: no other row is both more accurate and faster (ms) or smaller "
        "(zip)."
    )


def terminal_table(lines: Sequence[Line], width: int) -> tuple[Table, str]:
    """The table of the lines that did not fail, bold on a front, and what its columns mean."""
    whole = [line for line in lines if not line.error]
    every = columns(whole)
    shown = fitting(every, whole, width + 1, GAP)
    table = table_of(shown)
    for line in whole:
        table.add_row(*(escape(column.text(line)) for column in shown), style="bold" if line.fronts else "")
    omitted = omitted_headings(every, shown)
    return table, legend(lines) + (f" Not shown: {omitted}." if omitted else "")


def failures(lines: Sequence[Line]) -> list[str]:
    """A line for each row that failed, and why."""
    return [f"{line.number} {line.name}: {line.error}" for line in lines if line.error]


def markdown(lines: Sequence[Line], title: str, plot: str | None) -> str:
    """The comparison as a page."""
    parts = [f"# {title}", *([f"![Accuracy against time and download]({plot})"] if plot else [])]
    parts += [markdown_table(lines), legend(lines)]
    if failed := failures(lines):
        parts += ["Rows that could not be made:", "\n".join(f"- {cell(why)}" for why in failed)]
    return "\n\n".join(parts) + "\n"


def markdown_table(lines: Sequence[Line]) -> str:
    """One line a row, bold on a front."""
    whole = [line for line in lines if not line.error]
    every = columns(whole)
    rows = [
        table_line(" ".join(column.heading.split("\n")) for column in every),
        table_line(":--" if column.left else "--:" for column in every),
        *(table_line(mark(cell(column.text(row)), bool(row.fronts)) for column in every) for row in whole),
    ]
    return "\n".join(rows)


def as_csv(results: Sequence[RowResult]) -> str:
    """Every row with every seed, numbers unrounded; what is not known is empty."""
    processors = list(dict.fromkeys(name for result in results for name in result.instructions))
    fields = [name for name in RowResult.__dataclass_fields__ if name != "instructions"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*fields, *(f"instructions_{name}" for name in processors)])
    for result in results:
        values = [getattr(result, name) for name in fields]
        writer.writerow([*values, *(result.instructions.get(name, "") for name in processors)])
    return text.getvalue()


def _optional(value: float | None, scale: float) -> str:
    return ABSENT if value is None else digits(value * scale)


def _gain(value: float | None) -> str:
    return ABSENT if value is None else f"{value:+.1f}"
