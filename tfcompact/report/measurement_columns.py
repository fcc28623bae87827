"""What is told of a measurement: one table of columns, for the terminal, for Markdown, for CSV and for the app.

A line added to `COLUMNS` appears in all four. The CSV file has every column, a table those that are of use there.
No TensorFlow here.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass

from tfcompact.report import measured_rows
from tfcompact.report.measured_rows import Row
from tfcompact.report.table_columns import ABSENT, Column

Cell = float | str | None
"""What a row has in a column; None, or an empty text, where it has nothing."""
Useful = Callable[[Sequence[Cell]], bool]
"""Whether a column is of use in a table, by its cells there."""


def always(cells: Sequence[Cell]) -> bool:
    """True: every table has the column."""
    return True


def known(cells: Sequence[Cell]) -> bool:
    """Whether any row has something there."""
    return any(cell not in (None, "") for cell in cells)


def differing(cells: Sequence[Cell]) -> bool:
    """Whether the column tells rows apart; what all of them share is said above the table."""
    return len(set(cells)) > 1


def never(cells: Sequence[Cell]) -> bool:
    """False: the column is for the CSV file alone."""
    return False


@dataclass(frozen=True)
class MeasurementColumn(ABC):
    """One column. Its heading is `short` with the unit in a terminal and in Markdown, `title` with it in the app."""

    key: str  # what the CSV file calls it, with the unit that a number has there
    short: str
    title: str
    _: KW_ONLY
    unit: str = ""
    meaning: str = ""  # for the legend, where the heading does not say it
    useful: Useful = always
    yields: int = 0  # 0: never; else the larger, the earlier it is left out of a narrow terminal

    @property
    def heading(self) -> str:
        """`p50 ms`."""
        return f"{self.short} {self.unit}".strip()

    @property
    def full_heading(self) -> str:
        """`Peak memory, MB`."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def printed(self) -> Column[Row]:
        """The column of a table that is made of text."""
        return Column(self.heading, self.text, self.yields, left=isinstance(self, Text))

    @abstractmethod
    def filed(self, row: Row) -> Cell:
        """What the CSV file has: a number unrounded and in the unit of `key`."""

    @abstractmethod
    def shown(self, row: Row) -> Cell:
        """What the app's table has, which sorts by it: a number in `unit`, or a text."""

    @abstractmethod
    def text(self, row: Row) -> str:
        """What the terminal and Markdown have."""


@dataclass(frozen=True)
class Number(MeasurementColumn):
    """A column of numbers, written in Python's `form` after `scale` brings them from the key's unit to `unit`."""

    value: Callable[[Row], float | None]
    form: str
    scale: float = 1.0

    def filed(self, row: Row) -> float | None:
        return self.value(row)

    def shown(self, row: Row) -> float | None:
        value = self.value(row)
        return None if value is None else value * self.scale

    def text(self, row: Row) -> str:
        value = self.shown(row)
        return ABSENT if value is None else format(value, self.form)


@dataclass(frozen=True)
class Text(MeasurementColumn):
    """A column of words. Where people read other words than the CSV file has, they are `words`."""

    value: Callable[[Row], str | None]
    words: Callable[[Row], str | None] | None = None

    def filed(self, row: Row) -> str | None:
        return self.value(row)

    def shown(self, row: Row) -> str:
        return (self.words or self.value)(row) or ""

    def text(self, row: Row) -> str:
        return self.shown(row) or ABSENT


def flags_text(names: Iterable[str]) -> str:
    """`throttled, low battery`."""
    return ", ".join(name.replace("_", " ") for name in names)


# fmt: off
COLUMNS: tuple[MeasurementColumn, ...] = (
    Text("model", "Model", "Model", lambda r: r.model),
    Text("format", "Format", "Format", lambda r: r.format),
    Text("made_by", "Made by", "Made by", lambda r: r.made_by, yields=5),
    Number("image_px", "Image", "Image", lambda r: r.image_px, ".0f", unit="px", useful=differing, yields=10),
    Number("size_mb", "", "Size", lambda r: r.size_mb, ".2f", unit="MB", meaning="size of the file (10^6 bytes)"),
    Number("parameters", "Params", "Parameters", lambda r: r.parameters, ".2f", 1e-6, unit="M", yields=7),
    Number("macs", "MACs", "MACs", lambda r: r.macs, ".0f", 1e-6, unit="M", yields=6,
           meaning="multiply-accumulates for one image"),
    Number("top1", "Top-1", "Top-1", lambda r: r.top1, ".1f", 100, unit="%",
           meaning="test images whose label was first"),
    Number("top5", "Top-5", "Top-5", lambda r: r.top5, ".1f", 100, unit="%", yields=8,
           meaning="test images whose label was among the first five"),
    Number("p50_ms", "p50", "p50", lambda r: r.p50_ms, ".2f", unit="ms", useful=known,
           meaning="median latency of one image"),
    Number("p90_ms", "p90", "p90", lambda r: r.p90_ms, ".2f", unit="ms", useful=known, yields=4,
           meaning="90th percentile of the latency"),
    Number("p99_ms", "p99", "p99", lambda r: r.p99_ms, ".2f", unit="ms", useful=known, yields=3,
           meaning="99th percentile of the latency"),
    Number("cold_ms", "Cold", "Cold start", lambda r: r.cold_ms, ".0f", unit="ms", useful=known, yields=9,
           meaning="from the file to the first answer"),
    Number("instructions", "Instr", "Instructions", lambda r: r.instructions, ".2f", 1e-6, unit="M", useful=known,
           meaning="ARM64 instructions of one inference, counted in an emulator"),
    Number("xnnpack_partitions", "XNN", "Partitions", lambda r: r.partitions, ".0f", yields=2,
           meaning="partitions that the XNNPACK delegate runs (1 is best)"),
    Number("peak_memory_mb", "Peak", "Peak memory", lambda r: r.peak_memory_mb, ".0f", unit="MB", useful=known,
           yields=1, meaning="memory of the measuring process"),
    Number("threads", "Threads", "Threads", lambda r: r.setting.threads, ".0f", useful=differing),
    Text("delegate", "Delegate", "Delegate", lambda r: r.setting.delegate, lambda r: r.setting.delegate_text,
         useful=differing),
    Text("backend", "Run by", "Run by", lambda r: r.setting.backend, useful=differing),
    Text("mode", "Mode", "Mode", lambda r: r.setting.mode, useful=differing,
         meaning="sustained: runs followed each other for minutes"),
    Text("affinity", "Cores", "Cores", lambda r: r.setting.affinity, useful=differing,
         meaning="mask of the cores that the runs were pinned to, hexadecimal"),
    Text("softmax", "Softmax", "Softmax", lambda r: str(r.setting.softmax), useful=differing,
         meaning="whether the runs that were timed end with it, not at the logits"),
    Text("processor", "Device", "Device", lambda r: r.setting.processor, lambda r: r.setting.device_text,
         useful=differing),
    Text("data", "Images", "Images", lambda r: r.setting.data_name, lambda r: r.setting.data_name or r.setting.data,
         useful=differing),
    Text("run", "Run", "Run", lambda r: r.run, useful=differing, yields=11),
    Text("flags", "Beware", "Beware", lambda r: " ".join(r.flags), lambda r: flags_text(r.flags), useful=known),
    Text("key", "", "", lambda r: r.key, useful=never),
    Text("started", "", "", lambda r: r.started, useful=never),
    Number("samples", "", "", lambda r: r.samples, ".0f", useful=never),
    Number("p5_ms", "", "", lambda r: r.p5_ms, ".2f", useful=never),
    Number("p95_ms", "", "", lambda r: r.p95_ms, ".2f", useful=never),
    Number("mad_ms", "", "", lambda r: r.mad_ms, ".2f", useful=never),
    Text("device", "", "", lambda r: r.setting.device, useful=never),
    Text("device_kind", "", "", lambda r: r.setting.device_kind, useful=never),
    Text("runtime", "", "", lambda r: r.setting.runtime, useful=never),
    Text("data_digest", "", "", lambda r: r.setting.data, useful=never),
    Number("test_images", "", "", lambda r: r.setting.images, ".0f", useful=never),
)
# fmt: on


def useful_columns(rows: Sequence[Row]) -> list[MeasurementColumn]:
    """The columns of a table of these rows."""
    return [column for column in COLUMNS if column.useful([column.filed(row) for row in rows])]


def legend(columns: Iterable[MeasurementColumn]) -> str:
    """What those of the columns mean whose headings do not say it."""
    return " ".join(f"{c.short or c.unit}: {c.meaning}." for c in columns if c.meaning)


def without_shared_flags(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """The rows with only the flags that tell them apart, and a line with those that all of them have."""
    shared = measured_rows.shared_flags(rows)
    kept = [dataclasses.replace(row, flags=tuple(f for f in row.flags if f not in shared)) for row in rows]
    return kept, f"Beware, all rows: {flags_text(shared)}." if shared else ""
