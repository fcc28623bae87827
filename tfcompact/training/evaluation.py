"""Loss and accuracy of a network on a split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfcompact.frameworks import tf
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training


def validation(config: Training, context: Context) -> Any:
    """Batches `(images, int64 labels)` of the validation split, as many as `config` asks for."""
    return context.data.batches(
        "validation",
        px=context.px,
        batch=config.batch,
        normalization=context.normalization,
        limit=config.validation_images or None,
    )


def evaluator(model: Any) -> Callable[[Any], tuple[float, float]]:
    """A function from batches `(images, int64 labels)` to `model`'s mean cross-entropy and top-1 accuracy."""

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(images: Any, labels: Any) -> tuple[Any, Any, Any]:
        outputs = model(images, training=False)
        logits = tf.cast(outputs[0] if isinstance(outputs, list) else outputs, tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        hits = tf.argmax(logits, 1) == labels
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(hits, tf.int32)), tf.shape(labels)[0]

    def evaluate(batches: Any) -> tuple[float, float]:
        sums = np.zeros(3)
        for images, labels in batches:
            sums += [float(value) for value in step(images, labels)]
        return sums[0] / sums[2], sums[1] / sums[2]

    return evaluate
