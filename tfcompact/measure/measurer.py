"""What every way to measure is given and gives: files in, rows kept as they come, rows and failures out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from tfcompact.records.artifact import Artifact
from tfcompact.records.measurement import Measurement

Log = Callable[[str], None]
"""Hears of progress, a line at a time."""


def quiet(line: str) -> None:
    """A log that says nothing."""


class File(NamedTuple):
    """An exported file and its record."""

    path: Path
    artifact: Artifact


@dataclass(frozen=True)
class Measured:
    """The rows that were kept, and one line for each thing that failed."""

    rows: tuple[Measurement, ...]
    failures: tuple[str, ...] = ()


class Keep(Protocol):
    """What keeps rows, and the logs of those that failed. Raises `UserError` where the disk does not take them."""

    def row(self, row: Measurement, log: str | None = None) -> None:
        """Keeps a row with all that was said; called again, with more samples, where there are several rounds."""

    def failure(self, key: str, log: str) -> Path:
        """The file in which it keeps what was said in a failed attempt at the row of that key."""


class Measurer(Protocol):
    """A way to measure files: on this computer, on phones, or under emulation."""

    def measure(self, files: Sequence[File], keep: Keep, log: Log) -> Measured:
        """The rows of every file in every setting that was asked for, each kept the moment it is there.

        What fails for one file, or on one device, does not stop the others; it is told by `log` and in the result.
        Raises `UserError` where nothing can be measured at all.
        """
