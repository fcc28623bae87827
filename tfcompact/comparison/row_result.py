"""What became of a row of a comparison with one seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfcompact.records.record import Record


@dataclass(frozen=True)
class RowResult(Record):
    """The file that a row ends in, and the float network behind it.

    Accuracies are shares in [0, 1] on `images` test images: `float_accuracy` of the float32 file, `accuracy` of the
    file that the row ships. `parameters` and `macs` are the float network's, `energy_uj` is what the model of costs
    says of one image with numbers of the shipped format's width. `zipped_bytes` are those of the deflated file.
    `ms` is the median of one thread of this computer, taken in turns with all other rows; `instructions` are by
    emulated processor. A row that failed has an `error` and nothing else.
    """

    row: str
    kind: str
    seed: int
    plain: bool = False
    error: str = ""
    model: str = ""
    px: int = 0
    ships: str = ""
    run: str = ""
    parameters: int = 0
    macs: int = 0
    float_accuracy: float = 0.0
    accuracy: float = 0.0
    images: int = 0
    bytes: int = 0
    zipped_bytes: int = 0
    energy_uj: float = 0.0
    minutes: float = 0.0
    ms: float | None = None
    instructions: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        return value
