"""Masks on kernels: the smallest weights are zero, more of them as a training goes on, and stay zero in its averages.

A mask is projected after each step of the optimizer and into the moving average of the weights, so momentum and
averaging cannot bring a zero back. tfmot's wrappers clean up at the next forward pass and would be averaged here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfcompact.frameworks import Model, Tensor, Variable, keras, tf
from tfcompact.networks import rewrite
from tfcompact.networks.kinds import is_full_convolution
from tfcompact.training.hooks import Hook

L = keras.layers
RAMP = 0.75
"""The share of a training in which sparsity rises; after it masks are fixed, and only then weights are kept."""
EVERY = 20  # steps between two masks while it rises
BLOCK, ZEROS = 4, 2  # of 2:4 sparsity
PRUNED = 0.1
"""The share of zeros from which a kernel was pruned: training and rounding of floats leave none."""


def maskable(model: Model) -> list[Any]:
    """The layers whose kernels may have zeros: convolutions over all channels and dense layers.

    Not the first convolution, which is small and sees the image, nor depthwise ones, nor auxiliary heads.
    """
    inside = {layer.name for layer in rewrite.inference(model).layers}
    image = {layer.name for layer in model.layers if isinstance(layer, L.InputLayer)}
    found = []
    for call in rewrite.calls(model):
        layer = call.layer
        weighted = isinstance(layer, L.Dense) or is_full_convolution(layer)
        if weighted and layer.name in inside and not image.intersection(call.sources):
            found.append(layer)
    return found


def cubic(step: Tensor, last: int, final: float) -> Tensor:
    """The sparsity after `step` of `last` steps: `final` less a share that falls with the cube (arXiv:1710.01878)."""
    left = 1 - tf.cast(tf.minimum(step, last), tf.float32) / max(last, 1)
    return final * (1 - left**3)


def magnitude_mask(kernel: Tensor, sparsity: Tensor | float) -> Tensor:
    """Ones where the `round(n * (1 - sparsity))` largest of n weights are, at least one, else zeros."""
    size = tf.size(kernel)
    kept = tf.cast(tf.round(tf.cast(size, tf.float32) * (1 - sparsity)), tf.int32)
    kept = tf.clip_by_value(kept, 1, size)
    order = tf.argsort(tf.reshape(tf.abs(kernel), [-1]), direction="DESCENDING", stable=True)
    ones = tf.tensor_scatter_nd_update(tf.zeros([size]), tf.expand_dims(order[:kept], 1), tf.ones([kept], tf.float32))
    return tf.reshape(ones, tf.shape(kernel))


def block_mask(kernel: np.ndarray) -> np.ndarray:
    """Ones for the two largest of every four weights along the input channels, `[kh, kw, in, out]` or `[in, out]`.

    Where the channels are no multiple of four, the last ones of a filter's position stay.
    """
    order = np.moveaxis(np.abs(kernel), -2, -1)  # [..., out, in]
    whole = order.shape[-1] // BLOCK * BLOCK
    blocks = order[..., :whole].reshape(*order.shape[:-1], -1, BLOCK)
    ranks = np.argsort(np.argsort(-blocks, -1, kind="stable"), -1, kind="stable")
    mask = np.ones_like(order)
    mask[..., :whole] = (ranks < BLOCK - ZEROS).reshape(*order.shape[:-1], whole)
    return np.moveaxis(mask, -1, -2).astype(np.float32)


class Masks(Hook):
    """Masks for some kernels: given, or found anew while sparsity rises to `final`.

    It rises in the first three quarters of `steps`, 2 or more.
    """

    def __init__(
        self,
        kernels: Sequence[Variable],
        masks: Sequence[np.ndarray] | None = None,
        *,
        final: float = 0,
        steps: int = 0,
    ) -> None:
        self.kernels = list(kernels)
        values = masks or [np.ones(kernel.shape, np.float32) for kernel in self.kernels]
        self.masks = [tf.Variable(value, trainable=False, name=f"mask_{i}") for i, value in enumerate(values)]
        self.of = {id(kernel): mask for kernel, mask in zip(self.kernels, self.masks, strict=True)}
        self.final, self.last = final, min(max(1, int(RAMP * steps)), steps - 1) if steps else 0

    def variables(self) -> Sequence[Variable]:
        """The masks."""
        return self.masks

    def project(self, variable: Variable, value: Tensor) -> Tensor | None:
        """The value with zeros where the variable's mask has them."""
        mask = self.of.get(id(variable))
        return None if mask is None else value * mask

    def after_step(self, iterations: Tensor) -> None:
        """Finds masks anew every `EVERY` steps, as long as sparsity rises."""
        if not self.last:
            return
        step = tf.cast(iterations, tf.int32)

        def anew() -> Tensor:
            sparsity = cubic(step, self.last, self.final)
            for kernel, mask in zip(self.kernels, self.masks, strict=True):
                mask.assign(magnitude_mask(kernel, sparsity))
            return tf.constant(0)

        due = ((step % EVERY == 0) & (step < self.last)) | (step == self.last)
        tf.cond(due, anew, lambda: tf.constant(0))

    def settled(self, iterations: int) -> bool:
        """Whether the masks are final, and have been projected."""
        return iterations > self.last

    def apply(self) -> None:
        """Puts the zeros into the kernels now."""
        for kernel, mask in zip(self.kernels, self.masks, strict=True):
            kernel.assign(kernel * mask)


def kept_zeros(kernels: Sequence[Variable]) -> list[Hook]:
    """Masks for the kernels that were pruned, which a later training must not fill again; none for the others."""
    values = {id(kernel): kernel.numpy() for kernel in kernels}
    sparse = [kernel for kernel in kernels if float(np.mean(values[id(kernel)] == 0)) >= PRUNED]
    if not sparse:
        return []
    return [Masks(sparse, [(values[id(kernel)] != 0).astype(np.float32) for kernel in sparse])]


def kernels_of(model: Model) -> list[Variable]:
    """The kernels of a float network's convolutions and dense layers."""
    weighted: list[Any] = [
        layer for layer in model.layers if isinstance(layer, L.Dense) or is_full_convolution(layer)
    ]
    return [layer.kernel for layer in weighted]
