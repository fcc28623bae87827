"""A penalty that makes some scales of batch normalization small before channels are judged by them."""

from __future__ import annotations

from tfcompact.errors import UserError
from tfcompact.frameworks import Model, Tensor, keras, tf
from tfcompact.training.hooks import Hook, Step


class Slimming(Hook):
    """`weight` times the sum of the absolute scales, added to the loss (network slimming, arXiv:1708.06519)."""

    def __init__(self, network: Model, weight: float) -> None:
        norms = (layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization))
        self.weight, self.scales = weight, [norm.gamma for norm in norms if norm.gamma is not None]
        if not self.scales:
            raise UserError(f"{network.name} has no batch normalization with a scale, so none can be made small")

    def loss(self, step: Step) -> Tensor:
        """The penalty."""
        return self.weight * tf.add_n([tf.reduce_sum(tf.abs(scale)) for scale in self.scales])
