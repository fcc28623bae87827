"""Everything that the next epoch depends on, in one file."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import Any

import numpy as np

from tfcompact.errors import UserError
from tfcompact.files import write_arrays
from tfcompact.training import strategy
from tfcompact.training.context import Context
from tfcompact.training.optimizers import scales_loss
from tfcompact.training.trainer import Trainer


class State:
    """Everything the next epoch depends on: one file, replaced as a whole after each epoch."""

    def __init__(self, trainer: Trainer, context: Context):
        self.trainer = trainer
        self.file = context.scratch / "checkpoint.npz"
        self.rows: list[dict[str, float]] = []
        self.best: list[np.ndarray] = []
        self.started_at: float | None = None  # validation accuracy of the weights it began with, if they count
        if content := strategy.from_chief(self.file.read_bytes() if self.file.exists() else b""):
            try:
                self._restore(content)
            except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
                if strategy.workers().chief:
                    self.file.replace(self.file.with_suffix(".damaged"))
                reason = " ".join(str(error).split())[:200]
                raise UserError(
                    f"{self.file} is damaged ({reason}) and was set aside; the same command begins this training anew"
                ) from None

    def _restore(self, content: bytes) -> None:
        """Takes over what was saved."""
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            if changed := parts.testzip():
                raise ValueError(f"{changed} is not as it was written")
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            self.rows = json.loads(str(saved["rows"]))
            self.started_at = json.loads(str(saved["started_at"]))
            if self.started_at is not None or any(row.get("kept", 1.0) for row in self.rows):
                self.best = [saved[f"best_{i}"] for i in range(len(self.trainer.network.variables))]
            values = [saved[f"variable_{i}"] for i in range(len(self._variables()))]
        for variable, value in zip(self._variables(), values, strict=True):
            variable.assign(value)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return len(self.rows)

    @property
    def best_accuracy(self) -> float:
        """The highest validation accuracy so far; below all where there is none yet."""
        started = [] if self.started_at is None else [self.started_at]
        return max(
            [*started, *(row["validation_accuracy"] for row in self.rows if row.get("kept", 1.0))], default=-1.0
        )

    def start(self, accuracy: float) -> None:
        """Makes the weights of now, of this validation accuracy, the best so far."""
        self.started_at, self.best = accuracy, self.trainer.network.get_weights()

    def finish(self, row: dict[str, float]) -> None:
        """Records an epoch; to be called with the averaged weights in the network, kept if they are the best."""
        if self._may_be_kept() and row["validation_accuracy"] > self.best_accuracy:
            self.best = self.trainer.network.get_weights()
        elif not self._may_be_kept():
            row["kept"] = 0.0
        self.rows.append(row)

    def _may_be_kept(self) -> bool:
        """Whether every hook agrees that the weights of now are what it is for."""
        steps = int(self.trainer.optimizer.iterations.numpy())
        return all(hook.settled(steps) for hook in self.trainer.hooks)

    def write(self) -> None:
        """Replaces the checkpoint file, of which there is one: the chief's."""
        if not strategy.workers().chief:
            return
        arrays = {f"variable_{i}": v.numpy() for i, v in enumerate(self._variables())}
        arrays |= {f"best_{i}": value for i, value in enumerate(self.best)}
        facts = {"rows": self.rows, "started_at": self.started_at}
        write_arrays(self.file, arrays | {name: np.array(json.dumps(value)) for name, value in facts.items()})

    def _variables(self) -> list[Any]:
        optimizer = self.trainer.optimizer
        scale = (
            [optimizer._loss_scale.current_loss_scale, optimizer.dynamic_counter] if scales_loss(optimizer) else []
        )
        hooks = [v for hook in self.trainer.hooks for v in hook.variables()]
        return [*self.trainer.network.variables, *optimizer.variables, *self.trainer.averages, *scale, *hooks]
