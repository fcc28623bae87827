"""Columns of a table in a terminal: what does not fit is left out, the most dispensable first. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = "–"


@dataclass(frozen=True)
class Column:
    """One column of a table: its heading, how a row fills it, and how early it yields where room is short."""

    heading: str
    text: Callable[[Any], str]
    yields: int = 0  # 0: never; else the larger, the earlier it is left out of a narrow terminal
    left: bool = False

    def width(self, rows: Sequence[Any]) -> int:
        """Of its widest line."""
        return max(map(len, (*self.heading.split("\n"), *map(self.text, rows))))


def fitting(columns: Sequence[Column], rows: Sequence[Any], width: int, gap: int) -> list[Column]:
    """The columns that fit into `width` characters, each with `gap` more."""

    def needed(some: Sequence[Column]) -> int:
        return sum(gap + c.width(rows) for c in some)

    shown = list(columns)
    while needed(shown) > width and any(c.yields for c in shown):
        shown.remove(max(shown, key=lambda column: column.yields))
    for column in sorted(columns, key=lambda column: column.yields):  # a narrow one may find room after all
        more = [c for c in columns if c in (*shown, column)]
        shown = more if needed(more) <= width else shown
    return shown
