"""Measurements on disk, beside the runs whose files they are of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tfcompact.errors import UserError
from tfcompact.files import write_json, write_text
from tfcompact.records.measurement import Measurement
from tfcompact.runs.store import ROOT, read_json_file

MEASUREMENTS = "measurements"


def measurement_name(row: Measurement) -> str:
    """The name, without suffix, of the row's file and of the log beside it: its key, and `.partial` while it is."""
    return f"{row.key}.partial" if row.validity.get("partial") else row.key


def save_measurement(root: Path, row: Measurement, log: str | None = None) -> Path:
    """Writes the row where `measurements` finds it, and beside it what the back end said, where that is given.

    A whole row replaces an older one of the same file, device and setting, and what failed or cut short attempts at
    it have left. One with the flag `partial` has a file of its own: it never takes the place of a whole one.
    Raises `UserError` where it cannot be written.
    """
    name = measurement_name(row)
    path = root / row.model / MEASUREMENTS / f"{name}.json"
    with _written(path.parent):
        if log is not None:
            write_text(path.with_name(f"{name}.log"), log)
        write_json(path, row.to_json())
        if name == row.key:
            for left in ("partial.json", "partial.log", "failed.log"):
                path.with_name(f"{name}.{left}").unlink(missing_ok=True)
    return path


def save_failure(root: Path, model: str, key: str, log: str) -> Path:
    """Writes what was said in a failed attempt at the row of this key. Raises `UserError` where it cannot be."""
    path = root / model / MEASUREMENTS / f"{key}.failed.log"
    with _written(path.parent):
        write_text(path, log)
    return path


@contextlib.contextmanager
def _written(directory: Path) -> Iterator[None]:
    """Makes the directory, and turns what the disk refuses in the block into a `UserError`."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written ({error.strerror}); make room or give rights there, or take another "
            "directory with --runs"
        ) from None


def measurements(root: Path = ROOT, model: str | None = None) -> list[Measurement]:
    """Every measurement on disk, partial ones too, sorted by model and file name."""
    files = sorted(root.glob(f"{model or '*'}/{MEASUREMENTS}/*.json"))
    return [Measurement.from_json(read_json_file(file)) for file in files]
