"""Networks as operators with their costs: a Keras model in, rows out.

An operator is what a device does in one step: a layer together with what is applied to its result before that is
written, which is folded batch normalization, a factor, and the nonlinearity. Dropout and reshaping are no operators.
Of the nonlinearities TFLite fuses only ReLU and ReLU6; the others are counted here as if it fused them too, so that
networks compare by their structure.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from tfcompact.frameworks import Layer, Model, keras
from tfcompact.networks import rewrite
from tfcompact.networks.costs import INT8, Operator, Precision, Profile, blocks, peak


def profile(model: Model, precision: Precision = INT8) -> Profile:
    """The costs of the inference network of a Keras `model` `[n, px, px, c] -> [n, classes]` for one image."""
    model = rewrite.inference(model)
    steps = operators(model)
    parts, moment = blocks(steps, precision), peak(steps, precision)
    return Profile(model.name, model.input_shape[1], precision, steps, parts, moment)


def operators(model: Model) -> tuple[Operator, ...]:
    """The steps of `model` in the order in which Keras runs them, which is also that of the exported file."""
    steps: dict[str, Operator] = {}
    maker: dict[str, str] = {}  # layer -> the operator, or input, that writes what the layer gives
    forks = set()  # of those, the ones that more than the next layer reads
    ends = rewrite.output_names(model)
    for layer, sources, readers in rewrite.calls(model):
        host = steps.get(maker[sources[0]]) if sources else None
        if not sources:
            maker[layer.name] = layer.name
        elif isinstance(layer, _no_operator()):
            maker[layer.name] = maker[sources[0]]
        elif host and host.name not in forks and (joined := _fused(layer, host)):
            steps[host.name] = joined
            maker[layer.name] = host.name
        else:
            steps[layer.name] = _operator(layer, tuple(maker[name] for name in sources))
            maker[layer.name] = layer.name
        if len(readers) > 1 or layer.name in ends:
            forks.add(maker[layer.name])
    return tuple(steps.values())


def _operator(layer: Layer, reads: tuple[str, ...]) -> Operator:
    """The layer as an operator of its own, which reads what `reads` write."""
    shapes = layer.input_shape if isinstance(layer.input_shape, list) else [layer.input_shape]
    weights, biases = _stored(layer)
    size = getattr(layer, "kernel_size", None)
    return Operator(
        layer.name,
        kind_word(layer),
        reads,
        tuple(tuple(shape[1:]) for shape in shapes),
        tuple(layer.output_shape[1:]),
        params=layer.count_params(),
        macs=rewrite.macs(layer),
        weights=weights,
        biases=biases,
        kernel=size and tuple(size),
        stride=max(getattr(layer, "strides", (1,))),
        groups=shapes[0][-1] if isinstance(layer, keras.layers.DepthwiseConv2D) else getattr(layer, "groups", 1),
    )


def _stored(layer: Layer) -> tuple[int, int]:
    """How many values of weights and of biases an exported file keeps for `layer`."""
    if isinstance(layer, keras.layers.BatchNormalization):  # by itself: a factor and an addend for each channel
        channels = layer.input_shape[-1]
        return channels, channels
    biases = getattr(layer, "units", 0) or layer.output_shape[-1] if getattr(layer, "use_bias", False) else 0
    return layer.count_params() - biases, biases


def _fused(layer: Layer, host: Operator) -> Operator | None:
    """`host` with `layer` applied to its result before that is written; None where that cannot be."""
    from tfcompact.models.layers import Scale

    computes = host.kernel or host.kind in ("dense", "add", "mul", "bn")
    if not computes or host.nonlinearity:
        return None
    if isinstance(layer, keras.layers.BatchNormalization):
        if not host.weights or host.kind == "bn" or host.normalized:
            return None
        params = host.params + layer.count_params()
        return dataclasses.replace(host, params=params, biases=host.output[-1], normalized=True)
    if isinstance(layer, Scale):
        return host if host.weights else None
    name = _nonlinearity(layer)
    return dataclasses.replace(host, nonlinearity=name) if name else None


def kind_word(layer: Layer) -> str:
    """A word or two for what `layer` does, as tables show it."""
    layers = keras.layers
    if isinstance(layer, layers.DepthwiseConv2D):
        return f"dw{_by(layer.kernel_size)}"
    if isinstance(layer, layers.Conv2D):
        return _by(layer.kernel_size) + (f"/{layer.groups}" if layer.groups > 1 else "")
    if isinstance(layer, (layers.MaxPooling2D, layers.AveragePooling2D)):
        return f"{'max' if isinstance(layer, layers.MaxPooling2D) else 'avg'}{_by(layer.pool_size)}"
    name = type(layer).__name__
    return _nonlinearity(layer) or _WORDS.get(name) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


_WORDS = {
    "BatchNormalization": "bn",
    "ChannelShuffle": "shuffle",
    "ChannelSlice": "slice",
    "Concatenate": "concat",
    "Cropping2D": "crop",
    "GlobalAveragePooling2D": "mean",
    "LocalResponseNorm": "lrn",
    "Multiply": "mul",
    "SamePadding": "pad",
    "ZeroPadding2D": "pad",
}


def _nonlinearity(layer: Layer) -> str | None:
    """The function that the layer is, by its short name; None where it is something else."""
    from tfcompact.models.layers import HSigmoid, HSwish

    if isinstance(layer, keras.layers.ReLU):
        return "relu" if layer.max_value is None else f"relu{layer.max_value:g}"
    if isinstance(layer, keras.layers.Activation):
        return layer.activation.__name__
    return {HSwish: "h_swish", HSigmoid: "h_sigmoid"}.get(type(layer))


def _no_operator() -> tuple[type, ...]:
    """Layers that compute nothing: they pass on the tensor they get."""
    return (keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)


def _by(size: Sequence[int]) -> str:
    """A size as text, `3x3`."""
    return "x".join(map(str, size))
