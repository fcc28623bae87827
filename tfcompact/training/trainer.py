"""One step of training: losses, gradients, the moving average of the weights, and what hooks add to them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from tfcompact.frameworks import keras, tf
from tfcompact.training.hooks import Hook, Step
from tfcompact.training.hyperparameters import Training
from tfcompact.training.optimizers import scales_loss


class Trainer(keras.Model):  # type: ignore[misc]
    """A network with its loss and the moving average of its variables, for Keras' `fit` to drive."""

    def __init__(self, network: Any, config: Training, data: Any, hooks: Sequence[Hook] = ()) -> None:
        super().__init__()
        self.network = network
        self.hooks = tuple(hooks)
        self.read = tuple(dict.fromkeys(name for hook in hooks for name in hook.layers))
        self.forward = network if not self.read else _with_layers(network, self.read)
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
            tf.Variable(v, trainable=False, name=f"average_{i}")  # each replica keeps its own: they are the same
            for i, v in enumerate(self.averaged)
        ]

    @property
    def metrics(self) -> list[Any]:
        """The means of loss and accuracy, which Keras sets back at the start of an epoch."""
        return [self.mean_loss, self.mean_accuracy]

    @property
    def trained(self) -> list[Any]:
        """Every variable that the optimizer moves: the network's, then those of hooks."""
        return [*self.network.trainable_variables, *(v for hook in self.hooks for v in hook.trainable_variables())]

    def train_step(self, batch: Any) -> dict[str, Any]:
        """Takes one step on images `[n, px, px, 3]` and labels `[n, classes]`, and returns the metrics so far."""
        images, labels = batch
        weights = tf.linalg.matvec(labels, self.class_weights)
        prepared = [hook.prepare(images, labels) for hook in self.hooks]
        with tf.GradientTape() as tape:
            outputs, layers = self._answers(images)
            losses = self.cross_entropy(labels, outputs[0])
            step = Step(images, labels, weights, outputs, layers, self.cross_entropy, None)
            steps = [step._replace(prepared=given) for given in prepared]
            for hook, own in zip(self.hooks, steps, strict=True):
                losses = hook.example_losses(own, losses)
            loss = tf.reduce_mean(weights * losses)
            for hook, own in zip(self.hooks, steps, strict=True):
                term = hook.loss(own)
                if term is not None:
                    loss += term
            # Gradients are summed over replicas, each of which has its share of the batch.
            shared = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.get_scaled_loss(shared) if scales_loss(self.optimizer) else shared
        variables = self.trained
        gradients = tape.gradient(scaled, variables)
        if scales_loss(self.optimizer):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        for hook in self.hooks:
            if type(hook).gradient is not Hook.gradient:
                found = [hook.gradient(v, g) for v, g in zip(variables, gradients, strict=True)]
                gradients = [g if own is None else own for own, g in zip(found, gradients, strict=True)]
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._project(self.network.trainable_variables, self.network.trainable_variables)
        if self.averages:
            # A short run must forget its first steps: the decay rises with the steps taken (TF's "num_updates").
            step_count = tf.cast(self.optimizer.iterations, tf.float32)
            rate = 1 - tf.minimum(self.ema, (1 + step_count) / (10 + step_count))
            for average, variable in zip(self.averages, self.averaged, strict=True):
                average.assign_add(rate * (variable - average))
            self._project(self.averaged, self.averages)
        for hook in self.hooks:
            hook.after_step(self.optimizer.iterations)
        self.mean_loss.update_state(loss)
        self.mean_accuracy.update_state(labels, outputs[0])
        return {m.name: m.result() for m in self.metrics}

    def _answers(self, images: Any) -> tuple[list[Any], dict[str, Any]]:
        """The logits of the network's outputs in float32, and the outputs of the layers that hooks read."""
        found = self.forward(images, training=True)
        found = found if isinstance(found, list) else [found]
        outputs = [tf.cast(o, tf.float32) for o in found[: len(found) - len(self.read)]]
        return outputs, dict(zip(self.read, found[len(outputs) :], strict=True))

    def _project(self, variables: Sequence[Any], held: Sequence[Any]) -> None:
        """Lets hooks say what the values `held` for `variables` may be: the variables' own, or their averages."""
        for hook in self.hooks:
            if type(hook).project is Hook.project:
                continue
            for variable, holder in zip(variables, held, strict=True):
                value = hook.project(variable, holder)
                if value is not None:
                    holder.assign(value)

    @contextlib.contextmanager
    def averages_in_place(self) -> Iterator[None]:
        """Puts the averaged weights into the network for the length of a `with` block."""
        kept = [v.numpy() for v in self.averaged]
        for variable, average in zip(self.averaged, self.averages, strict=True):
            variable.assign(average)
        try:
            yield
        finally:
            for variable, value in zip(self.averaged, kept, strict=True):
                variable.assign(value)


def _with_layers(network: Any, names: Sequence[str]) -> Any:
    """The network with the outputs of these layers after its own."""
    return keras.Model(network.inputs, [*network.outputs, *(network.get_layer(name).output for name in names)])
