"""An exported file, and what its pixels and numbers mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tfcompact.errors import UserError
from tfcompact.records.record import Record

ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Normalization(Record):
    """How a pixel in 0..255 becomes what the network sees: `(pixel - mean) / std`, per channel.

    It belongs to the run, is written into the exported file, and everything that feeds a network reads it from
    there. One mean and one std for all channels, or three of each, in the order of `channel_order`.
    """

    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)
    channel_order: ChannelOrder = "rgb"

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3):
                raise UserError(f"normalization {name} must have 1 or 3 values, not {len(values)}")
        if not all(s > 0 for s in self.std):
            raise UserError(f"normalization std must be positive, not {self.std}")
        if self.channel_order not in ("rgb", "bgr"):
            raise UserError(f"channel order must be rgb or bgr, not {self.channel_order!r}")

    @property
    def uniform(self) -> bool:
        """Whether every channel is treated alike: only then can a uint8 input's scale and zero point express it."""
        return len(set(self.mean)) == 1 and len(set(self.std)) == 1


@dataclass(frozen=True)
class Quantization(Record):
    """A tensor's affine quantization: `real = (q - zero_point) * scale`."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Artifact(Record):
    """One exported `.tflite` file that passed the gate.

    `path` is relative to the export run's directory. `checks` holds what the gate measured: accuracies, agreement,
    largest probability difference, XNNPACK partitions, with the images they were measured on.
    """

    model: str
    run: str
    path: str
    format: str
    sha256: str
    bytes: int
    image_px: int
    classes: int
    normalization: Normalization
    input: Quantization | None = None
    output: Quantization | None = None
    checks: dict[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> dict[str, Any]:
        """The fields of a `Measurement` that say which file it is of."""
        return {
            "model": self.model,
            "run": self.run,
            "artifact": self.path,
            "artifact_sha256": self.sha256,
            "artifact_bytes": self.bytes,
            "format": self.format,
            "image_px": self.image_px,
        }

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        if name == "normalization":
            return Normalization.from_json(value)
        if name in ("input", "output"):
            return None if value is None else Quantization.from_json(value)
        return super()._decode(name, value)
