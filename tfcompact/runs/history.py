"""Every run, finished or not, as `tfcompact runs` and the app list them."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.runs import store
from tfcompact.runs.scan import Scan, only, read_json, scan, under

HEADLINES = {
    "top1": "top-1",
    "test_accuracy": "test",
    "accuracy": "accuracy",
    "val_accuracy": "validation",
    "validation_accuracy": "validation",
}
"""Keys of a run's notes that say in one share how it went, the most telling first, and how they are shown."""


@dataclass(frozen=True)
class History:
    """A run, finished or not, as `tfcompact runs` lists it."""

    model: str
    run: str
    stage: str
    finished: datetime.datetime | None  # None: killed, or still at work
    touched: datetime.datetime
    seconds: float | None
    parent: str | None
    headline: tuple[str, float] | None  # a name and a share in [0, 1]


def histories(root: Path = store.ROOT, model: str | None = None) -> Scan[History]:
    """Every run: the finished by the time they finished, then the unfinished by when they were last touched."""
    found = scan(root, f"{only(model)}/*-*/provenance.json", lambda file: _history(file, root))
    done = [row for row in found.rows if not row.run.endswith(".partial")]
    left = [row for row in map(_unfinished, root.glob(f"{only(model)}/*-*.partial")) if row is not None]
    ordered = sorted(done, key=lambda h: (h.touched, h.run)) + sorted(left, key=lambda h: (h.touched, h.run))
    return Scan(tuple(ordered), found.damaged)


def _history(file: Path, root: Path) -> History:
    run = store.Run(file.parent)
    provenance = read_json(file)
    finished = datetime.datetime.fromisoformat(provenance["finished"]).astimezone(datetime.UTC)
    parent = provenance["inputs"].get("parent")
    notes = run.path / "notes.json"
    return History(
        model=run.model,
        run=run.name,
        stage=run.stage,
        finished=finished,
        touched=finished,
        seconds=float(provenance["seconds"]),
        parent=None if parent is None else str(parent),
        headline=_headline(read_json(notes)) if notes.is_file() and under(notes, root) else None,
    )


def _unfinished(path: Path) -> History | None:
    """A directory that was not renamed: its start is not recorded yet, so the newest file says when it was alive.

    None where it has just been renamed.
    """
    name = path.name.removesuffix(".partial")
    try:
        touched = max(entry.stat().st_mtime for entry in (path, *path.iterdir()))
    except OSError:
        return None
    return History(
        model=path.parent.name,
        run=path.name,
        stage=name.rpartition("-")[0],
        finished=None,
        touched=datetime.datetime.fromtimestamp(touched, datetime.UTC),
        seconds=None,
        parent=None,
        headline=None,
    )


def _headline(notes: dict[str, Any]) -> tuple[str, float] | None:
    for key, name in HEADLINES.items():
        value = notes.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return name, float(value)
    return None
