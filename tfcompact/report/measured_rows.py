"""The measurements in the runs directory, as rows that reports and the app show. No TensorFlow here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfcompact.errors import UserError
from tfcompact.records.artifact import Artifact
from tfcompact.records.formats import LISTED
from tfcompact.records.measurement import ColdStart, Measurement
from tfcompact.runs import measurements, store
from tfcompact.runs.lineage import made_by, provenance
from tfcompact.runs.scan import Scan, only, read_json, scan, under


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
    data_name: str = field(default="", compare=False)
    backend: str = "ai_edge_litert"
    mode: str = "burst"
    affinity: str = ""
    softmax: bool = True

    @property
    def place(self) -> str:
        """`Intel Xeon (host computer), XNNPACK, 1 thread`; of a phone also what ran the file there."""
        kind = {"host": "host computer", "android": "Android device", "emulated": "emulated"}[self.device_kind]
        names = {"xnnpack": "XNNPACK", "gpu": "GPU", "npu": "NPU", "nnapi": "NNAPI"}
        ran, _, wanted = self.delegate.partition("-instead-of-")  # a fallback
        delegate = names.get(ran, ran) + (f" instead of {names.get(wanted, wanted)}" if wanted else "")
        by = "" if self.device_kind != "android" else f" by {self.backend}"
        pinned = f", cores {self.affinity}" if self.affinity else ""
        mode = ", sustained" if self.mode == "sustained" else ""
        mode += "" if self.softmax else ", without softmax"
        where = self.processor or self.device
        where += "" if "QEMU" in where else f" ({kind})"  # said already
        return f"{where}, {delegate}{by}, {threads_text(self.threads)}{pinned}{mode}"

    @property
    def cost_text(self) -> str:
        """What the rows' `cost` is, with its unit."""
        if self.device_kind == "emulated":
            return "Instructions of one inference, in millions"
        return "Latency of one image in ms, median"

    @property
    def images_text(self) -> str:
        """`634 test images of flowers (3f9a10c2)`, or that there was no accuracy."""
        if self.images is None:
            return "no accuracy measured"
        return f"{self.images} test images of {self.data_name or 'data set'} ({self.data})"

    @property
    def caution(self) -> str | None:
        """What a reader must know before carrying these latencies elsewhere."""
        if self.device_kind == "host":
            return "Latency of this computer, not of a phone: the order of formats and models can differ on ARM."
        if self.device_kind == "emulated":
            return (
                "Emulated: there is no latency to show. Instructions of one inference rank files and are the same in "
                "every run, but know no caches and no pipeline."
            )
        return None


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
    samples: int
    partitions: int | None
    peak_memory_mb: float | None
    flags: tuple[str, ...]
    started: str
    setting: Setting
    instructions: int | None = None
    cold_ms: float | None = None  # from the file to the first answer
    p5_ms: float | None = None
    p95_ms: float | None = None
    mad_ms: float | None = None  # median of the absolute differences from the median

    @property
    def name(self) -> str:
        """`mobilenet_v2 uint8`."""
        return f"{self.model} {self.format}"

    @property
    def cost(self) -> float | None:
        """What the setting's `cost_text` says: a median latency in ms, or of an emulated device millions of
        instructions."""
        if self.setting.device_kind == "emulated":
            return None if self.instructions is None else self.instructions / 1e6
        return self.p50_ms

    @property
    def point(self) -> tuple[float, float]:
        """Where a drawable row is drawn: its cost, and top-1 accuracy in %."""
        if self.cost is None or self.top1 is None:
            raise ValueError(f"{self.name} has no cost or no accuracy")
        return self.cost, 100 * self.top1


def threads_text(threads: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


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
    """Of rows of one setting, those that no other row beats in both accuracy and cost, cheapest first."""
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
    run = store.Run(root / m.model / m.run)
    made, checks = provenance(run, root), _checks(run, m.artifact_sha256, root)
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
        data_name="" if made is None else str(made.get("data", {}).get("name", "")),
        backend=str(m.backend),
        mode=str(m.mode),
        affinity=str(m.affinity),
        softmax=bool(m.softmax),
    )
    if setting.device_kind not in ("host", "android", "emulated"):
        raise UserError(f"device kind must be host, android or emulated, not {setting.device_kind!r}")
    if m.format not in LISTED:
        raise UserError(f"unknown format {m.format!r}")
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
        samples=m.summary.count if m.summary and not m.wall_ms else len(m.wall_ms),
        partitions=None if m.xnnpack_partitions is None else int(m.xnnpack_partitions),
        peak_memory_mb=None if m.peak_memory_mb is None else float(m.peak_memory_mb),
        flags=tuple(sorted(str(name) for name, raised in m.validity.items() if raised)),
        started=str(m.started),
        setting=setting,
        instructions=None if m.instructions is None else int(m.instructions),
        cold_ms=_cold_ms(m.cold),
        p5_ms=m.percentile_ms(5),
        p95_ms=m.percentile_ms(95),
        mad_ms=_mad_ms(m.wall_ms),
    )


def _mad_ms(samples: Sequence[float]) -> float | None:
    if not samples:
        return None
    middle = statistics.median(samples)
    return float(statistics.median(abs(sample - middle) for sample in samples))


def _cold_ms(cold: ColdStart | None) -> float | None:
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
    found = [checks[name] for name in names if isinstance(checks.get(name), int)]
    return found[0] if found else None


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(f"an accuracy must be in [0, 1], not {value!r}")
    return float(value)


def _order(row: Row) -> tuple[object, ...]:
    s = row.setting
    place = (s.device_kind != "host", s.device, s.delegate, s.data or "", s.threads)
    return (*place, row.model, LISTED.index(row.format), row.started)
