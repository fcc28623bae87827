"""Measurements as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tfcompact.report import measurement_columns
from tfcompact.report.measured_rows import Row


def as_csv(rows: Sequence[Row]) -> str:
    """One line per measurement, numbers unrounded, units in the column names, shares in [0, 1]; absent is empty."""
    columns = measurement_columns.COLUMNS
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.key for column in columns)
    writer.writerows([column.filed(row) for column in columns] for row in rows)
    return text.getvalue()
