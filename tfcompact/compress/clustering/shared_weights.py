"""Training with few distinct integers in every kernel.

Clustering float weights before rounding loses what it gains: folding and the scales of the channels turn a few values
into many. So the integers themselves are clustered, with one codebook for all channels of a layer. A channel's
largest weight stays at 127 or -127, which are always in the codebook, so that the step of its grid, and with it every
integer, is what it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfcompact.compress.clustering import codebooks
from tfcompact.compress.quantization.quantizers import KernelQuantizer, Quantizer, Variables, Wrapped, kernel_steps
from tfcompact.compress.quantization.rounded_layers import exact_weights, rounded_layers, rounded_weights
from tfcompact.frameworks import Model, Tensor, Variable, keras, tf
from tfcompact.networks.kinds import is_full_convolution
from tfcompact.training.hooks import Hook

FIXED = 0.75
"""The share of a training after which codebooks are fixed; only then weights are kept."""
EVERY = 20  # steps between two adjustments of a codebook
PINNED = (-codebooks.LARGEST, 0, codebooks.LARGEST)


def clusterable(qat: Model) -> list[Wrapped]:
    """The layers of a quantized network whose kernels may share values: convolutions over all channels, and dense.

    Depthwise kernels have a few values a channel and are left alone, and so is the convolution that sees the image.
    """
    found = []
    for wrapped in rounded_layers(qat):
        layer = wrapped.layer
        weighted = isinstance(layer, keras.layers.Dense) or is_full_convolution(layer)
        if weighted and exact_weights(wrapped) and exact_weights(wrapped)[0].shape[-2] > 3:
            found.append(wrapped)
    return found


def integers(wrapped: Wrapped) -> np.ndarray:
    """The kernel's integers in [-127, 127], as the file has them, in the kernel's own order."""
    step = kernel_steps(exact_weights(wrapped)[0], _axis(wrapped)).numpy()
    found: np.ndarray = np.rint(rounded_weights(wrapped)[0] / step).astype(np.int64)
    return found


class Clustered(Hook):
    """Codebooks of `size` integers at most for some layers of a quantized network.

    While it is `entered`, kernels are rounded to their codebooks, and gradients pass to the weights unchanged. Every
    `EVERY` steps of the first three quarters of `steps`, codes move to the mean of the weights nearest to them, which
    never raises inertia. `leave` puts the weights onto their codes and the network's own rounding back, which then
    changes nothing.
    """

    def __init__(self, layers: Sequence[Wrapped], size: int, steps: int = 0) -> None:
        self.wrapped = list(layers)
        self.last = min(max(1, int(FIXED * steps)), steps - 1) if steps else 0
        self.codes: list[Variable] = []
        for i, layer in enumerate(self.wrapped):
            counts = codebooks.counted(integers(layer))
            pinned = [value for value in PINNED if steps or counts[value + codebooks.LARGEST]]
            codes = codebooks.codebook(counts, size, pinned)
            codes = np.concatenate([codes, np.repeat(codes[-1:], size - len(codes))])  # of one length, for resuming
            self.codes.append(tf.Variable(codes.astype(np.float32), trainable=False, name=f"codes_{i}"))
        self._own: list[Quantizer] = []

    def enter(self) -> None:
        """Has the kernels rounded to their codebooks from now on."""
        self._own = [layer._weight_vars[0][1] for layer in self.wrapped]
        for layer, codes in zip(self.wrapped, self.codes, strict=True):
            kernel, _, found = layer._weight_vars[0]
            layer._weight_vars[0] = (kernel, _CodeQuantizer(_axis(layer), codes), found)

    def leave(self) -> None:
        """Puts the kernels onto their codes, and has them rounded as before."""
        for layer, codes, own in zip(self.wrapped, self.codes, self._own, strict=True):
            kernel, quantizer, found = layer._weight_vars[0]
            kernel.assign(quantizer(kernel, False, weights=found))
            layer._weight_vars[0] = (kernel, own, found)
            assert isinstance(own, KernelQuantizer)
            assert set(np.unique(integers(layer))) <= set(codes.numpy().astype(int))

    def variables(self) -> Sequence[Variable]:
        """The codebooks."""
        return self.codes

    def after_step(self, iterations: Tensor) -> None:
        """Moves the codes every `EVERY` steps, until they are fixed."""
        if not self.last:
            return
        step = tf.cast(iterations, tf.int32)

        def moved() -> Tensor:
            for layer, codes in zip(self.wrapped, self.codes, strict=True):
                codes.assign(moved_codes(_counted(exact_weights(layer)[0], _axis(layer)), codes))
            return tf.constant(0)

        due = ((step % EVERY == 0) & (step < self.last)) | (step == self.last)
        tf.cond(due, moved, lambda: tf.constant(0))

    def settled(self, iterations: int) -> bool:
        """Whether the codebooks are fixed."""
        return iterations > self.last


def moved_codes(counts: Tensor, codes: Tensor) -> Tensor:
    """The codes `[n]` after one step of k-means over weights counted `[255]`; -127, 0 and 127 and empty ones stay."""
    values = tf.constant(codebooks.VALUES, tf.float32)
    place = _places(codes)
    number = tf.shape(codes)[0]
    weights = tf.math.unsorted_segment_sum(counts, place, number)
    sums = tf.math.unsorted_segment_sum(counts * values, place, number)
    means = tf.round(sums / tf.maximum(weights, 1.0))
    pinned = tf.reduce_any(tf.equal(codes[:, None], tf.constant(PINNED, tf.float32)), 1)
    return tf.where(pinned | (weights == 0), codes, means)


class _CodeQuantizer:
    """Rounds a kernel to the codes of its layer on the grid of its channels; gradients pass unchanged."""

    def __init__(self, axis: int, codes: Variable) -> None:
        self.axis, self.codes = axis, codes

    def __call__(self, inputs: Tensor, training: bool, weights: Variables) -> Tensor:
        step = tf.stop_gradient(kernel_steps(inputs, self.axis))
        table = tf.gather(self.codes, _places(self.codes))
        return tf.grad_pass_through(lambda kernel: tf.gather(table, _index(kernel, step)) * step)(inputs)


def _places(codes: Tensor) -> Tensor:
    """For each value from -127 to 127 the place of the nearest code."""
    values = tf.constant(codebooks.VALUES, tf.float32)
    return tf.argmin(tf.abs(values[:, None] - codes), 1, output_type=tf.int32)


def _index(kernel: Tensor, step: Tensor) -> Tensor:
    return tf.cast(tf.round(kernel / step), tf.int32) + codebooks.LARGEST


def _counted(kernel: Tensor, axis: int) -> Tensor:
    index = tf.reshape(_index(kernel, kernel_steps(kernel, axis)), [-1])
    return tf.cast(tf.math.bincount(index, minlength=len(codebooks.VALUES)), tf.float32)


def _axis(wrapped: Wrapped) -> int:
    axis = wrapped.quantize_config.kernel_axis
    assert axis is not None
    return axis
