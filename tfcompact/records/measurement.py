"""What was measured of a file on a device: one row, for this computer, for phones and for emulated processors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from tfcompact.errors import UserError
from tfcompact.records import backends
from tfcompact.records.device import Device, DeviceState
from tfcompact.records.record import Record


@dataclass(frozen=True)
class ColdStart(Record):
    """The way to the first answer in ms: reading the file, compiling it for the delegate, the first inference.

    None where a back end does not tell them apart: `benchmark_model` gives the first two as one, in `compile_ms`.
    """

    load_ms: float | None
    compile_ms: float | None
    first_ms: float | None


@dataclass(frozen=True)
class Summary(Record):
    """The timed runs of a back end that keeps no samples, in ms; None for what it does not tell."""

    count: int
    first_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    mean_ms: float | None = None
    std_ms: float | None = None
    p5_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None


@dataclass(frozen=True)
class OperatorTime(Record):
    """One operator of a profile, taken in a run of its own: mean time of one run in ms, and its share in [0, 1]."""

    name: str
    type: str
    mean_ms: float
    share: float


@dataclass(frozen=True)
class OutputCheck(Record):
    """The file's answer to one fixed image there, against the answer of this computer's runtime.

    `steps` is the largest difference in steps of an integer output, `difference` the largest of real values.
    """

    sha256: str
    host_sha256: str
    steps: int | None
    difference: float

    @property
    def identical(self) -> bool:
        """Whether every bit is the same."""
        return self.sha256 == self.host_sha256


@dataclass(frozen=True)
class Accuracy(Record):
    """Shares in [0, 1] of `images` test images whose label was first, or among the first five."""

    top1: float
    top5: float
    images: int
    split: str
    data_digest: str


SCHEMA = 2
READABLE = (1, 2)
"""Schema 1 had no back ends but this computer's, and none of the fields after `instructions`."""
THIS_COMPUTERS = backends.default("host").name


@dataclass(frozen=True)
class Measurement(Record):
    """One artifact on one device: the row that reports, plots, the app and Android share.

    `wall_ms` and `process_ms` hold every timed run in order, none dropped; times exclude pre- and post-processing.
    A back end that keeps no samples gives a `summary` instead, and one that takes no times, of an emulated device,
    may fill no field in ms, only `instructions` of one inference. `validity` names what could mislead a reader of the
    row, and whether it was so (`{"throttled": false, ...}`). `affinity` is the mask of cores in hexadecimal that
    runs were pinned to, empty where they were not; `command` the exact command line, `log` the file beside the row
    with all that the back end said. `mode` is `sustained` where runs followed each other for minutes, to
    see throttling. Without `softmax` the runs that were timed end at the logits.
    """

    schema: int
    model: str
    run: str
    artifact: str
    artifact_sha256: str
    artifact_bytes: int
    format: str
    image_px: int
    device: Device
    runtime: str
    delegate: str
    threads: int
    warmup_runs: int
    wall_ms: tuple[float, ...]
    process_ms: tuple[float, ...]
    xnnpack_partitions: int | None
    delegated_nodes: int | None
    total_nodes: int | None
    peak_memory_mb: float | None
    accuracy: Accuracy | None
    started: str
    validity: dict[str, bool] = field(default_factory=dict)
    instructions: int | None = None
    backend: str = THIS_COMPUTERS
    mode: Literal["burst", "sustained"] = "burst"
    summary: Summary | None = None
    cold: ColdStart | None = None
    operators: tuple[OperatorTime, ...] = ()
    output: OutputCheck | None = None
    before: DeviceState | None = None
    after: DeviceState | None = None
    affinity: str = ""
    command: str = ""
    log: str = ""
    softmax: bool = True

    def __post_init__(self) -> None:
        if self.schema not in READABLE:
            known = " and ".join(map(str, READABLE))
            raise UserError(f"this measurement has schema {self.schema}; this tfcompact reads {known}")
        backend = backends.facts(self.backend)
        if backend.device != self.device.kind:
            raise UserError(
                f"back end {backend.name} runs on a device of kind {backend.device}, not {self.device.kind}"
            )
        times = (self.wall_ms, self.process_ms, self.summary, self.cold, self.operators)
        if not backend.timed and any(times):
            raise UserError("an emulated device has no latency; its samples and every other time must be empty")
        if not all(math.isfinite(t) and t >= 0 for t in (*self.wall_ms, *self.process_ms)):
            raise UserError("latency samples must be finite and not negative")

    @property
    def key(self) -> str:
        """The file name, without suffix, under which this row is kept."""
        backend = "" if self.backend == THIS_COMPUTERS else f"{self.backend}-"
        parts = (self.affinity, self.mode, "" if self.softmax else "logits")
        rest = "".join(f"-{part}" for part in parts if part not in ("", "burst"))
        return f"{self.artifact_sha256[:8]}-{self.device.name}-{backend}{self.delegate}-{self.threads}t{rest}"

    def percentile_ms(self, percent: float) -> float | None:
        """The `percent`-th percentile of the wall times in ms (linear interpolation).

        Without samples it is the summary's, for 5, 50 and 95; else None.
        """
        if not self.wall_ms:
            told = self.summary
            return {5: told.p5_ms, 50: told.p50_ms, 95: told.p95_ms}.get(int(percent)) if told else None
        ordered = sorted(self.wall_ms)
        position = (len(ordered) - 1) * percent / 100
        low = math.floor(position)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (position - low)

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        if name == "device":
            return Device.from_json(value)
        if name == "operators":
            return tuple(OperatorTime.from_json(item) for item in value)
        if name in _PARTS:
            return None if value is None else _PARTS[name].from_json(value)
        return super()._decode(name, value)


_PARTS: dict[str, type[Record]] = {
    "accuracy": Accuracy,
    "summary": Summary,
    "cold": ColdStart,
    "output": OutputCheck,
    "before": DeviceState,
    "after": DeviceState,
}
