"""Trains members of a space on one compiled network: each from weights of its own, or all in shared ones."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np

from tfcompact.frameworks import Tensor, keras, tf
from tfcompact.models.architecture import Architecture
from tfcompact.supernet.masked_network import MaskedNetwork
from tfcompact.supernet.members import become, start
from tfcompact.training import evaluation
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training
from tfcompact.training.optimizers import optimizer_for
from tfcompact.training.training_images import training_batches


class Learner:
    """A masked network, its optimizer and its images, compiled once.

    `config` is how a training goes: `epochs` of it, without a moving average. The validation split judges.
    """

    def __init__(self, network: MaskedNetwork, config: Training, context: Context) -> None:
        self.network, self.config, self.context = network, config, context
        self.steps = context.data.steps_per_epoch(config.batch, config.epoch_images)
        trained = SimpleNamespace(trainable_variables=network.trainable_variables, layers=[])
        self.optimizer = optimizer_for(config, self.steps, trained)
        self._loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)
        self._step = tf.function(self._learn)
        self._statistics = tf.function(self._seen)
        self._answers = tf.function(self._judged, reduce_retracing=True)
        self._judging = evaluation.validation(config, context)

    def alone(self, architecture: Architecture, seed: int) -> float:
        """The accuracy of a member that was trained from random weights; the same at every call with one seed."""
        become(self.network, architecture)
        start(self.network, architecture, np.random.default_rng(seed))
        self._forget()
        tf.random.set_seed(seed)
        own = dataclasses.replace(self.context, seed=seed)
        for images, labels in training_batches(self.config, own, epochs=self.config.epochs):
            self._step(images, labels)
        return self.accuracy(architecture)

    def together(self, draw: Callable[[random.Random], Architecture], seed: int) -> None:
        """Trains all members in shared weights: at every step one that is drawn (single path, arXiv:1904.00420)."""
        start(self.network, None, np.random.default_rng(seed))
        self._forget()
        tf.random.set_seed(seed)
        rng = random.Random(seed)
        own = dataclasses.replace(self.context, seed=seed)
        for images, labels in training_batches(self.config, own, epochs=self.config.epochs):
            become(self.network, draw(rng))
            self._step(images, labels)

    def accuracy(self, architecture: Architecture) -> float:
        """The member's accuracy with the weights of now, its normalization's statistics taken anew."""
        become(self.network, architecture)
        self._renew()
        hits = total = 0
        for images, labels in self._judging:
            hits += int(self._answers(images, labels))
            total += len(labels)
        return hits / total

    def _learn(self, images: Tensor, labels: Tensor) -> None:
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            loss = self._loss(labels, self.network(images, training=True))
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))

    def _seen(self, images: Tensor) -> Sequence[Tensor]:
        self.network(images, training=True)
        found: list[Tensor] = []
        for norm in self.network.norms.values():
            assert norm.seen is not None
            found += norm.seen
        return found

    def _judged(self, images: Tensor, labels: Tensor) -> Tensor:
        hits = tf.argmax(self.network(images, training=False), 1) == labels
        found: Tensor = tf.reduce_sum(tf.cast(hits, tf.int32))
        return found

    def _forget(self) -> None:
        for variable in self.optimizer.variables:
            variable.assign(tf.zeros_like(variable))

    def _renew(self) -> None:
        """Takes the statistics of normalization anew: their mean over `norm_batches` batches."""
        count = max(1, self.config.norm_batches)
        sums: list[np.ndarray] = []
        seen = 0
        for images, _ in training_batches(self.config, self.context, epochs=-(-count // self.steps)).take(count):
            found = [value.numpy().astype(np.float64) for value in self._statistics(images)]
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
            seen += 1
        norms = list(self.network.norms.values())
        for i, norm in enumerate(norms):
            norm.mean.assign(sums[2 * i] / seen)
            norm.variance.assign(sums[2 * i + 1] / seen)
