"""What kind of layer a layer is, where `isinstance` alone does not say it."""

from __future__ import annotations

from typing import TypeGuard

from tfcompact.frameworks import Convolution, Layer, keras


def is_linear(layer: Layer) -> bool:
    """Whether it is a layer that may have an activation of its own, and has none."""
    return getattr(layer, "activation", None) is keras.activations.linear


def is_convolution(layer: Layer) -> TypeGuard[Convolution]:
    """Whether it is a convolution, depthwise or not, whose kernel is `[kh, kw, in, out or multiplier]`."""
    # Those that Keras derives from Conv2D keep their kernels in other shapes.
    odd = (keras.layers.SeparableConv2D, keras.layers.Conv2DTranspose)
    return isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)) and not isinstance(layer, odd)


def is_full_convolution(layer: Layer) -> TypeGuard[Convolution]:
    """Whether it is a convolution that sums over channels, all of them or those of a group; not a depthwise one."""
    return type(layer) is keras.layers.Conv2D
