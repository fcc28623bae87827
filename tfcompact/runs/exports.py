"""Exported files: the newest of each model and format, checked against what their runs recorded."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tfcompact.errors import UserError
from tfcompact.records.artifact import Artifact
from tfcompact.records.formats import LISTED
from tfcompact.runs import lineage, store
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
    found = scan(root, "*/*/artifacts.json", lambda file: _files(file, root))
    by_age = sorted(itertools.chain.from_iterable(found.rows), key=lambda e: (e.finished, e.run))
    newest = {(export.model, export.format): export for export in by_age}  # a later one takes an earlier one's place
    ordered = sorted(newest.values(), key=lambda e: (e.model, LISTED.index(e.format)))
    return Scan(tuple(ordered), found.damaged)


def times_smaller(original: Export, other: Export) -> float:
    """How many times the size of `other` the size of `original` is."""
    return original.size_mb / other.size_mb


def samples(root: Path, chosen: Iterable[Export], limit: int = 8) -> tuple[Path, ...]:
    """Up to `limit` sample images stored beside the chosen exports, one of each file name (`<class>-<n>.png`)."""
    found: dict[str, Path] = {}
    for export in chosen:
        for file in sorted((export.file.parent / "samples").glob("*.png")):
            if under(file, root) and file.is_file():
                found.setdefault(file.name, file)
    return tuple(found.values())[:limit]


def _files(file: Path, root: Path) -> list[Export]:
    """The files of the run whose `artifacts.json` this is. One that is still being written (`.partial`) has none."""
    run = store.Run(file.parent)
    if run.name.endswith(".partial"):
        return []
    made = lineage.provenance(run, root)
    if made is None:
        raise UserError("provenance.json is missing beside it")
    artifacts = [Artifact.from_json(row) for row in read_json(file)]
    return [_export(run, artifact, str(made["finished"]), root) for artifact in artifacts]


def _export(run: store.Run, artifact: Artifact, finished: str, root: Path) -> Export:
    """Numbers are converted here, so that a file with text where a number belongs counts as damaged."""
    return Export(
        model=run.model,
        format=artifact.format,
        run=run.name,
        made_by=lineage.made_by(run, artifact.format, root),
        file=_checked(run.path / artifact.path, artifact, root),
        sha256=str(artifact.sha256),
        size_mb=int(artifact.bytes) / 1e6,
        image_px=int(artifact.image_px),
        classes=int(artifact.classes),
        finished=finished,
    )


def _checked(path: Path, artifact: Artifact, root: Path) -> Path:
    """The path. Raises `UserError` where what the run recorded of the file at it cannot be true."""
    if not under(path, root):
        raise UserError(f"it names {artifact.path!r}, which is not under the runs directory")
    if artifact.format not in LISTED:
        raise UserError(f"unknown format {artifact.format!r}")
    if not path.is_file():
        raise UserError(f"it names {artifact.path!r}, which is missing")
    if not artifact.bytes > 0:
        raise UserError(f"{artifact.path!r} has {artifact.bytes} bytes")
    return path
