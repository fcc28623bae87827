"""What a network costs on a device, by a latency table: how stages that search or prune know their budget."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.export import candidate
from tfcompact.latency.cost_table import Table
from tfcompact.latency.interpolation import Interpolated, Prediction
from tfcompact.latency.width_prices import WidthPrices


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

    @property
    def doors(self) -> dict[str, Any]:
        """What a stage's context gets of it."""
        return {"price": self.price, "price_widths": self.price_widths, "step": self.between.step}

    @functools.cached_property
    def between(self) -> Interpolated:
        """The table with the widths between those that it holds."""
        return Interpolated(self.table)

    def price(self, model: Any) -> float:
        """The predicted cost of one inference of the network's int8 file, in the table's unit."""
        return self.predict(model).cost

    def predict(self, model: Any) -> Prediction:
        """The same, with the share of it that was interpolated."""
        return self.between.predict(self.between.read(candidate.int8_file(model)), name=model.name)

    def price_widths(
        self, model: Any, falls: Sequence[Mapping[int, int]], probes: Sequence[tuple[Mapping[int, int], Any]]
    ) -> Callable[[Mapping[int, int]], tuple[float, float]]:
        """The cost, and the share of it that was interpolated, as a function of the classes that groups have lost."""
        whole, *others = (self.between.read(candidate.int8_file(one)) for one in (model, *(p for _, p in probes)))
        seen = list(zip((gone for gone, _ in probes), others, strict=True))
        return WidthPrices(self.between, whole, falls, seen).price
