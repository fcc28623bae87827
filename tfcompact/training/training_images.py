"""The training images of a stage, as its options and its context say."""

from __future__ import annotations

from typing import Any

from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training
from tfcompact.training.norms import reestimate_norms, reseed


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


def renew_norms(network: Any, config: Training, context: Context, *, epoch: int = 0) -> None:
    """Takes the statistics of batch normalization anew from the training images, as `config.norm_batches` says.

    What is random in the network is a function of the seed and of `epoch`, so that it is the same after a kill.
    """
    if not config.norm_batches:
        return
    steps = context.data.steps_per_epoch(config.batch, config.epoch_images)
    batches = training_batches(config, context, epochs=1 + config.norm_batches // steps)
    reseed(network, context.seed, epoch)
    reestimate_norms(network, batches, config.norm_batches)
