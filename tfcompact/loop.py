"""The training loop. It is resumable to the bit.

All that the future depends on is saved after each epoch, and everything random is a function of (seed, epoch,
position): a run that was killed and called again ends with the same weights, on CPU, as one that was not.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tfcompact.backend import keras, tf
from tfcompact.errors import UserError
from tfcompact.training import Training
from tfcompact.types import Context

COLUMNS = ("epoch", "learning_rate", "loss", "accuracy", "validation_loss", "validation_accuracy")


class Teacher(NamedTuple):
    """A network whose probabilities are labels too: `share` of the loss, in [0, 1], is the cross-entropy with them
    (knowledge distillation, arXiv:1503.02531, at temperature 1). It takes the images that the student takes."""

    model: Any
    share: float


def train(
    model: Any,
    config: Training,
    context: Context,
    *,
    aux_weight: float = 0.0,
    teacher: Teacher | None = None,
    from_start: bool = False,
) -> dict[str, Any]:
    """Trains `model` in place and leaves in it the weights of the best validation accuracy; returns notes.

    `model` gives logits `[n, classes]`; a second output, if any, is auxiliary logits whose loss counts `aux_weight`.
    With `from_start` the weights it comes with are a candidate too, and stay where no epoch is better (epoch 0).
    Writes `metrics.csv`, `tensorboard/` and `last.npz` (the weights of the last epoch) to `context.directory`, and
    a checkpoint an epoch to `context.scratch`, from which the next call goes on. Raises `UserError` where the loss
    is no longer a number.
    """
    steps = context.data.steps_per_epoch(config.batch, config.epoch_images)
    _pace_norms(model, steps)
    optimizer = _optimizer(config, steps, model)
    trainer = Trainer(model, config, context.data, aux_weight, teacher)
    trainer.compile(optimizer=optimizer)
    state = State(trainer, context)
    if from_start and not state.epoch:
        state.start(evaluator(model)(validation(config, context))[1])
    if state.epoch:
        context.log(f"goes on after epoch {state.epoch} of {config.epochs}")
    if state.epoch < config.epochs and not _stalled(state.rows, config.early_stopping):
        images = _images(config, context, start_epoch=state.epoch, epochs=config.epochs)
        epochs = _Epochs(state, config, context, steps)
        try:
            trainer.fit(
                images,
                steps_per_epoch=steps,
                initial_epoch=state.epoch,
                epochs=config.epochs,
                verbose=0,
                callbacks=[epochs],
            )
        finally:
            epochs.close()  # or an interrupted bar would keep the terminal's cursor
    return _conclude(trainer, state, config, context)


class Trainer(keras.Model):
    """A network with its loss and the moving average of its variables, for Keras' `fit` to drive."""

    def __init__(self, network: Any, config: Training, data: Any, aux_weight: float, teacher: Teacher | None = None):
        super().__init__()
        self.network = network
        self.aux_weight = aux_weight
        self.teacher, self.teacher_share = teacher or (None, 0.0)
        self.cross_entropy = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.label_smoothing, reduction="none"
        )
        weights = data.class_weights() if config.class_weights else [1.0] * len(data.classes)
        self.class_weights = tf.constant(weights, tf.float32)
        self.mean_loss = keras.metrics.Mean(name="loss")
        self.mean_accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
        self.ema = config.ema
        self.averaged = [v for v in network.variables if v.dtype.is_floating] if config.ema else []
        self.averages = [
            tf.Variable(v, trainable=False, aggregation=tf.VariableAggregation.MEAN, name=f"average_{i}")
            for i, v in enumerate(self.averaged)
        ]

    @property
    def metrics(self):
        return [self.mean_loss, self.mean_accuracy]

    def train_step(self, batch):
        images, labels = batch
        weights = tf.linalg.matvec(labels, self.class_weights)
        taught = None
        if self.teacher is not None:
            taught = tf.nn.softmax(tf.cast(self.teacher(images, training=False), tf.float32))
        with tf.GradientTape() as tape:
            outputs = self.network(images, training=True)
            outputs = [tf.cast(o, tf.float32) for o in (outputs if isinstance(outputs, list) else [outputs])]
            losses = self.cross_entropy(labels, outputs[0])
            if taught is not None:
                soft = tf.nn.softmax_cross_entropy_with_logits(taught, outputs[0])
                losses = (1 - self.teacher_share) * losses + self.teacher_share * soft
            loss = tf.reduce_mean(weights * losses)
            for auxiliary in outputs[1:]:
                loss += self.aux_weight * tf.reduce_mean(weights * self.cross_entropy(labels, auxiliary))
            # Gradients are summed over replicas, each of which has its share of the batch.
            shared = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.get_scaled_loss(shared) if _scales(self.optimizer) else shared
        variables = self.network.trainable_variables
        gradients = tape.gradient(scaled, variables)
        if _scales(self.optimizer):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if self.averages:
            # A short run must forget its first steps: the decay rises with the steps taken (TF's "num_updates").
            step = tf.cast(self.optimizer.iterations, tf.float32)
            rate = 1 - tf.minimum(self.ema, (1 + step) / (10 + step))
            for average, variable in zip(self.averages, self.averaged, strict=True):
                average.assign_add(rate * (variable - average))
        self.mean_loss.update_state(loss)
        self.mean_accuracy.update_state(labels, outputs[0])
        return {m.name: m.result() for m in self.metrics}

    @contextlib.contextmanager
    def averages_in_place(self) -> Iterator[None]:
        """The network with its averaged weights, for the length of a `with` block."""
        kept = [v.numpy() for v in self.averaged]
        for variable, average in zip(self.averaged, self.averages, strict=True):
            variable.assign(average)
        try:
            yield
        finally:
            for variable, value in zip(self.averaged, kept, strict=True):
                variable.assign(value)


class State:
    """Everything the next epoch depends on: one file, replaced as a whole after each epoch."""

    def __init__(self, trainer: Trainer, context: Context):
        self.trainer = trainer
        self.file = context.scratch / "checkpoint.npz"
        self.rows: list[dict[str, float]] = []
        self.best: list[np.ndarray] = []
        self.started_at: float | None = None  # validation accuracy of the weights it began with, if they count
        if self.file.exists():
            with np.load(self.file, allow_pickle=False) as saved:
                self.rows = json.loads(str(saved["rows"]))
                self.started_at = json.loads(str(saved["started_at"]))
                self.best = [saved[f"best_{i}"] for i in range(len(trainer.network.variables))]
                for i, variable in enumerate(self._variables()):
                    variable.assign(saved[f"variable_{i}"])

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return len(self.rows)

    @property
    def best_accuracy(self) -> float:
        """The highest validation accuracy so far; below all where there is none yet."""
        started = [] if self.started_at is None else [self.started_at]
        return max([*started, *(row["validation_accuracy"] for row in self.rows)], default=-1.0)

    def start(self, accuracy: float) -> None:
        """Makes the weights of now, of this validation accuracy, the best so far."""
        self.started_at, self.best = accuracy, self.trainer.network.get_weights()

    def finish(self, row: dict[str, float]) -> None:
        """Records an epoch; to be called with the averaged weights in the network, kept if they are the best."""
        if row["validation_accuracy"] > self.best_accuracy:
            self.best = self.trainer.network.get_weights()
        self.rows.append(row)

    def write(self) -> None:
        """Replaces the checkpoint file."""
        arrays = {f"variable_{i}": v.numpy() for i, v in enumerate(self._variables())}
        arrays |= {f"best_{i}": value for i, value in enumerate(self.best)}
        facts = {"rows": self.rows, "started_at": self.started_at}
        write_arrays(self.file, arrays | {name: np.array(json.dumps(value)) for name, value in facts.items()})

    def _variables(self) -> list[Any]:
        optimizer = self.trainer.optimizer
        scale = [optimizer._loss_scale.current_loss_scale, optimizer.dynamic_counter] if _scales(optimizer) else []
        return [*self.trainer.network.variables, *optimizer.variables, *self.trainer.averages, *scale]


class _Epochs(keras.callbacks.Callback):
    """What happens around an epoch: seeds before it; validation, checkpoint, log and progress after it."""

    def __init__(self, state: State, config: Training, context: Context, steps: int):
        super().__init__()
        self.state, self.config, self.context, self.steps = state, config, context, steps
        self.validation = validation(config, context)
        self.evaluate = evaluator(state.trainer.network)
        self.log = _Log(context.directory, state.rows)
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

    def on_train_begin(self, logs=None):
        self.started, self.begun_at = time.monotonic(), self.state.epoch
        self.bar.start()

    def close(self) -> None:
        """Gives the terminal and the log files back."""
        self.bar.stop()
        self.log.close()

    def on_epoch_begin(self, epoch, logs=None):
        reseed(self.state.trainer.network, self.context.seed, epoch)
        self.bar.update(self.task, description=f"epoch {epoch + 1}/{self.config.epochs}")

    def on_train_batch_end(self, batch, logs=None):
        self.bar.advance(self.task)

    def on_epoch_end(self, epoch, logs=None):
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
        if _stalled(self.state.rows, self.config.early_stopping):
            trainer.stop_training = True


class _Log:
    """`metrics.csv` and TensorBoard events, made anew from the checkpoint's rows where a run goes on."""

    def __init__(self, directory: Path, rows: list[dict[str, float]]):
        self.csv, self.rows = directory / "metrics.csv", []
        shutil.rmtree(directory / "tensorboard", ignore_errors=True)
        self.events = tf.summary.create_file_writer(str(directory / "tensorboard"))
        for row in rows:
            self.add(row)

    def add(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        temporary = self.csv.with_suffix(".tmp")
        temporary.write_text(text.getvalue())
        temporary.replace(self.csv)
        with self.events.as_default(step=int(row["epoch"])):
            for name in COLUMNS[1:]:
                tf.summary.scalar(name, row[name])
        self.events.flush()

    def close(self) -> None:
        self.events.close()


def validation(config: Training, context: Context) -> Any:
    """Batches `(images, int64 labels)` of the validation split, as many as `config` asks for."""
    return context.data.batches(
        "validation",
        px=context.px,
        batch=config.batch,
        normalization=context.normalization,
        limit=config.validation_images or None,
    )


def _images(config: Training, context: Context, *, start_epoch: int, epochs: int) -> Any:
    return context.data.training(
        px=context.px,
        batch=config.batch,
        normalization=context.normalization,
        augment=config.augment,
        seed=context.seed,
        start_epoch=start_epoch,
        epochs=epochs,
        epoch_images=config.epoch_images,
    )


def evaluator(model: Any):
    """A function from batches `(images, int64 labels)` to `model`'s mean cross-entropy and top-1 accuracy."""

    @tf.function(reduce_retracing=True)
    def step(images, labels):
        outputs = model(images, training=False)
        logits = tf.cast(outputs[0] if isinstance(outputs, list) else outputs, tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        hits = tf.argmax(logits, 1) == labels
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(hits, tf.int32)), tf.shape(labels)[0]

    def evaluate(batches) -> tuple[float, float]:
        sums = np.zeros(3)
        for images, labels in batches:
            sums += [float(value) for value in step(images, labels)]
        return sums[0] / sums[2], sums[1] / sums[2]

    return evaluate


def reseed(model: Any, seed: int, epoch: int) -> None:
    """Puts every random layer of `model` at a point that depends on (seed, epoch, its name) and nothing else."""
    for layer in model.layers:
        generator = getattr(getattr(layer, "_random_generator", None), "_generator", None)
        if generator is not None:
            generator.reset_from_seed(zlib.crc32(f"{seed}/{epoch}/{layer.name}".encode()))


def reestimate_norms(model: Any, batches: Any, count: int) -> None:
    """Replaces the statistics of every batch normalization by their mean over `count` batches, weights kept."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms or not count:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the moving statistics become the last batch's
    step = tf.function(lambda images: model(images, training=True))
    sums = [[np.zeros(v.shape, np.float64) for v in (n.moving_mean, n.moving_variance)] for n in norms]
    seen = 0
    for images, _ in batches.take(count):
        step(images)
        seen += 1
        for total, norm in zip(sums, norms, strict=True):
            total[0] += norm.moving_mean.numpy()
            total[1] += norm.moving_variance.numpy()
    for total, norm, momentum in zip(sums, norms, momenta, strict=True):
        norm.moving_mean.assign(total[0] / seen)
        norm.moving_variance.assign(total[1] / seen)
        norm.momentum = momentum


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        np.savez(stream, **arrays)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _conclude(trainer: Trainer, state: State, config: Training, context: Context) -> dict[str, Any]:
    network = trainer.network
    if not state.rows:
        return {"epochs": 0}
    _Log(context.directory, state.rows).close()  # a kill may have come between the checkpoint and the log
    with trainer.averages_in_place():
        write_arrays(
            context.directory / "last.npz", {f"{i:04d}": value for i, value in enumerate(network.get_weights())}
        )
    network.set_weights(state.best)
    evaluate = evaluator(network)
    best = state.best_accuracy
    candidates = [(0, state.started_at), *((int(r["epoch"]), r["validation_accuracy"]) for r in state.rows)]
    notes = {
        "epochs": state.epoch,
        "best_epoch": next(epoch for epoch, accuracy in candidates if accuracy == best),
        "validation_accuracy": best,
        "norms_reestimated": False,
    }
    if config.norm_batches and any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers):
        kept = network.get_weights()
        steps = context.data.steps_per_epoch(config.batch, config.epoch_images)
        images = _images(config, context, start_epoch=0, epochs=1 + config.norm_batches // steps)
        reseed(network, context.seed, config.epochs)
        reestimate_norms(network, images, config.norm_batches)
        _, accuracy = evaluate(validation(config, context))
        if accuracy >= best:
            notes |= {"validation_accuracy": accuracy, "norms_reestimated": True}
        else:
            network.set_weights(kept)
    return notes


def _optimizer(config: Training, steps: int, model: Any) -> Any:
    total = max(1, config.epochs * steps)
    warmup = min(int(config.warmup_epochs * steps), total - 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate,
        total - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    common = {
        "learning_rate": schedule,
        "weight_decay": config.weight_decay,
        "global_clipnorm": config.clip_norm or None,
    }
    optimizer = {
        "adamw": lambda: keras.optimizers.AdamW(**common),
        "sgd": lambda: keras.optimizers.SGD(momentum=0.9, nesterov=True, **common),
        "rmsprop": lambda: keras.optimizers.RMSprop(momentum=0.9, **common),
    }[config.optimizer]()
    spared = [v for v in model.trainable_variables if v.shape.rank < 2]  # biases, BN's gamma and beta
    optimizer.exclude_from_weight_decay(var_list=spared)
    optimizer.build(model.trainable_variables)
    if any(layer.compute_dtype == "float16" for layer in model.layers):
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def _pace_norms(model: Any, steps: int) -> None:
    """Lets batch normalization average over a tenth of an epoch, between 10 and 100 steps.

    At the published momenta the statistics of a short training would still be mostly those it began with.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 1 - min(0.1, max(0.01, 10 / steps))


def _scales(optimizer: Any) -> bool:
    return isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)


def _stalled(rows: list[dict[str, float]], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better validation accuracy."""
    if not patience or len(rows) <= patience:
        return False
    values = [row["validation_accuracy"] for row in rows]
    return max(values[-patience:]) <= max(values[:-patience])


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
