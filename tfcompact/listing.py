"""Exported files and runs, finished or not, as the app and `tfcompact runs` list them. No TensorFlow here."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact import runs
from tfcompact.errors import UserError
from tfcompact.reading import Scan, only, read_json, scan, under
from tfcompact.results import FORMAT_ORDER, made_by
from tfcompact.types import FORMATS, Artifact

HEADLINES = {
    "top1": "top-1",
    "test_accuracy": "test",
    "accuracy": "accuracy",
    "val_accuracy": "validation",
    "validation_accuracy": "validation",
}
"""Keys of a run's notes that say in one share how it went, the most telling first, and how they are shown."""


@dataclass(frozen=True)
class Export:
    """The newest exported file of a model in one format."""

    model: str
    format: str
    run: str
    made_by: str
    file: Path
    sha256: str
    size_mb: float
    image_px: int
    classes: int
    finished: str  # when its run finished, ISO 8601 in UTC

    @property
    def name(self) -> str:
        """`mobilenet_v2 uint8`."""
        return f"{self.model} {self.format}"


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


def exports(root: Path = runs.ROOT) -> Scan[Export]:
    """The newest exported file of every model and format, by model, then format."""
    found = scan(root, "*/export-*/artifacts.json", lambda file: _exported(file, root))
    by_age = sorted(itertools.chain.from_iterable(found.rows), key=lambda e: (e.finished, e.run))
    newest = {(export.model, export.format): export for export in by_age}  # a later one takes an earlier one's place
    ordered = sorted(newest.values(), key=lambda e: (e.model, FORMAT_ORDER.index(e.format)))
    return Scan(tuple(ordered), found.damaged)


def verify(file: Path, sha256: str) -> None:
    """Raises `UserError` unless the exported file's content is what its run recorded."""
    if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
        model = file.parent.parent.name
        raise UserError(f"{file} is not what was exported; remove {file.parent}, then: make export MODEL={model}")


def times_smaller(original: Export, other: Export) -> float:
    """How many times the size of `other` the size of `original` is."""
    return original.size_mb / other.size_mb


def samples(root: Path, chosen: Iterable[Export], limit: int = 8) -> tuple[Path, ...]:
    """Up to `limit` sample images stored beside the chosen exports, one of each file name (`<class>-<n>.png`)."""
    found: dict[str, Path] = {}
    for export in chosen:
        for file in sorted((export.file.parent / "samples").glob("*.png")):
            if under(file, root):
                found.setdefault(file.name, file)
    return tuple(found.values())[:limit]


def histories(root: Path = runs.ROOT, model: str | None = None) -> Scan[History]:
    """Every run: the finished by the time they finished, then the unfinished by when they were last touched."""
    found = scan(root, f"{only(model)}/*-*/provenance.json", lambda file: _history(file, root))
    done = [row for row in found.rows if not row.run.endswith(".partial")]
    left = [row for row in map(_unfinished, root.glob(f"{only(model)}/*-*.partial")) if row is not None]
    ordered = sorted(done, key=lambda h: (h.touched, h.run)) + sorted(left, key=lambda h: (h.touched, h.run))
    return Scan(tuple(ordered), found.damaged)


def _exported(file: Path, root: Path) -> list[Export]:
    """An export run's files. One that is still being written (`.partial`) has none yet."""
    run = runs.Run(file.parent)
    if run.name.endswith(".partial"):
        return []
    finished = str(read_json(run.path / "provenance.json")["finished"])
    found = []
    for artifact in map(Artifact.from_json, read_json(file)):
        path = run.path / artifact.path
        if not under(path, root):
            raise UserError(f"it names {artifact.path!r}, which is not under the runs directory")
        if artifact.format not in FORMATS:
            raise UserError(f"unknown format {artifact.format!r}")
        if not path.is_file():
            raise UserError(f"it names {artifact.path!r}, which is missing")
        if not artifact.bytes > 0:
            raise UserError(f"{artifact.path!r} has {artifact.bytes} bytes")
        found.append(
            Export(
                model=run.model,
                format=artifact.format,
                run=run.name,
                made_by=made_by(run, artifact.format, root),
                file=path,
                sha256=str(artifact.sha256),
                size_mb=int(artifact.bytes) / 1e6,
                image_px=int(artifact.image_px),
                classes=int(artifact.classes),
                finished=finished,
            )
        )
    return found


def _history(file: Path, root: Path) -> History:
    run = runs.Run(file.parent)
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
