"""The training images of a stage, as its options and its context say."""

from __future__ import annotations

from typing import Any

from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training


def training_batches(config: Training, context: Context, *, start_epoch: int = 0, epochs: int) -> Any:
    """Batches `(images [n, px, px, 3], labels [n, classes])`, normalized and augmented, of some epochs."""
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


def batches_for_norms(config: Training, context: Context) -> Any:
    """As many batches, at least, as statistics of batch normalization are taken from."""
    steps = context.data.steps_per_epoch(config.batch, config.epoch_images)
    return training_batches(config, context, epochs=1 + config.norm_batches // steps)
