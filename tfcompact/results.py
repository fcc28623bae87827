"""What the runs directory holds, as rows: measurements, exported files, runs.

`runs` raises at the first damaged file, which is right for a stage. A report or a page must show the rest as well, so
every function here returns a `Scan`: what could be read, and one line for each file that could not. Nothing outside
the runs directory is opened, whatever a file in it says. No TensorFlow here.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tfcompact import runs
from tfcompact.errors import UserError
from tfcompact.types import FORMATS, Artifact, Measurement

T = TypeVar("T")
MALFORMED = (UserError, OSError, TypeError, ValueError, KeyError, AttributeError)
"""What reading a JSON file of the wrong content can raise: it may hold a list where a mapping is expected."""

FORMAT_ORDER = ("float32", "float16", "dynamic", "int8", "uint8")
"""How a model's files are listed: what they were made from first."""

HEADLINES = ("top1", "test_accuracy", "accuracy", "val_accuracy", "validation_accuracy", "top1_agreement", "agreement")
"""Keys of a run's notes that say in one number how it went, the most telling first."""


@dataclass(frozen=True)
class Scan(Generic[T]):
    """Everything that could be read, and one line for each file that could not."""

    rows: tuple[T, ...]
    damaged: tuple[str, ...]

    def whole(self) -> tuple[T, ...]:
        """The rows. Raises `UserError` with the first damaged file's line, if there is one."""
        if self.damaged:
            raise UserError(self.damaged[0])
        return self.rows


@dataclass(frozen=True)
class Setting:
    """What two measurements must share before their latencies and accuracies may be compared."""

    device: str
    device_kind: str
    processor: str
    runtime: str
    delegate: str
    threads: int
    data: str | None  # the first eight digits of the data set's digest
    images: int | None  # test images

    @property
    def place(self) -> str:
        """`Intel Xeon (host computer), XNNPACK, 1 thread`."""
        kind = {"host": "host computer", "android": "Android device", "emulated": "emulated"}[self.device_kind]
        delegate = {"xnnpack": "XNNPACK"}.get(self.delegate, self.delegate)
        return f"{self.processor or self.device} ({kind}), {delegate}, {threads_text(self.threads)}"

    @property
    def images_text(self) -> str:
        """`634 test images of data set 3f9a10c2`, or that there was no accuracy."""
        return "no accuracy measured" if self.images is None else f"{self.images} test images of data set {self.data}"

    @property
    def caution(self) -> str | None:
        """What a reader must know before carrying these latencies elsewhere."""
        if self.device_kind == "host":
            return "Latency of this computer, not of a phone: the order of formats and models can differ on ARM."
        return "Emulated: there is no latency to show." if self.device_kind == "emulated" else None


@dataclass(frozen=True)
class Row:
    """One measurement as reports show it. Shares (`top1`, `top5`) are in [0, 1], sizes in 10^6 bytes."""

    model: str
    format: str
    run: str
    made_by: str
    size_mb: float
    parameters: int | None
    macs: int | None
    image_px: int
    top1: float | None
    top5: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    samples: int
    partitions: int | None
    peak_memory_mb: float | None
    flags: tuple[str, ...]
    started: str
    setting: Setting

    @property
    def name(self) -> str:
        """`mobilenet_v2 uint8`."""
        return f"{self.model} {self.format}"


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

    @property
    def name(self) -> str:
        """`mobilenet_v2 uint8`."""
        return f"{self.model} {self.format}"

    def verify(self) -> None:
        """Raises `UserError` unless the file's content is what the export run recorded."""
        if hashlib.sha256(self.file.read_bytes()).hexdigest() != self.sha256:
            raise UserError(f"{self.file} is not the file that was exported; remove its run, then: {_export(self.model)}")


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
    headline: tuple[str, float] | None


def threads_text(threads: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


def measured(root: Path = runs.ROOT, model: str | None = None) -> Scan[Row]:
    """Every measurement, by setting, then model, then format."""

    def read(file: Path) -> Row:
        measurement = Measurement.from_json(_json(file))
        return _row(measurement, root)

    scan = _scan(root, f"{_only(model)}/{runs.MEASUREMENTS}/*.json", read)
    return Scan(tuple(sorted(scan.rows, key=_order)), scan.damaged)


def exports(root: Path = runs.ROOT) -> Scan[Export]:
    """The newest exported file of every model and format, by model, then format."""
    newest: dict[tuple[str, str], tuple[str, Export]] = {}
    scan = _scan(root, "*/export-*/artifacts.json", lambda file: _exported(file, root))
    for finished, found in scan.rows:
        for export in found:
            known = newest.get((export.model, export.format))
            if known is None or known[0] <= finished:
                newest[export.model, export.format] = (finished, export)
    ordered = sorted((export for _, export in newest.values()), key=lambda e: (e.model, FORMAT_ORDER.index(e.format)))
    return Scan(tuple(ordered), scan.damaged)


def samples(root: Path, chosen: Iterable[Export], limit: int = 8) -> tuple[Path, ...]:
    """Up to `limit` sample images stored beside the chosen exports, one of each file name (`<class>-<n>.png`)."""
    found: dict[str, Path] = {}
    for export in chosen:
        for file in sorted((export.file.parent / "samples").glob("*.png")):
            if _inside(file, root):
                found.setdefault(file.name, file)
    return tuple(found.values())[:limit]


def histories(root: Path = runs.ROOT, model: str | None = None) -> Scan[History]:
    """Every run, finished ones first by the time they finished, then the unfinished by when they were last touched."""
    finished = _scan(root, f"{_only(model)}/*-*/provenance.json", _history)
    done = [row for row in finished.rows if not row.run.endswith(".partial")]
    left = [_unfinished(path) for path in sorted(root.glob(f"{_only(model)}/*-*.partial")) if path.is_dir()]
    ordered = sorted(done, key=lambda h: (h.touched, h.run)) + sorted(left, key=lambda h: (h.touched, h.run))
    return Scan(tuple(ordered), finished.damaged)


def by_setting(rows: Iterable[Row]) -> dict[Setting, list[Row]]:
    """The rows of each setting, in the order the settings first appear."""
    groups: dict[Setting, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    return groups


def pareto_front(rows: Iterable[Row]) -> list[Row]:
    """Of rows of one setting, those that no other row beats in both accuracy and latency, fastest first."""
    front: list[Row] = []
    for row in sorted(drawable(rows), key=lambda r: (r.p50_ms, -r.top1)):  # type: ignore[operator]
        if not front or row.top1 > front[-1].top1:  # type: ignore[operator]
            front.append(row)
    return front


def drawable(rows: Iterable[Row]) -> list[Row]:
    """The rows that have both an accuracy and a latency."""
    return [row for row in rows if row.top1 is not None and row.p50_ms is not None]


def _row(m: Measurement, root: Path) -> Row:
    """Numbers are converted here, so that a file with text where a number belongs counts as damaged."""
    run = runs.Run(root / m.model / m.run)
    checks = _checks(run, m.artifact_sha256, root)
    accuracy = m.accuracy
    setting = Setting(
        device=str(m.device.name),
        device_kind=m.device.kind,
        processor=str(m.device.processor),
        runtime=str(m.runtime),
        delegate=str(m.delegate),
        threads=int(m.threads),
        data=None if accuracy is None else str(accuracy.data_digest)[:8],
        images=None if accuracy is None else int(accuracy.images),
    )
    if setting.device_kind not in ("host", "android", "emulated"):
        raise UserError(f"device kind must be host, android or emulated, not {setting.device_kind!r}")
    return Row(
        model=str(m.model),
        format=str(m.format),
        run=str(m.run),
        made_by=_made_by(run, root),
        size_mb=int(m.artifact_bytes) / 1e6,
        parameters=_count(checks, "parameters", "params"),
        macs=_count(checks, "macs"),
        image_px=int(m.image_px),
        top1=None if accuracy is None else _share(accuracy.top1),
        top5=None if accuracy is None else _share(accuracy.top5),
        p50_ms=m.percentile_ms(50),
        p90_ms=m.percentile_ms(90),
        p99_ms=m.percentile_ms(99),
        samples=len(m.wall_ms),
        partitions=None if m.xnnpack_partitions is None else int(m.xnnpack_partitions),
        peak_memory_mb=None if m.peak_memory_mb is None else float(m.peak_memory_mb),
        flags=tuple(sorted(str(name) for name, raised in m.validity.items() if raised)),
        started=str(m.started),
        setting=setting,
    )


def _exported(file: Path, root: Path) -> tuple[str, list[Export]]:
    """When an export run finished, and its files."""
    run = runs.Run(file.parent)
    finished = str(_json(run.path / "provenance.json")["finished"])
    found = []
    for artifact in map(Artifact.from_json, _json(file)):
        path = run.path / artifact.path
        if not _inside(path, root):
            raise UserError(f"it names {artifact.path!r}, which is not under the runs directory")
        if artifact.format not in FORMATS:
            raise UserError(f"unknown format {artifact.format!r}")
        if not path.is_file():
            raise UserError(f"it names {artifact.path!r}, which is missing")
        found.append(
            Export(
                model=run.model,
                format=artifact.format,
                run=run.name,
                made_by=_made_by(run, root),
                file=path,
                sha256=str(artifact.sha256),
                size_mb=int(artifact.bytes) / 1e6,
                image_px=int(artifact.image_px),
                classes=int(artifact.classes),
            )
        )
    return finished, found


def _history(file: Path) -> History:
    run = runs.Run(file.parent)
    provenance = _json(file)
    finished = datetime.datetime.fromisoformat(provenance["finished"])
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
        headline=_headline(_json(notes)) if notes.is_file() else None,
    )


def _unfinished(path: Path) -> History:
    """A directory that was not renamed: its start is not recorded yet, so the newest file says when it was alive."""
    name = path.name.removesuffix(".partial")
    touched = max((entry.stat().st_mtime for entry in (path, *path.iterdir())), default=0.0)
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
    for name in HEADLINES:
        value = notes.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return name, float(value)
    return None


def _made_by(run: runs.Run, root: Path) -> str:
    """The stages behind an export, `fit, quantize`; empty where the run is gone. Follows names, not paths."""
    stages: list[str] = []
    name: str | None = run.name
    while name is not None and len(stages) < 20:  # a damaged chain may lead in a circle
        file = run.path.parent / name / "provenance.json"
        if not (_inside(file, root) and file.is_file()):
            break
        stages.append(name.rpartition("-")[0])
        name = _json(file)["inputs"].get("parent")
    return ", ".join(stage for stage in reversed(stages) if stage != "export")


def _checks(run: runs.Run, sha256: str, root: Path) -> dict[str, Any]:
    """What the export gate noted about the file that was measured; empty where the export run is gone."""
    file = run.path / "artifacts.json"
    if not (_inside(file, root) and file.is_file()):
        return {}
    found = [a.checks for a in map(Artifact.from_json, _json(file)) if a.sha256 == sha256]
    return dict(found[0]) if found else {}


def _count(checks: dict[str, Any], *names: str) -> int | None:
    found = [checks[name] for name in names if isinstance(checks.get(name), int)]
    return found[0] if found else None


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(f"an accuracy must be in [0, 1], not {value!r}")
    return float(value)


def _order(row: Row) -> tuple[object, ...]:
    s = row.setting
    known = FORMAT_ORDER.index(row.format) if row.format in FORMAT_ORDER else len(FORMAT_ORDER)
    return (s.device_kind != "host", s.device, s.delegate, s.data or "", s.threads, row.model, known, row.started)


def _scan(root: Path, pattern: str, read: Callable[[Path], T]) -> Scan[T]:
    rows: list[T] = []
    damaged: list[str] = []
    for file in sorted(root.glob(pattern)):
        try:
            if not _inside(file, root):
                raise UserError("it is a link that leads out of the runs directory")
            rows.append(read(file))
        except MALFORMED as error:
            culprit = error.file if isinstance(error, _NotJson) else file
            damaged.append(f"{culprit} cannot be used ({_reason(error)}); {_remedy(culprit)}")
    return Scan(tuple(rows), tuple(dict.fromkeys(damaged)))


def _reason(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"key {error} is missing" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"


def _remedy(file: Path) -> str:
    model = file.parent.parent.name
    if file.parent.name == runs.MEASUREMENTS:
        return f"remove it, then: make measure MODEL={model}"
    return f"remove {file.parent}, then run its stage again"


def _export(model: str) -> str:
    return f"make export MODEL={model}"


class _NotJson(UserError):
    def __init__(self, file: Path, error: Exception) -> None:
        self.file = file
        super().__init__(f"not JSON: {error}")


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _NotJson(file, error) from None


def _inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _only(model: str | None) -> str:
    """A pattern for one model's directory, or for all; a name's own wildcards mean nothing."""
    if model is None:
        return "*"
    return "".join(f"[{c}]" if c in "*?[" else c for c in model)

