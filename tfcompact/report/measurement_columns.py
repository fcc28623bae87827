"""The columns that tables of measurements have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from tfcompact.report import measured_rows
from tfcompact.report.measured_rows import Row
from tfcompact.report.table_columns import ABSENT, Column


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


def without_shared_flags(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """The rows with only the flags that tell them apart, and a line with those that all of them have."""
    shared = measured_rows.shared_flags(rows)
    kept = [dataclasses.replace(row, flags=tuple(f for f in row.flags if f not in shared)) for row in rows]
    return kept, f"Beware, all rows: {_flags(shared)}." if shared else ""


def useful_columns(group: Sequence[Row]) -> list[Column]:
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
