"""Numbers and shapes in as few characters as a table has room for."""

from __future__ import annotations

from tfcompact.report.table_columns import ABSENT


def shape_text(shape: tuple[int, ...]) -> str:
    """`56²x24` for a square map."""
    if len(shape) == 3 and shape[0] == shape[1]:
        return f"{shape[0]}²x{shape[2]}" if shape[0] > 1 else str(shape[2])
    return "x".join(map(str, shape))


def digits(value: float) -> str:
    """Three digits, or all before the point."""
    if not value:
        return ABSENT
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
