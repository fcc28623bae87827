"""What every family is made of: convolution + batch normalization + activation, squeeze-and-excite, the classifier.

Names are deterministic: `<name>` for the convolution, `<name>_bn`, `<name>_<activation>`.
"""

from __future__ import annotations

from typing import Any

from tfcompact.backend import keras

BN_EPSILON = 1e-3  # TF-slim and keras.applications, for every family here
# The published momenta (0.99 to 0.9997) belong to runs of 100,000 steps and more; `fit` re-estimates the statistics.
BN_MOMENTUM = 0.99


def round_channels(channels: float, divisor: int = 8) -> int:
    """`channels` rounded to a multiple of `divisor`, never below 90 % of it (TF-slim, mobilenet/conv_blocks.py)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def conv(
    x,
    filters: int,
    kernel: int | tuple[int, int] = 1,
    stride: int = 1,
    act: str | None = "relu6",
    *,
    padding: str = "same",
    gamma: bool = True,
    name: str,
):
    """Convolution, batch normalization, activation: `[n, h, w, c] -> [n, h/stride, w/stride, filters]`."""
    x = keras.layers.Conv2D(filters, kernel, stride, padding, use_bias=False, kernel_initializer=_he(), name=name)(x)
    return activation(_bn(x, gamma, name), act, name)


def depthwise(x, kernel: int, stride: int = 1, act: str | None = "relu6", *, name: str):
    """Depthwise convolution, batch normalization, activation: `[n, h, w, c] -> [n, h/stride, w/stride, c]`."""
    x = keras.layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, depthwise_initializer=_he(), name=name)(
        x
    )
    return activation(_bn(x, True, name), act, name)


def activation(x, act: str | None, name: str):
    """`act` applied to `x`: relu, relu6, h_swish, h_sigmoid, or None for none."""
    if act is None:
        return x
    if act == "relu":
        return keras.layers.ReLU(name=f"{name}_relu")(x)
    if act == "relu6":
        return keras.layers.ReLU(6.0, name=f"{name}_relu6")(x)
    from tfcompact.models import layers

    return {"h_swish": layers.HSwish, "h_sigmoid": layers.HSigmoid}[act](name=f"{name}_{act}")(x)


def biased(x, filters: int, *, name: str):
    """A 1x1 convolution with bias and without batch normalization: `[n, h, w, c] -> [n, h, w, filters]`."""
    return keras.layers.Conv2D(filters, 1, kernel_initializer=_he(), name=name)(x)


def squeeze_excite(x, squeezed: int, *, gate: str, name: str):
    """Each channel of `x` `[n, h, w, c]` weighted by a gate computed from all channels' means (arXiv:1709.01507)."""
    s = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)  # [n, 1, 1, c]
    s = activation(biased(s, squeezed, name=f"{name}_reduce"), "relu", f"{name}_reduce")
    s = activation(biased(s, x.shape[-1], name=f"{name}_expand"), gate, f"{name}_expand")
    return keras.layers.Multiply(name=f"{name}_excite")([x, s])


def classifier(x, classes: int, *, dropout: float):
    """Mean over positions, dropout, logits: `[n, h, w, c] -> [n, classes]`."""
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return logits(x, classes, dropout=dropout)


def logits(x, classes: int, *, dropout: float, name: str = "logits"):
    """Dropout and a dense layer: `[n, c] -> [n, classes]`; of a map `[n, 1, 1, c]` a 1x1 convolution, flattened.

    The first logits are nearly equal, so training begins at the loss of not knowing.
    """
    x = drop(x, dropout, name=f"{name}_dropout") if dropout else x
    small = keras.initializers.RandomNormal(0, 0.01)
    if len(x.shape) == 2:
        return keras.layers.Dense(classes, kernel_initializer=small, name=name)(x)
    x = keras.layers.Conv2D(classes, 1, kernel_initializer=small, name=name)(x)
    return keras.layers.Flatten(name=f"{name}_flatten")(x)


def drop(x, rate: float, *, name: str):
    """`x` with a share `rate` of its values set to 0 in training, from a generator whose state `fit` can set."""
    return keras.layers.Dropout(rate, rng_type="stateful", name=name)(x)


def _bn(x, gamma: bool, name: str):
    return keras.layers.BatchNormalization(scale=gamma, epsilon=BN_EPSILON, momentum=BN_MOMENTUM, name=f"{name}_bn")(
        x
    )


def _he() -> Any:
    """He et al. 2015, arXiv:1502.01852, by fan-out; a new one for each layer, since an instance repeats its draw."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")
