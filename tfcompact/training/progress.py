"""What happens around an epoch: seeds, validation, the checkpoint, logs and the progress bar."""

from __future__ import annotations

import csv
import io
import math
import shutil
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tfcompact import files
from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.training.checkpoint import State
from tfcompact.training.context import Context
from tfcompact.training.evaluation import evaluator, validation
from tfcompact.training.hyperparameters import Training
from tfcompact.training.norms import reseed

COLUMNS = ("epoch", "learning_rate", "loss", "accuracy", "validation_loss", "validation_accuracy")


class Epochs(keras.callbacks.Callback):  # type: ignore[misc]
    """What happens around an epoch: seeds before it; validation, checkpoint, log and progress after it."""

    def __init__(self, state: State, config: Training, context: Context, steps: int) -> None:
        super().__init__()
        self.state, self.config, self.context, self.steps = state, config, context, steps
        self.validation = validation(config, context)
        self.evaluate = evaluator(state.trainer.network)
        self.log = Log(context.directory, state.rows)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, time left"),
            TimeRemainingColumn(),
            console=context.console,
            transient=True,
            disable=not context.console.is_terminal,
        )
        self.task = self.bar.add_task("", total=config.epochs * steps, completed=state.epoch * steps)

    def on_train_begin(self, logs: Any = None) -> None:
        self.started, self.begun_at = time.monotonic(), self.state.epoch
        self.bar.start()

    def close(self) -> None:
        """Gives the terminal and the log files back."""
        self.bar.stop()
        self.log.close()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        reseed(self.state.trainer.network, self.context.seed, epoch)
        self.bar.update(self.task, description=f"epoch {epoch + 1}/{self.config.epochs}")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.bar.advance(self.task)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        trainer, optimizer = self.state.trainer, self.state.trainer.optimizer
        if not math.isfinite(logs["loss"]):
            raise UserError(
                f"the loss became {logs['loss']} in epoch {epoch + 1}; try a lower learning rate, "
                f"e.g. --learning-rate {self.config.learning_rate / 4:g}"
            )
        row = {
            "epoch": epoch + 1,
            "learning_rate": float(optimizer.learning_rate.numpy()),
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
        }
        with trainer.averages_in_place():
            row["validation_loss"], row["validation_accuracy"] = self.evaluate(self.validation)
            self.state.finish(row)
        self.state.write()
        self.log.add(row)
        done = epoch + 1 - self.begun_at
        left = (time.monotonic() - self.started) / done * (self.config.epochs - epoch - 1)
        self.context.log(
            f"epoch {epoch + 1}/{self.config.epochs}: loss {row['loss']:.3f}, accuracy {row['accuracy']:.1%}, "
            f"validation {row['validation_accuracy']:.1%}, {_clock(left)} left"
        )
        if stalled(self.state.rows, self.config.early_stopping):
            trainer.stop_training = True


class Log:
    """`metrics.csv` and TensorBoard events, made anew from the checkpoint's rows where a run goes on."""

    def __init__(self, directory: Path, rows: list[dict[str, float]]) -> None:
        self.csv = directory / "metrics.csv"
        self.rows: list[dict[str, float]] = []
        shutil.rmtree(directory / "tensorboard", ignore_errors=True)
        self.events = tf.summary.create_file_writer(str(directory / "tensorboard"))
        for row in rows:
            self.add(row)

    def add(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        files.write_text(self.csv, text.getvalue())
        with self.events.as_default(step=int(row["epoch"])):
            for name in COLUMNS[1:]:
                tf.summary.scalar(name, row[name])
        self.events.flush()

    def close(self) -> None:
        self.events.close()


def stalled(rows: list[dict[str, float]], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better validation accuracy."""
    values = [row["validation_accuracy"] for row in rows if row.get("kept", 1.0)]
    if not patience or len(values) <= patience:
        return False
    return max(values[-patience:]) <= max(values[:-patience])


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
