"""What every family is made of: convolution + batch normalization + activation, squeeze-and-excite, the classifier.

Names are deterministic: `<name>` for the convolution, `<name>_bn`, `<name>_<activation>`.
"""

from __future__ import annotations

from collections.abc import Callable

from tfcompact.frameworks import Initializer, Layer, Tensor, keras

BN_EPSILON = 1e-3  # TF-slim and keras.applications, for every family here
# The published momenta (0.99 to 0.9997) belong to runs of 100,000 steps and more; `fit` re-estimates the statistics.
BN_MOMENTUM = 0.99


def round_channels(channels: float) -> int:
    """`channels` rounded to a multiple of 8, never to less than 90 % (TF-slim, mobilenet/conv_blocks.py)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def conv(
    x: Tensor,
    filters: int,
    kernel: int | tuple[int, int] = 1,
    stride: int = 1,
    act: str | None = "relu6",
    *,
    padding: str = "same",
    groups: int = 1,
    bias: bool = False,
    gamma: bool = True,
    epsilon: float = BN_EPSILON,
    name: str,
) -> Tensor:
    """Convolution, batch normalization, activation: `[n, h, w, c] -> [n, h/stride, w/stride, filters]`."""
    x = keras.layers.Conv2D(
        filters, kernel, stride, padding, groups=groups, use_bias=bias, kernel_initializer=_he(), name=name
    )(x)
    return activation(norm(x, gamma=gamma, epsilon=epsilon, name=f"{name}_bn"), act, name)


def depthwise(x: Tensor, kernel: int, stride: int = 1, act: str | None = "relu6", *, name: str) -> Tensor:
    """Depthwise convolution, batch normalization, activation: `[n, h, w, c] -> [n, h/stride, w/stride, c]`."""
    return activation(norm(filtered(x, kernel, stride, name=name), name=f"{name}_bn"), act, name)


def filtered(x: Tensor, kernel: int, stride: int = 1, *, multiplier: int = 1, name: str) -> Tensor:
    """A depthwise convolution and nothing else: `[n, h, w, c] -> [n, h/stride, w/stride, c * multiplier]`."""
    return keras.layers.DepthwiseConv2D(
        kernel, stride, "same", multiplier, use_bias=False, depthwise_initializer=_he(), name=name
    )(x)


def separable(
    x: Tensor,
    filters: int,
    kernel: int,
    stride: int = 1,
    *,
    epsilon: float = BN_EPSILON,
    name: str,
) -> Tensor:
    """Depthwise and 1x1 convolution with nothing between, then batch normalization (arXiv:1610.02357, section 3).

    `[n, h, w, c] -> [n, h/stride, w/stride, filters]`. Two layers instead of Keras' one, so that both kernels can be
    quantized per channel.
    """
    x = filtered(x, kernel, stride, name=f"{name}_depthwise")
    return conv(x, filters, act=None, epsilon=epsilon, name=name)


def norm(x: Tensor, *, gamma: bool = True, epsilon: float = BN_EPSILON, name: str) -> Tensor:
    """Batch normalization (arXiv:1502.03167), with or without its scale; shape kept."""
    from tfcompact.models.whole_batch import layers_in_scope

    return layers_in_scope()["BatchNormalization"](scale=gamma, epsilon=epsilon, momentum=BN_MOMENTUM, name=name)(x)


def activation(x: Tensor, act: str | None, name: str) -> Tensor:
    """`act` applied to `x`: relu, relu6, swish, sigmoid, h_swish, h_sigmoid, or None for none."""
    if act is None:
        return x
    if act in ("relu", "relu6"):
        return keras.layers.ReLU(6.0 if act == "relu6" else None, name=f"{name}_{act}")(x)
    if act in ("swish", "sigmoid"):
        return keras.layers.Activation(act, name=f"{name}_{act}")(x)
    from tfcompact.models.layers import HSigmoid, HSwish

    gates: dict[str, Callable[..., Layer]] = {"h_swish": HSwish, "h_sigmoid": HSigmoid}
    return gates[act](name=f"{name}_{act}")(x)


def biased(
    x: Tensor,
    filters: int,
    kernel: int | tuple[int, int] = 1,
    stride: int = 1,
    act: str | None = None,
    *,
    padding: str = "same",
    fan: str = "fan_out",
    name: str,
) -> Tensor:
    """A convolution with bias and without batch normalization: `[n, h, w, c] -> [n, h/stride, w/stride, filters]`.

    In a deep network without any, `fan="fan_in"` keeps the signal's size from layer to layer.
    """
    x = keras.layers.Conv2D(filters, kernel, stride, padding, kernel_initializer=_he(fan), name=name)(x)
    return activation(x, act, name)


def bare(x: Tensor, filters: int, kernel: int = 1, stride: int = 1, *, name: str) -> Tensor:
    """A convolution and nothing else: `[n, h, w, c] -> [n, h/stride, w/stride, filters]`."""
    conv = keras.layers.Conv2D(filters, kernel, stride, "same", use_bias=False, kernel_initializer=_he(), name=name)
    return conv(x)


def squeeze_excite(x: Tensor, squeezed: int, *, gate: str, act: str = "relu", name: str) -> Tensor:
    """Each channel of `x` `[n, h, w, c]` weighted by a gate computed from all channels' means (arXiv:1709.01507)."""
    s = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)  # [n, 1, 1, c]
    s = biased(s, squeezed, act=act, name=f"{name}_reduce")
    s = biased(s, x.shape[-1], act=gate, name=f"{name}_expand")
    return keras.layers.Multiply(name=f"{name}_excite")([x, s])


def classifier(x: Tensor, classes: int, *, dropout: float) -> Tensor:
    """Mean over positions, dropout, logits: `[n, h, w, c] -> [n, classes]`."""
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return logits(x, classes, dropout=dropout)


def logits(x: Tensor, classes: int, *, dropout: float, name: str = "logits") -> Tensor:
    """Dropout and a dense layer: `[n, c] -> [n, classes]`; of a map `[n, 1, 1, c]` a 1x1 convolution, flattened.

    The first logits are nearly equal, so training begins at the loss of not knowing.
    """
    x = drop(x, dropout, name=f"{name}_dropout") if dropout else x
    small = keras.initializers.RandomNormal(0, 0.01)
    if len(x.shape) == 2:
        return keras.layers.Dense(classes, kernel_initializer=small, name=name)(x)
    x = keras.layers.Conv2D(classes, 1, kernel_initializer=small, name=name)(x)
    return keras.layers.Flatten(name=f"{name}_flatten")(x)


def drop(x: Tensor, rate: float, *, whole: bool = False, name: str) -> Tensor:
    """`x` with a share `rate` of its values set to 0 in training, from a generator whose state `fit` can set.

    With `whole` it is all of an image's values or none: a branch that is left out (stochastic depth,
    arXiv:1603.09382; drop path, arXiv:1605.07648). What stays is divided by `1 - rate`.
    """
    shape = (None,) + (1,) * (len(x.shape) - 1) if whole else None
    from tfcompact.models.whole_batch import layers_in_scope

    return layers_in_scope()["Dropout"](rate, noise_shape=shape, rng_type="stateful", name=name)(x)


def _he(fan: str = "fan_out") -> Initializer:
    """The start of He et al. 2015, arXiv:1502.01852; a new one for each layer, since an instance repeats its draw."""
    return keras.initializers.VarianceScaling(2.0, fan, "truncated_normal")
