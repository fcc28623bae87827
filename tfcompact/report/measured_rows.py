"""The measurements in the runs directory, as rows that reports and the app show. No TensorFlow here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.errors import UnknownName, UserError
from tfcompact.records.artifact import Artifact
from tfcompact.records.formats import LISTED
from tfcompact.records.measurement import ColdStart, Measurement
from tfcompact.report.setting import DEVICES, INSTRUCTIONS, Setting
from tfcompact.runs import measurements, store
from tfcompact.runs.lineage import made_by, provenance
from tfcompact.runs.scan import Scan, only, read_json, scan, under


@dataclass(frozen=True)
class Row:
    """One measurement as reports show it. Shares (`top1`, `top5`) are in [0, 1], sizes in 10^6 bytes."""

    key: str  # the name of the measurement's file, without suffix
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
    p5_ms: float | None
    p95_ms: float | None
    mad_ms: float | None  # median of the absolute differences from the median
    cold_ms: float | None  # from the file to the first answer
    samples: int
    instructions: int | None
    partitions: int | None
    peak_memory_mb: float | None
    flags: tuple[str, ...]
    started: str
    setting: Setting

    @property
    def name(self) -> str:
        """`mobilenet_v2 uint8`."""
        return f"{self.model} {self.format}"

    @property
    def cost(self) -> float | None:
        """What the setting's `cost` says: a median latency in ms, or millions of instructions."""
        if self.setting.cost is INSTRUCTIONS:
            return None if self.instructions is None else self.instructions / 1e6
        return self.p50_ms

    @property
    def point(self) -> tuple[float, float]:
        """Where a drawable row is drawn: its cost, and top-1 accuracy in %."""
        if self.cost is None or self.top1 is None:
            raise ValueError(f"{self.name} has no cost or no accuracy")
        return self.cost, 100 * self.top1


def measured(root: Path = store.ROOT, model: str | None = None) -> Scan[Row]:
    """Every measurement, by setting, then model, then format."""

    def read(file: Path) -> Row:
        measurement = Measurement.from_json(read_json(file))
        return _row(measurement, root, file.stem)

    found = scan(root, f"{only(model)}/{measurements.MEASUREMENTS}/*.json", read)
    return Scan(tuple(sorted(found.rows, key=_order)), found.damaged)


def by_setting(rows: Iterable[Row]) -> dict[Setting, list[Row]]:
    """The rows of each setting, in the order the settings first appear."""
    groups: dict[Setting, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    return groups


def pareto_front(rows: Iterable[Row]) -> list[Row]:
    """The rows of one setting that no other row beats in both accuracy and cost, cheapest first."""
    front: list[Row] = []
    for row in sorted(drawable(rows), key=lambda r: (r.point[0], -r.point[1])):
        if not front or row.point[1] > front[-1].point[1]:
            front.append(row)
    return front


def shared_flags(rows: Sequence[Row]) -> tuple[str, ...]:
    """The validity flags that every row has: they are said once."""
    return tuple(flag for flag in rows[0].flags if all(flag in row.flags for row in rows)) if rows else ()


def drawable(rows: Iterable[Row]) -> list[Row]:
    """The rows that have both an accuracy and a cost."""
    return [row for row in rows if row.top1 is not None and row.cost is not None]


def _row(m: Measurement, root: Path, key: str) -> Row:
    """Numbers are converted here, so that a file with text where a number belongs counts as damaged."""
    if m.format not in LISTED:
        raise UnknownName("format", m.format, LISTED)
    run = store.Run(root / m.model / m.run)
    checks, accuracy = _checks(run, m.artifact_sha256, root), m.accuracy
    return Row(
        key=key,
        model=str(m.model),
        format=str(m.format),
        run=str(m.run),
        made_by=made_by(run, m.format, root),
        size_mb=int(m.artifact_bytes) / 1e6,
        parameters=_count(checks, "parameters", "params"),
        macs=_count(checks, "macs"),
        image_px=int(m.image_px),
        top1=None if accuracy is None else _share(accuracy.top1),
        top5=None if accuracy is None else _share(accuracy.top5),
        p50_ms=m.percentile_ms(50),
        p90_ms=m.percentile_ms(90),
        p99_ms=m.percentile_ms(99),
        p5_ms=m.percentile_ms(5),
        p95_ms=m.percentile_ms(95),
        mad_ms=_mad_ms(m.wall_ms),
        cold_ms=_cold_ms(m.cold),
        samples=m.summary.count if m.summary and not m.wall_ms else len(m.wall_ms),
        instructions=None if m.instructions is None else int(m.instructions),
        partitions=None if m.xnnpack_partitions is None else int(m.xnnpack_partitions),
        peak_memory_mb=None if m.peak_memory_mb is None else float(m.peak_memory_mb),
        flags=tuple(sorted(str(name) for name, raised in m.validity.items() if raised)),
        started=str(m.started),
        setting=_setting(m, _data_name(run, root)),
    )


def _setting(m: Measurement, data_name: str) -> Setting:
    """Where and how the measurement was taken."""
    if m.device.kind not in DEVICES:
        raise UnknownName("kind of device", m.device.kind, DEVICES)
    accuracy = m.accuracy
    return Setting(
        device=str(m.device.name),
        device_kind=m.device.kind,
        processor=str(m.device.processor),
        runtime=str(m.runtime),
        delegate=str(m.delegate),
        threads=int(m.threads),
        data=None if accuracy is None else str(accuracy.data_digest)[:8],
        images=None if accuracy is None else int(accuracy.images),
        backend=str(m.backend),
        mode=str(m.mode),
        affinity=str(m.affinity),
        softmax=bool(m.softmax),
        data_name=data_name,
    )


def _data_name(run: store.Run, root: Path) -> str:
    """What the export run calls its images; empty where it is gone."""
    made = provenance(run, root)
    return "" if made is None else str(made.get("data", {}).get("name", ""))


def _mad_ms(samples: Sequence[float]) -> float | None:
    """The median absolute difference from the median, None where there are no samples."""
    if not samples:
        return None
    middle = statistics.median(samples)
    return float(statistics.median(abs(sample - middle) for sample in samples))


def _cold_ms(cold: ColdStart | None) -> float | None:
    """The parts of the way to the first answer that are known, together."""
    parts = () if cold is None else (cold.load_ms, cold.compile_ms, cold.first_ms)
    known = [float(part) for part in parts if part is not None]
    return sum(known) if known else None


def _checks(run: store.Run, sha256: str, root: Path) -> dict[str, Any]:
    """What the export gate noted about the file that was measured; empty where the export run is gone."""
    file = run.path / "artifacts.json"
    if not (under(file, root) and file.is_file()):
        return {}
    found = [a.checks for a in map(Artifact.from_json, read_json(file)) if a.sha256 == sha256]
    return dict(found[0]) if found else {}


def _count(checks: dict[str, Any], *names: str) -> int | None:
    """The first of these checks that is a count."""
    found = [checks[name] for name in names if isinstance(checks.get(name), int)]
    return found[0] if found else None


def _share(value: float) -> float:
    """The value. Raises `UserError` where it is no share."""
    if not 0 <= value <= 1:
        raise UserError(f"an accuracy must be in [0, 1], not {value!r}")
    return float(value)


def _order(row: Row) -> tuple[object, ...]:
    """What rows are sorted by: this computer first, a setting's rows together, then by model and format."""
    s = row.setting
    place = (s.device_kind != "host", s.device, s.delegate, s.data or "", s.threads)
    return (*place, row.model, LISTED.index(row.format), row.started)
