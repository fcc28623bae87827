"""Short trainings of many proposals on one compiled network.

What a proposal removes is masked: the network computes and learns as the physically smaller one would, so nothing is
built or traced for a proposal. All of them start from the same weights and see the same batches in the same order,
and the same images judge them, so that differences between them are theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfcompact.compress.channels.atoms import Channels
from tfcompact.compress.channels.slicing import masks
from tfcompact.compress.sparsity.masks import kept_zeros, kernels_of
from tfcompact.frameworks import Model, Tensor, Variable, keras, tf
from tfcompact.networks import rewrite
from tfcompact.training import evaluation
from tfcompact.training.context import Context
from tfcompact.training.hooks import AuxiliaryHead, Hook
from tfcompact.training.hyperparameters import Training
from tfcompact.training.norms import reseed
from tfcompact.training.optimizers import optimizer_for
from tfcompact.training.trainer import Trainer
from tfcompact.training.training_images import training_batches


class Judged(NamedTuple):
    """Mean cross-entropy and top-1 accuracy on the images that judge."""

    loss: float
    accuracy: float


class ChannelMasks(Hook):
    """Keeps weights of removed channels at zero, and their gradients out of the norm that clipping goes by."""

    def __init__(self, model: Model) -> None:
        self.held = list(model.trainable_variables)
        self.masks = [
            tf.Variable(tf.ones_like(v), trainable=False, name=f"channels_{i}") for i, v in enumerate(self.held)
        ]
        self.of = {id(variable): mask for variable, mask in zip(self.held, self.masks, strict=True)}

    def gradient(self, variable: Variable, gradient: Tensor) -> Tensor | None:
        """The gradient without what would move a removed channel."""
        mask = self.of.get(id(variable))
        return None if mask is None else gradient * mask

    def project(self, variable: Variable, value: Tensor) -> Tensor | None:
        """The value with zeros for removed channels."""
        mask = self.of.get(id(variable))
        return None if mask is None else value * mask


class Trials:
    """A network on which proposals are tried. `steps` steps of training each; `model` itself is not changed.

    `data` has the images to train on, and as its validation split those that judge.
    """

    def __init__(self, model: Model, channels: Channels, config: Training, context: Context, steps: int) -> None:
        # One epoch of that many steps is the whole of a short training, with its schedule.
        images = max(1, steps) * config.batch
        self.config = dataclasses.replace(config, epochs=1, epoch_images=images, ema=0.0, warmup_epochs=0.1)
        self.context, self.channels, self.steps = context, channels, steps
        self.network = rewrite.clone(model)
        self.weights = self.network.get_weights()
        self.masks = ChannelMasks(self.network)
        weight = context.spec.aux_weight or 0.0
        heads = [AuxiliaryHead(i, weight) for i in range(1, len(self.network.outputs))]
        hooks = [*heads, *kept_zeros(kernels_of(self.network)), self.masks]
        self.trainer = Trainer(self.network, self.config, context.data, hooks)
        self.trainer.compile(optimizer=optimizer_for(self.config, max(1, steps), self.network))
        self.norms = [layer for layer in self.network.layers if isinstance(layer, keras.layers.BatchNormalization)]
        for norm in self.norms:
            norm.momentum = 0.0  # the statistics are those of the last batch, until they are averaged
        self._step = tf.function(self.trainer.train_step)
        self._forward = tf.function(lambda images: self.network(images, training=True))
        self._evaluate = evaluation.evaluator(self.network)
        needed = max(steps, config.norm_batches, 1)
        per_epoch = context.data.steps_per_epoch(config.batch, images)
        self._batches = training_batches(self.config, context, epochs=-(-needed // per_epoch))
        self._judging = evaluation.validation(self.config, context)

    def judge(self, removed: Iterable[int], *, tuned: bool) -> Judged:
        """How good the network is without the classes `removed`: after its short training, or as it stands.

        The network holds the weights afterwards, zeros for what was removed; the same call gives the same bits.
        """
        self._start(removed)
        if tuned and self.steps:
            for batch in self._batches.take(self.steps):
                self._step(batch)
        self._renew_norms()
        return Judged(*self._evaluate(self._judging))

    def tuned_weights(self) -> list[np.ndarray]:
        """The weights as the last call of `judge` left them."""
        found: list[np.ndarray] = self.network.get_weights()
        return found

    def model_with(self, weights: Sequence[np.ndarray]) -> Model:
        """A copy of the network with these weights."""
        found = rewrite.clone(self.network)
        found.set_weights(list(weights))
        return found

    def _start(self, removed: Iterable[int]) -> None:
        """Puts everything that the future depends on where it was, with the classes masked."""
        of = masks(self.channels, removed)
        by_variable = {
            id(variable): mask
            for layer in self.network.layers
            if layer.weights
            for variable, mask in zip(layer.weights, of[layer.name], strict=True)
        }
        values = iter(self.weights)
        for variable in self.network.weights:
            variable.assign(next(values) * by_variable[id(variable)])
        for variable, mask in zip(self.masks.held, self.masks.masks, strict=True):
            mask.assign(by_variable[id(variable)])
        for variable in self.trainer.optimizer.variables:
            if variable is not self.trainer.optimizer._learning_rate:
                variable.assign(tf.zeros_like(variable))
        reseed(self.network, self.context.seed, 0)

    def _renew_norms(self) -> None:
        """Takes the statistics of batch normalization anew: their mean over `norm_batches` batches."""
        if not self.norms or not self.config.norm_batches:
            return
        sums: list[Any] = [[0.0, 0.0] for _ in self.norms]
        seen = 0
        for images, _ in self._batches.take(self.config.norm_batches):
            self._forward(images)
            seen += 1
            for total, norm in zip(sums, self.norms, strict=True):
                total[0] = total[0] + norm.moving_mean.numpy().astype(np.float64)
                total[1] = total[1] + norm.moving_variance.numpy().astype(np.float64)
        for total, norm in zip(sums, self.norms, strict=True):
            norm.moving_mean.assign(total[0] / seen)
            norm.moving_variance.assign(total[1] / seen)
