"""Measurements as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tfcompact.report.measured_rows import Row


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
