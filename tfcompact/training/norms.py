"""Batch normalization's statistics in short trainings, and the seeds of random layers."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from tfcompact.frameworks import keras, tf


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


def pace_norms(model: Any, steps: int) -> None:
    """Lets batch normalization average over a tenth of an epoch, between 10 and 100 steps.

    At the published momenta the statistics of a short training would still be mostly those it began with.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 1 - min(0.1, max(0.01, 10 / steps))
