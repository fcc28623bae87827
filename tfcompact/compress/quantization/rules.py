"""How each kind of layer is quantized to 8 bits: one table."""

from __future__ import annotations

from typing import NamedTuple

from tfcompact.errors import UserError
from tfcompact.frameworks import Layer, keras
from tfcompact.models.layers import ChannelShift, ChannelShuffle, ChannelSlice, Scale, ShiftedReLU6
from tfcompact.networks.rewrite import layer_of

L = keras.layers


class Rule(NamedTuple):
    """One line of the table: what to do with layers of these classes."""

    layers: tuple[type, ...]
    kernel_axis: int | None  # the axis of the kernel's output channels
    output: str  # "observed": a range of its own; "source": the range of its input; "none": nothing to round


RULES = (  # the first line that fits a layer counts
    Rule((L.DepthwiseConv2D,), 2, "observed"),
    Rule((L.Conv2D, L.Dense), -1, "observed"),
    Rule((L.ReLU, ShiftedReLU6, L.Add, L.Multiply, L.Concatenate, L.GlobalAveragePooling2D, Scale), None, "observed"),
    Rule((ChannelShift,), None, "observed"),  # its numbers are rounded too
    # Integer average pooling rounds on its input's grid (TFLite 8-bit specification: one scale for both ends).
    Rule((L.AveragePooling2D,), None, "source"),
    # A sigmoid; TFLite's has one range, whatever comes in.
    Rule((L.Activation,), None, "observed"),
    # These move values without computing new ones.
    Rule(
        (L.InputLayer, L.MaxPooling2D, L.Dropout, L.Flatten, L.Reshape, L.ZeroPadding2D, L.Cropping2D), None, "none"
    ),
    Rule((ChannelShuffle, ChannelSlice), None, "none"),
)


def rule_for(layer: Layer) -> Rule:
    """The line of the table for `layer`. Raises `UserError` that names a layer without one."""
    odd = isinstance(layer, L.Conv2DTranspose)
    odd |= isinstance(layer, L.Activation) and layer.activation is not keras.activations.sigmoid
    for rule in RULES:
        if isinstance(layer, rule.layers) and not odd:
            return rule
    raise UserError(
        f"no rule to quantize layer {layer.name} ({type(layer).__name__}) to int8; "
        "export float32, or add a line to RULES in tfcompact/compress/quantization/rules.py"
    )


def rounds_for(reader: Layer, layer: Layer) -> bool:
    """Whether TFLite rounds the output of `layer` only once `reader`, its one reader, has worked on it."""
    if isinstance(reader, L.Concatenate):
        return not isinstance(layer, L.AveragePooling2D)
    return isinstance(reader, L.ReLU) and fuses_relu(layer)


def fuses_relu(layer: Layer) -> bool:
    """Whether TFLite makes one operator of `layer` and a ReLU that is its only reader."""
    return isinstance(layer, (L.Conv2D, L.DepthwiseConv2D, L.Dense, L.Add, ChannelShift))


def ignores_below_minus_3(reader: Layer) -> bool:
    """Whether `reader` is part of a lowered h-swish, or its gate, for which all inputs up to -3 are alike."""
    if isinstance(reader, ShiftedReLU6):
        return True
    sources = [layer_of(t) for t in reader.input] if isinstance(reader, L.Multiply) else []
    return any(
        isinstance(s, ShiftedReLU6) and layer_of(s.input) in [other for other in sources if other is not s]
        for s in sources
    )
