"""What a run is a run of, and what kind of network a stage takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tfcompact.errors import UserError
from tfcompact.records.record import Record

Kind = Literal["float", "quantized"]
"""A float network has real weights and batch normalization; a quantized one is rounded as its 8-bit file will be."""


@dataclass(frozen=True)
class Network(Record):
    """What a network that is not trained yet is built from.

    Of kind `spec` it is a row of the zoo, found by its name. Of kind `architecture` it is plain data, a member of a
    search space, and `architecture` holds it; its name is made of that. A runs directory has a folder for each name.
    """

    kind: Literal["spec", "architecture"]
    name: str
    architecture: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("spec", "architecture"):
            raise UserError(f"kind of a network must be spec or architecture, not {self.kind!r}")
        if (self.kind == "architecture") != (self.architecture is not None):
            raise UserError("a network of kind architecture, and no other, holds an architecture")
