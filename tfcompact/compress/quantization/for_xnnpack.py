"""Operators that XNNPACK leaves out in 8 bits, written as ones that it takes: the last step before the converter.

Every operator left out ends a piece of the network that XNNPACK runs as a whole, and is itself run by a slow kernel:
an int8 RELU that stands alone takes longer than the convolution before it.

- A ReLU that nothing can fuse (its input is read by others too, or comes from no convolution) becomes a maximum
  pooling of 1x1, with which TFLite fuses it. Its output keeps the input's grid, so no value changes.
- Average pooling becomes a depthwise convolution with equal weights, which are exact in 8 bits; where it is padded,
  and a window at the border holds fewer values, a multiplication by what is missing there follows.
- A concatenation of more than five tensors becomes one of a concatenation and others.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from tfcompact.compress.quantization.quantizers import FakeQuant
from tfcompact.compress.quantization.rules import fuses_relu
from tfcompact.compress.quantization.wrapping import deployable
from tfcompact.frameworks import Inputs, Layer, LayerConfig, Model, Pooling, Tensor, keras, tf
from tfcompact.models.layers import register
from tfcompact.networks.rewrite import calls_by_name, copied, rewrite

L = keras.layers
MOST_JOINED = 5
"""Tensors that XNNPACK concatenates in one node (xnn_define_concatenate5)."""


@register
class PositionScale(keras.layers.Layer):
    """`x` of shape [n, h, w, c] times a number for each position: `factors[row][column]`.

    They are whole multiples of `step` in [0, 255 * step], so that they are exact in 8 bits.
    """

    def __init__(self, factors: list[list[float]], step: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.factors, self.step = factors, step

    def call(self, x: Tensor) -> Tensor:
        scale = tf.constant(self.factors, tf.float32)[tf.newaxis, ..., tf.newaxis]
        # Tells the converter the scale of the constant; as fake quantization of whole multiples it changes nothing.
        return x * tf.quantization.fake_quant_with_min_max_vars(scale, 0.0, 255 * self.step)

    def get_config(self) -> LayerConfig:
        return super().get_config() | {"factors": self.factors, "step": self.step}


def shipped(qat: Model) -> Model:
    """The network of a quantization-aware one that is converted: `wrapping.deployable` and then `delegable`."""
    return delegable(deployable(qat))


def beside(layer: Layer, inputs: int) -> tuple[str, ...]:
    """The names of the layers that the integer network may have beside `layer` for the same values.

    They are named after it; `inputs` is how many inputs it has.
    """
    if isinstance(layer, L.AveragePooling2D):
        return (f"{layer.name}_border",)
    if isinstance(layer, L.Concatenate):
        more = -(-max(0, inputs - MOST_JOINED) // (MOST_JOINED - 1))
        return tuple(f"{layer.name}_{i}" for i in range(more))
    return ()


def delegable(model: Model) -> Model:
    """`model`, which `wrapping.deployable` gave, as the same function in operators that XNNPACK takes."""
    rows = calls_by_name(model)

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        _, sources, readers = rows[layer.name]
        if isinstance(layer, L.ReLU) and len(x.shape) == 4:
            before, _, others = rows[sources[0]]
            if fuses_relu(before) and others == [layer.name]:
                return None
            carrier = L.MaxPooling2D(1, name=f"{layer.name}_carrier")(x)
            return copied(layer, carrier)
        after = rows[readers[0]].layer if len(readers) == 1 else None
        if not isinstance(after, FakeQuant):
            return None  # without a grid of its own it has stayed float
        if isinstance(layer, L.AveragePooling2D):
            return _pooled(layer, x, after)
        if isinstance(layer, L.Concatenate) and len(x) > MOST_JOINED:
            return _joined(layer.name, layer.axis, x, after)
        return None

    return rewrite(model, rule)


def _pooled(layer: Pooling, x: Tensor, rounding: FakeQuant) -> Tensor | None:
    """`layer(x)` by a depthwise convolution; None where its border cannot be put exactly."""
    height, width = layer.pool_size
    whole = L.DepthwiseConv2D(
        layer.pool_size, layer.strides, layer.padding, use_bias=False, trainable=False, name=layer.name
    )
    ones = np.ones((1, *x.shape[1:3], 1), np.float32)
    windows = L.DepthwiseConv2D(layer.pool_size, layer.strides, layer.padding, use_bias=False)
    windows.build(ones.shape)
    windows.set_weights([np.ones((height, width, 1, 1), np.float32)])
    counts = np.rint(windows(ones).numpy()[0, ..., 0]).astype(int)  # values that a window holds
    missing = [[Fraction(height * width, int(n)) for n in row] for row in counts]
    out = whole(x)
    whole.set_weights([np.full((height, width, x.shape[-1], 1), 1 / (height * width), np.float32)])
    if (counts == height * width).all():
        return out
    parts = np.lcm.reduce([f.denominator for row in missing for f in row])
    if max(f for row in missing for f in row) * int(parts) > 255:
        return None
    # As fine as 8 bits allow, in whole parts.
    parts = int(parts) * int(255 // (max(f for row in missing for f in row) * int(parts)))
    out = FakeQuant(rounding.low, rounding.high, name=f"{layer.name}_inner_8bit")(out)
    factors = [[float(f) for f in row] for row in missing]
    return PositionScale(factors, 1 / parts, name=f"{layer.name}_border")(out)


def _joined(name: str, axis: int, tensors: list[Tensor], rounding: FakeQuant) -> Tensor:
    """The concatenation of `tensors` by concatenations of few."""
    inner = 0
    while len(tensors) > MOST_JOINED:
        count = min(MOST_JOINED, len(tensors) - MOST_JOINED + 1)
        first = L.Concatenate(axis, name=f"{name}_{inner}")(tensors[:count])
        first = FakeQuant(rounding.low, rounding.high, name=f"{name}_{inner}_8bit")(first)
        tensors, inner = [first, *tensors[count:]], inner + 1
    return L.Concatenate(axis, name=name)(tensors)
