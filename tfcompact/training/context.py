"""The only door of a stage to the world around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.records.artifact import Normalization


@dataclass(frozen=True)
class Context:
    """A stage's only door outward.

    `spec` is the architecture's `ModelSpec`, `data` the `ImageSet`, `px` and `normalization` what the network sees.
    `directory` is the run being made: results go there, checkpoints to `scratch`. `load(name)` gives another
    finished model (a teacher), `price(model)` its cost in ms on a device; both may be absent.
    """

    spec: Any
    data: Any
    px: int
    normalization: Normalization
    seed: int
    directory: Path
    console: Any
    load: Callable[[str], Any] | None = None
    price: Callable[[Any], float] | None = None

    @property
    def scratch(self) -> Path:
        """For checkpoints: it outlives a kill, and is removed when the run is finished."""
        return self.directory / "scratch"

    def log(self, line: str) -> None:
        """Tells the user one line."""
        self.console.print(line, highlight=False, markup=False)
