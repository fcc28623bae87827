"""Teachers as hooks of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tfcompact.compress.distillation import terms
from tfcompact.frameworks import Model, Tensor, Variable, keras, tf
from tfcompact.networks import rewrite
from tfcompact.training.hooks import AuxiliaryHead, Hook, Step


class SoftLabels(Hook):
    """A teacher whose probabilities are labels too: `share` of the loss, in [0, 1], is the cross-entropy with them.

    This is knowledge distillation at temperature 1. The teacher takes the images that the student takes, and gives
    logits of the same classes.
    """

    def __init__(self, teacher: Any, share: float) -> None:
        self.teacher, self.share = teacher, share

    def prepare(self, images: Tensor, labels: Tensor) -> Tensor:
        """The teacher's logits `[n, classes]`."""
        return tf.cast(self.teacher(images, training=False), tf.float32)

    def example_losses(self, step: Step, losses: Tensor) -> Tensor:
        """The losses `[n]`, `share` of them the cross-entropy with the teacher's probabilities."""
        soft = terms.soft_cross_entropy(step.outputs[0], step.prepared)
        return (1 - self.share) * losses + self.share * soft


def of_a_tuning(parent: Model, network: Model, aux_weight: float, share: float) -> list[Hook]:
    """What the training of a changed copy of `parent` needs: the parent as a teacher of that share, and its heads."""
    teachers: list[Hook] = [SoftLabels(rewrite.inference(parent), share)] if share else []
    return [*teachers, *(AuxiliaryHead(i, aux_weight) for i in range(1, len(network.outputs)))]


class Pair(NamedTuple):
    """A layer of the student and one of the teacher whose features are compared."""

    student: str
    teacher: str


@dataclass(frozen=True)
class Weights:
    """How much each term counts. `warmup` is the number of steps over which the decoupled one grows."""

    ce: float
    kd: float
    dkd: float
    hint: float
    attention: float
    temperature: float
    alpha: float
    beta: float
    warmup: int


class Teacher(Hook):
    """A teacher of any architecture: by its logits, by its features, or by both.

    `see` makes of the student's images what the teacher takes, `columns` are the places of the student's classes
    among the teacher's. Regressors of hints are trained with the student and thrown away with this hook.
    """

    def __init__(
        self,
        student: Model,
        teacher: Model,
        see: Callable[[Tensor], Tensor],
        columns: Sequence[int],
        weights: Weights,
        pairs: Sequence[Pair],
        seed: int,
    ) -> None:
        self.pairs = tuple(pairs) if weights.hint or weights.attention else ()
        self.layers = tuple(dict.fromkeys(pair.student for pair in self.pairs))
        names = [pair.teacher for pair in self.pairs]
        inference = rewrite.inference(teacher)
        outputs = [inference.outputs[0], *(inference.get_layer(name).output for name in names)]
        self.teacher = keras.Model(inference.inputs, outputs)
        self.see, self.columns, self.weights = see, list(columns), weights
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="distillation_steps")
        rng = np.random.default_rng(seed)
        self.regressors: list[Variable] = []
        for pair in self.pairs if weights.hint else ():
            shape = (
                student.get_layer(pair.student).output_shape[-1],
                inference.get_layer(pair.teacher).output_shape[-1],
            )
            kernel = rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
            ones, zeros = np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)
            self.regressors += [tf.Variable(value) for value in (kernel, ones, zeros)]

    def variables(self) -> Sequence[Variable]:
        """The regressors, and the steps taken."""
        return (*self.regressors, self.steps)

    def trainable_variables(self) -> Sequence[Variable]:
        """The regressors."""
        return self.regressors

    def prepare(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """The teacher's logits of the student's classes, and its features, in 32 bits."""
        logits, *features = rewrite.listed(self.teacher(self.see(images), training=False))
        chosen = tf.gather(tf.cast(logits, tf.float32), self.columns, axis=1)
        return [chosen, *(tf.cast(value, tf.float32) for value in features)]

    def example_losses(self, step: Step, losses: Tensor) -> Tensor:
        """The weighted sum of the loop's losses and of those that compare logits."""
        weights, student, teacher = self.weights, step.outputs[0], step.prepared[0]
        total = weights.ce * losses
        if weights.kd:
            total += weights.kd * terms.soft_cross_entropy(student, teacher, weights.temperature)
        if weights.dkd:
            target, others = terms.decoupled(student, teacher, step.labels, weights.temperature)
            grown = tf.minimum(tf.cast(self.steps, tf.float32) / max(weights.warmup, 1), 1.0)
            total += weights.dkd * grown * (weights.alpha * target + weights.beta * others)
        return total

    def loss(self, step: Step) -> Tensor | None:
        """The terms that compare features."""
        if not self.pairs:
            return None
        total = tf.constant(0.0)
        for i, pair in enumerate(self.pairs):
            mine, theirs = tf.cast(step.layers[pair.student], tf.float32), step.prepared[1 + i]
            height, width = (min(a, b) for a, b in zip(mine.shape[1:3], theirs.shape[1:3], strict=True))
            mine, theirs = terms.sized(mine, height, width), terms.sized(theirs, height, width)
            if self.weights.attention:
                total += self.weights.attention * terms.attention_loss(mine, theirs)
            if self.weights.hint:
                guess = terms.regressed(mine, *self.regressors[3 * i : 3 * i + 3])
                total += self.weights.hint * terms.hint_loss(guess, theirs)
        return total

    def after_step(self, iterations: Tensor) -> None:
        """Counts."""
        self.steps.assign(iterations)


def stages_of(model: Model) -> dict[int, str]:
    """By each stride, how many pixels of the image a position stands for, the last layer with such an output."""
    px = model.input_shape[1]
    found: dict[int, str] = {}
    inside = rewrite.inference(model)
    for call in rewrite.calls(inside):
        shape = call.layer.output_shape
        if call.sources and len(shape) == 4 and shape[1] > 1:
            found[round(px / shape[1])] = call.layer.name
    return found


def pairs_by_stride(student: Model, teacher: Model) -> list[Pair]:
    """The last layers of equal stride of both, from the finest to the coarsest, without the image's own."""
    mine, theirs = stages_of(student), stages_of(teacher)
    return [Pair(mine[stride], theirs[stride]) for stride in sorted(mine) if stride > 1 and stride in theirs]
