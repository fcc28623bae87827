"""Columns of a table in a terminal: what does not fit is left out, the most dispensable first. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.table import Table

R = TypeVar("R")
ABSENT = "–"
GAP = 1  # characters after a column of `table_of`, but for the last


@dataclass(frozen=True)
class Column(Generic[R]):
    """One column of a table: its heading, how a row fills it, and how early it yields where room is short."""

    heading: str
    text: Callable[[R], str]
    yields: int = 0  # 0: never; else the larger, the earlier it is left out of a narrow terminal
    left: bool = False

    def width(self, rows: Sequence[R]) -> int:
        """The characters of its widest line."""
        return max(map(len, (*self.heading.split("\n"), *map(self.text, rows))))


def fitting(columns: Sequence[Column[R]], rows: Sequence[R], width: int, gap: int) -> list[Column[R]]:
    """The columns that fit into `width` characters, each with `gap` more."""

    def needed(some: Sequence[Column[R]]) -> int:
        return sum(gap + c.width(rows) for c in some)

    shown = list(columns)
    while needed(shown) > width and any(c.yields for c in shown):
        shown.remove(max(shown, key=lambda column: column.yields))
    for column in sorted(columns, key=lambda column: column.yields):  # a narrow one may find room after all
        more = [c for c in columns if c in (*shown, column)]
        shown = more if needed(more) <= width else shown
    return shown


def table_of(columns: Sequence[Column[R]]) -> Table:
    """A table without rows, which has the columns' headings and no rules between them."""
    table = Table(box=None, header_style="bold", padding=(0, GAP, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column.heading, justify="left" if column.left else "right", no_wrap=True, vertical="bottom")
    return table


def omitted_headings(columns: Sequence[Column[R]], shown: Sequence[Column[R]]) -> str:
    """The headings of those that found no room, in words; empty where all did."""
    names = [column.heading.split("\n")[0] for column in columns if column not in shown]
    return f"{', '.join(names)}, for want of width" if names else ""
