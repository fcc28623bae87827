"""Every run, finished or not, as `tfcompact runs` lists them. No TensorFlow here."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tfcompact.runs import lineage, store
from tfcompact.runs.scan import Scan, only, read_json, scan, under

HEADLINES = {
    "top1": "top-1",
    "test_accuracy": "test",
    "accuracy": "accuracy",
    "val_accuracy": "validation",
    "validation_accuracy": "validation",
}
"""Keys of a run's notes that say in one share how it went, the most telling first, and how they are shown."""


class Headline(NamedTuple):
    """How a run went: what was measured, and a share in [0, 1]."""

    name: str
    share: float


@dataclass(frozen=True)
class History:
    """A run, finished or not. What an unfinished one has not recorded yet is None, or empty."""

    model: str
    run: str
    stage: str
    finished: datetime.datetime | None  # None: killed, or still at work
    touched: datetime.datetime
    seconds: float | None
    parent: str | None
    headline: Headline | None
    summary: str  # one line on what its stage did


def histories(root: Path = store.ROOT, model: str | None = None) -> Scan[History]:
    """Every run: the finished by the time they finished, then the unfinished by when they were last touched."""
    found = scan(root, f"{only(model)}/*-*/provenance.json", lambda file: _finished(file, root))
    done = [row for row in found.rows if not row.run.endswith(".partial")]
    left = [row for row in map(_unfinished, root.glob(f"{only(model)}/*-*.partial")) if row is not None]
    ordered = sorted(done, key=lambda h: (h.touched, h.run)) + sorted(left, key=lambda h: (h.touched, h.run))
    return Scan(tuple(ordered), found.damaged)


def _finished(file: Path, root: Path) -> History:
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
        summary=lineage.summary(run),
    )


def _unfinished(path: Path) -> History | None:
    """A directory that was not renamed: its start is not recorded yet, so the newest file says when it was alive.

    None where it has just been renamed.
    """
    try:
        touched = max(entry.stat().st_mtime for entry in (path, *path.iterdir()))
    except OSError:
        return None
    return History(
        model=path.parent.name,
        run=path.name,
        stage=store.Run(path).stage,
        finished=None,
        touched=datetime.datetime.fromtimestamp(touched, datetime.UTC),
        seconds=None,
        parent=None,
        headline=None,
        summary="",
    )


def _headline(notes: dict[str, Any]) -> Headline | None:
    """The most telling share among the notes, None where there is none."""
    for key, name in HEADLINES.items():
        value = notes.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return Headline(name, float(value))
    return None
