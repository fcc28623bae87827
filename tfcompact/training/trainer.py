"""One step of training: losses, gradients, the moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from tfcompact.frameworks import keras, tf
from tfcompact.training.hyperparameters import Training


class Teacher(NamedTuple):
    """A network whose probabilities are labels too: `share` of the loss, in [0, 1], is the cross-entropy with them
    (knowledge distillation, arXiv:1503.02531, at temperature 1). It takes the images that the student takes."""

    model: Any
    share: float


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


def _scales(optimizer: Any) -> bool:
    return isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)
