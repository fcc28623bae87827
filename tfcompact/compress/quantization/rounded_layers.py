"""The layers of a quantization-aware network, as `quantizers.Wrapper` keeps them: what is rounded, and over what."""

from __future__ import annotations

from typing import cast

import numpy as np

from tfcompact.compress.quantization.quantizers import BiasQuantizer, Variables, Wrapped, Wrapper, learned_ends
from tfcompact.frameworks import Model, Tensor, Variable


def rounded_layers(qat: Model) -> list[Wrapped]:
    """The layers of `qat` that are wrapped."""
    return [layer for layer in qat.layers if isinstance(layer, Wrapper)]


def rounded_layer(qat: Model, name: str) -> Wrapped:
    """The wrapped layer of that name."""
    return cast("Wrapped", qat.get_layer(name))


def exact_weights(wrapped: Wrapped) -> list[Variable]:
    """The variables that are trained and rounded when used: a kernel, or a `ChannelShift`'s numbers, and a bias."""
    return [variable for variable, _, _ in wrapped._weight_vars]


def rounded_weights(wrapped: Wrapped) -> list[np.ndarray]:
    """The values of the same as the integer file has them."""
    return [quantizer(value, False, weights=found).numpy() for value, quantizer, found in wrapped._weight_vars]


def range_variables(wrapped: Wrapped) -> Variables:
    """The variables of the range of its output: its own, or those of the layer whose learned range it shares."""
    return wrapped._output_quantizers[0].follows or wrapped._output_quantizer_vars


def output_range(wrapped: Wrapped) -> tuple[float, float]:
    """The ends between which its output is rounded."""
    low, high = learned_ends(range_variables(wrapped))
    return float(low), float(high)


def set_output_range(wrapped: Wrapped, low: float | Tensor, high: float | Tensor) -> None:
    """Sets the ends between which its output is rounded, of a range that is not learned."""
    wrapped._output_quantizer_vars["min_var"].assign(low)
    wrapped._output_quantizer_vars["max_var"].assign(high)


def has_bias(wrapped: Wrapped) -> bool:
    """Whether it has a bias that is rounded."""
    return len(wrapped._weight_vars) > 1


def bias_variables(wrapped: Wrapped) -> Variables:
    """What the rounding of its bias depends on: `input_step`, the step of the layer's input, and the kernel."""
    return wrapped._weight_vars[1][2]


def share_range(wrapped: Wrapped, other: Wrapped) -> None:
    """Has the output of `wrapped` rounded over the range of `other`, as training moves it."""
    wrapped._output_quantizers[0].follows = other._output_quantizer_vars


def follow_input(wrapped: Wrapped, variables: Variables) -> None:
    """Has the bias of `wrapped` rounded for an input with the range of `variables`, as training moves it."""
    quantizer = wrapped._weight_vars[1][1]
    assert isinstance(quantizer, BiasQuantizer)
    quantizer.input_range = variables
