"""Optimizers from options, with their schedule of learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfcompact.frameworks import keras
from tfcompact.training.hyperparameters import Training


def optimizer_for(config: Training, steps: int, model: Any, more: Sequence[Any] = ()) -> Any:
    """The optimizer of a training of `config.epochs` epochs of `steps` steps, built for `model`'s variables.

    `more` are further variables that it trains, those of hooks. Biases, and normalization's scale and shift, are
    spared weight decay.
    """
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
    variables = [*model.trainable_variables, *more]
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if v.shape.rank < 2])
    optimizer.build(variables)
    if any(layer.compute_dtype == "float16" for layer in model.layers):
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def scales_loss(optimizer: Any) -> bool:
    """Whether the optimizer scales the loss, as training in 16-bit floats needs."""
    return isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
