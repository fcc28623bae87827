"""What a network costs on a device, by a latency table: how stages that search or prune know their budget."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.export import candidate
from tfcompact.latency.cost_table import Table


@dataclass(frozen=True)
class Prices:
    """A latency table, and the digest of the file that it came from."""

    table: Table
    sha256: str

    @classmethod
    def load(cls, path: Path) -> Prices:
        """The table in the file. Raises `UserError` where it cannot be read."""
        table = Table.load(path)
        return cls(table, hashlib.sha256(path.read_bytes()).hexdigest())

    @property
    def identity(self) -> dict[str, str]:
        """What of the table decides a result: part of the identity of a run that asked it."""
        return {"sha256": self.sha256, "unit": self.table.setting.unit}

    def price(self, model: Any) -> float:
        """The predicted cost of one inference of the network's int8 file, in the table's unit."""
        return self.table.predict(candidate.int8_file(model))
