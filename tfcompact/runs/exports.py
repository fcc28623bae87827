"""Exported files and runs, finished or not, as the app and `tfcompact runs` list them. No TensorFlow here."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tfcompact.errors import UserError
from tfcompact.records.artifact import Artifact
from tfcompact.records.formats import FORMATS, LISTED
from tfcompact.runs import store
from tfcompact.runs.lineage import made_by
from tfcompact.runs.scan import Scan, read_json, scan, under


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


def exports(root: Path = store.ROOT) -> Scan[Export]:
    """The newest exported file of every model and format, by model, then format."""
    found = scan(root, "*/export-*/artifacts.json", lambda file: _exported(file, root))
    by_age = sorted(itertools.chain.from_iterable(found.rows), key=lambda e: (e.finished, e.run))
    newest = {(export.model, export.format): export for export in by_age}  # a later one takes an earlier one's place
    ordered = sorted(newest.values(), key=lambda e: (e.model, LISTED.index(e.format)))
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


def _exported(file: Path, root: Path) -> list[Export]:
    """An export run's files. One that is still being written (`.partial`) has none yet."""
    run = store.Run(file.parent)
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
