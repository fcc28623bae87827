"""Two repairs of a network before it is rounded to 8 bits, neither of which trains (arXiv:1906.04721).

`equalized` moves factors between the channels of neighbouring convolutions: the same function, to the bit, with
channels of more equal size, so that the one scale of an activation suits all of them. `correct_bias` takes out of
each bias what rounding has shifted the mean of its channel by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tfcompact.compress.quantization.quantizers import Wrapped, Wrapper
from tfcompact.compress.quantization.rounded_layers import exact_weights, has_bias, rounded_weights
from tfcompact.frameworks import Layer, Model, Tensor, keras, tf
from tfcompact.models.layers import Scale
from tfcompact.networks.kinds import is_linear
from tfcompact.networks.rewrite import Call, calls, clone, listed, output_names, tensors

L = keras.layers
SWEEPS = 20  # a chain of n pairs settles in about n; no network of ours has needed more


def equalized(model: Model) -> tuple[Model, dict[str, float]]:
    """A copy of a lowered network with its channels equalized, and the largest factor that each convolution gave.

    Only convolutions that gave one are named; it is a ratio of 1 or more.

    A convolution's channel is divided by s and the kernels that read it are multiplied by s, where only layers f with
    `f(x / s) = f(x) / s` lie between: a ReLU, pooling, a product with a gate; not a ReLU6. As in section 4.1,
    `s = sqrt(r1 / r2)`, r1 the largest weight that makes the channel and r2 the largest that reads it, but rounded to
    a power of 2: then no product or sum is rounded differently, and every output stays the same to the bit.

    Kernels rounded per output channel gain little by it; activations, rounded per tensor, are what it is for.
    """
    model = clone(model)
    layers = {layer.name: layer for layer in model.layers}
    pairs = _pairs(model)
    total = {name: np.ones(_size(layers[name])) for name in pairs}
    for _ in range(SWEEPS):
        moved = False
        for name, readers in pairs.items():
            made = _largest(layers[name], of_output=True)
            read = np.max([_largest(layers[r], of_output=False) for r in readers], axis=0)
            usable = (made > 0) & (read > 0)
            ratio = np.where(usable, made, 1.0) / np.where(usable, read, 1.0)
            factor = 2.0 ** np.round(np.log2(ratio) / 2)
            if np.all(factor == 1):
                continue
            moved = True
            total[name] *= factor
            _scale(layers[name], 1 / factor, of_output=True)
            for reader in readers:
                _scale(layers[reader], factor, of_output=False)
        if not moved:
            break
    return model, {name: float(np.max(np.maximum(f, 1 / f))) for name, f in total.items() if np.any(f != 1)}


def correct_bias(qat: Model, model: Model, batches: Sequence[np.ndarray]) -> dict[str, float]:
    """The largest correction of each layer's biases, from which it takes what rounding has shifted its channels by.

    That is how much the mean of a channel of `qat` differs from that in `model`, its float parent, over `batches` of
    normalized images: as in appendix D of arXiv:1906.04721, in order of execution, each layer seeing what those
    before it give once corrected. `qat` is a calibrated network of `wrapping.quantized`, and is changed. All
    activations that are still to be read are held in memory, for all images.

    A mean follows outliers: where a few images make most of a channel's sum, what a range clips of them is added to
    every image, and the network comes out worse (seen in the squeeze-and-excite of MobileNetV3-Small).
    """
    rows = list(calls(qat))
    biased = [layer.name for layer, _, _ in rows if isinstance(layer, Wrapper) and has_bias(layer)]
    expected = _means(model, biased, batches)
    values: dict[str, list[Tensor | list[Tensor]]] = {}
    unread = {layer.name: len(readers) for layer, _, readers in rows}
    corrections = {}
    for layer, sources, _ in rows:
        if not sources:
            values[layer.name] = [tf.constant(images) for images in batches]
            continue
        inputs = [
            list(parts) if len(parts) > 1 else parts[0] for parts in zip(*(values[s] for s in sources), strict=True)
        ]
        if isinstance(layer, Wrapper) and layer.name in expected:
            unrounded = _without_output_rounding(layer)
            found = _mean([unrounded(x) for x in inputs])
            exact_weights(layer)[1].assign_sub(found - expected[layer.name])
            corrections[layer.name] = float(np.max(np.abs(found - expected[layer.name])))
        run = tf.function(lambda x, layer=layer: layer(x, training=False), reduce_retracing=True)
        values[layer.name] = [run(x) for x in inputs]
        for source in sources:
            unread[source] -= 1
            if not unread[source]:
                del values[source]
    return corrections


def _pairs(model: Model) -> dict[str, list[str]]:
    """Convolutions whose output channels may be scaled, and the convolutions that must then be scaled back."""
    rows = list(calls(model))
    outputs = output_names(model)
    return {
        layer.name: readers
        for layer, _, _ in rows
        if _has_kernel(layer) and is_linear(layer)
        for readers in [_readers_of_factors(layer, rows, outputs)]
        if readers
    }


def _readers_of_factors(first: Layer, rows: list[Call], outputs: set[str]) -> list[str]:
    """The convolutions that read the channels of `first`; none where another layer, which needs their size, does."""
    carrying, readers = {first.name}, []
    for layer, sources, _ in rows:
        carried = [s in carrying for s in sources]
        if not any(carried) or layer is first:
            continue
        if _has_kernel(layer) and getattr(layer, "groups", 1) == 1:
            readers.append(layer.name)
        elif isinstance(layer, L.Multiply) and sum(carried) == 1 or _commutes(layer) and all(carried):
            carrying.add(layer.name)
        else:
            return []
    return [] if carrying & outputs else readers


def _commutes(layer: Layer) -> bool:
    """Whether factors of channels pass through: `layer(f * x) == f * layer(x)` for every f > 0 of each channel."""
    if isinstance(layer, L.ReLU):
        return layer.max_value is None and layer.threshold == 0
    same = (L.Add, L.Dropout, L.ZeroPadding2D, L.Cropping2D, Scale)
    return isinstance(layer, (*same, L.MaxPooling2D, L.AveragePooling2D, L.GlobalAveragePooling2D))


def _has_kernel(layer: Layer) -> bool:
    """Whether it is a convolution or dense layer, used once, whose kernel is as `_channels` takes it."""
    odd = isinstance(layer, (L.SeparableConv2D, L.Conv2DTranspose))
    return isinstance(layer, (L.Conv2D, L.DepthwiseConv2D, L.Dense)) and not odd and len(layer.inbound_nodes) == 1


def _channels(layer: Layer, kernel: np.ndarray, *, of_output: bool) -> tuple[np.ndarray, int]:
    """`kernel` and its axis of output channels, or of input channels.

    A depthwise one is [h, w, channels, multiplier] and its outputs are the last two.
    """
    if not isinstance(layer, L.DepthwiseConv2D):
        return kernel, kernel.ndim - (1 if of_output else 2)
    return (kernel.reshape(*kernel.shape[:2], -1), 2) if of_output else (kernel, 2)


def _size(layer: Layer) -> int:
    """The number of channels that it makes."""
    kernel, axis = _channels(layer, layer.get_weights()[0], of_output=True)
    return int(kernel.shape[axis])


def _largest(layer: Layer, *, of_output: bool) -> np.ndarray:
    """The largest weight of each channel, `[channels]`."""
    kernel, axis = _channels(layer, layer.get_weights()[0], of_output=of_output)
    return np.abs(kernel).max(tuple(i for i in range(kernel.ndim) if i != axis))


def _scale(layer: Layer, factor: np.ndarray, *, of_output: bool) -> None:
    """Multiplies the weights of each channel by its factor, and if `of_output` its bias."""
    first, *bias = layer.get_weights()
    kernel, axis = _channels(layer, first, of_output=of_output)
    scaled = kernel * factor.reshape([-1 if i == axis else 1 for i in range(kernel.ndim)])
    layer.set_weights([scaled.reshape(first.shape), *(b * factor if of_output else b for b in bias)])


def _without_output_rounding(wrapped: Wrapped) -> Callable[..., Tensor]:
    """The wrapped layer with its kernel and bias rounded and its output not."""
    inner = wrapped.layer.__class__.from_config(wrapped.layer.get_config())
    inner.build(wrapped.input_shape)
    inner.set_weights(rounded_weights(wrapped))
    return tf.function(inner, reduce_retracing=True)


def _means(model: Model, names: list[str], batches: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The mean of each channel of the layers' outputs over all images and positions, float64 `[channels]`."""
    probe = tf.function(tensors(model, names), reduce_retracing=True)
    values = [listed(probe(tf.constant(images))) for images in batches]
    return {name: _mean([v[i] for v in values]) for i, name in enumerate(names)}


def _mean(parts: Sequence[Tensor]) -> np.ndarray:
    """The mean of each channel over all images and positions of several batches, float64 `[channels]`."""
    sums = [np.sum(np.asarray(p, np.float64), tuple(range(len(p.shape) - 1))) for p in parts]
    counts = [int(np.prod(p.shape[:-1])) for p in parts]
    return np.sum(sums, axis=0) / sum(counts)
