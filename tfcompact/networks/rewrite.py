"""Network graphs as values: rebuilt by a rule, listed layer by layer, counted.

`rewrite` is the primitive under everything that changes a network (quantization, lowering, pruning, …); no other
module walks Keras' nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from tfcompact.frameworks import Inputs, Layer, Model, Tensor, keras, tf

Rule = Callable[[Layer, Inputs], Tensor | None]
"""`rule(layer, x)` gives what stands in for `layer(x)`, or None to keep the layer."""


def rewrite(model: Model, rule: Rule, *, shape: tuple[int, ...] | None = None) -> Model:
    """A new model in which `rule` has replaced layers; the others are copied with their weights.

    `model` is not changed and shares nothing with the result. A layer used twice is copied once. Every replacement
    must keep the tensor's shape from where on the rest of the network was built for it. `shape` is another shape of
    the input, `[h, w, c]`, for networks whose weights do not depend on it.
    """
    new_of: dict[int, Tensor] = {}  # id of a tensor of the old model -> tensor of the new one
    copies: dict[int, Layer] = {}  # id of an old layer -> its copy

    for node in _nodes(model):
        layer = node.layer
        new: Tensor | None
        if isinstance(layer, keras.layers.InputLayer):
            source = node.outputs
            new = keras.layers.Input(shape or source.shape[1:], dtype=source.dtype, name=layer.name)
        else:
            args, kwargs = tf.nest.map_structure(
                lambda value: new_of.get(id(value), value), (node.call_args, node.call_kwargs)
            )
            new = rule(layer, args[0])
            if new is None:
                if id(layer) not in copies:
                    copies[id(layer)] = copy = layer.__class__.from_config(layer.get_config())
                    new = copy(*args, **kwargs)
                    copy.set_weights(layer.get_weights())
                else:
                    new = copies[id(layer)](*args, **kwargs)
        for old, fresh in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(new), strict=True):
            new_of[id(old)] = fresh

    inputs = [new_of[id(t)] for t in model.inputs]
    outputs = [new_of[id(t)] for t in model.outputs]
    return keras.Model(
        inputs[0] if len(inputs) == 1 else inputs,
        outputs[0] if len(outputs) == 1 else outputs,
        name=model.name,
    )


def copied(
    layer: Layer,
    x: Inputs,
    *,
    options: Mapping[str, object] | None = None,
    weights: Sequence[np.ndarray] | None = None,
) -> Tensor:
    """What a copy of `layer` gives for `x`: with other `options` of its config, or other `weights`, if given."""
    copy = layer.__class__.from_config(layer.get_config() | dict(options or {}))
    out = copy(x)
    copy.set_weights(layer.get_weights() if weights is None else weights)
    return out


def clone(model: Model) -> Model:
    """A copy with its own weights."""
    return rewrite(model, lambda layer, x: None)


def inference(model: Model) -> Model:
    """The network that is shipped: `model` up to its first output, without auxiliary heads. It shares the layers."""
    return model if len(model.outputs) == 1 else keras.Model(model.inputs, model.outputs[0], name=model.name)


class Call(NamedTuple):
    """A layer in its place: the names of the layers it reads from, and of those that read it."""

    layer: Layer
    sources: list[str]
    readers: list[str]


def calls(model: Model) -> Iterator[Call]:
    """Every layer of `model`, once, in topological order."""
    nodes = list(_nodes(model))
    maker = {id(t): node.layer.name for node in nodes for t in tf.nest.flatten(node.outputs)}
    readers: dict[str, list[str]] = {node.layer.name: [] for node in nodes}
    sources: dict[str, list[str]] = {node.layer.name: [] for node in nodes}
    for node in nodes:
        for t in tf.nest.flatten(node.keras_inputs):
            if id(t) in maker:
                sources[node.layer.name].append(maker[id(t)])
                readers[maker[id(t)]].append(node.layer.name)
    layers = {node.layer.name: node.layer for node in nodes}
    for name, layer in layers.items():
        yield Call(layer, sources[name], readers[name])


def calls_by_name(model: Model) -> dict[str, Call]:
    """The same, each under its layer's name."""
    return {call.layer.name: call for call in calls(model)}


def layer_of(x: Tensor) -> Layer:
    """The layer that gives the tensor `x` of a network that is being built."""
    layer: Layer = x._keras_history.layer  # type: ignore[attr-defined]
    return layer


def output_names(model: Model) -> set[str]:
    """The names of the layers whose outputs are the model's."""
    return {layer_of(t).name for t in model.outputs}


Value = TypeVar("Value")


def interpreted(model: Model, step: Callable[[Layer, list[Value]], Value]) -> list[Value]:
    """What the outputs of `model` are where a tensor is some other thing than numbers.

    `step(layer, values)` gives the value of a layer's output from those of its inputs, an input layer's from none. A
    layer that is used twice is asked twice. Every layer must have one output.
    """
    of: dict[int, Value] = {}  # id of a tensor -> its value
    for node in _nodes(model):
        value = step(node.layer, [of[id(t)] for t in tf.nest.flatten(node.keras_inputs)])
        for tensor in tf.nest.flatten(node.outputs):
            of[id(tensor)] = value
    return [of[id(t)] for t in model.outputs]


def tensors(model: Model, names: Sequence[str]) -> Model:
    """A model that gives the outputs of the layers called `names`, in that order, for the same input."""
    return keras.Model(model.inputs, [model.get_layer(name).output for name in names])


def listed(outputs: Inputs) -> list[Tensor]:
    """What a model gives, as a list where it has one output too."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


class Cost(NamedTuple):
    """Trainable and non-trainable parameters, and multiply-adds for one image."""

    trainable: int
    non_trainable: int
    macs: int


def cost(model: Model) -> Cost:
    """What `model` costs at its own input size: multiply-adds of convolutions and dense layers, all parameters."""
    return Cost(
        sum(int(np.prod(w.shape)) for w in model.trainable_weights),
        sum(int(np.prod(w.shape)) for w in model.non_trainable_weights),
        sum(macs(layer) for layer in model.layers),
    )


def macs(layer: Layer) -> int:
    """How many multiply-adds one layer takes for one image, if it is a convolution or a dense layer; else 0."""
    shape = layer.output_shape
    layer = getattr(layer, "layer", layer)  # inside a quantization wrapper
    if isinstance(layer, keras.layers.Dense):
        return int(np.prod(layer.kernel.shape)) * int(np.prod(shape[1:-1]))
    if isinstance(layer, keras.layers.SeparableConv2D):
        kernels = np.prod(layer.depthwise_kernel.shape) + np.prod(layer.pointwise_kernel.shape)
        return int(kernels) * int(np.prod(shape[1:3]))
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return int(np.prod(layer.depthwise_kernel.shape)) * int(np.prod(shape[1:3]))
    if isinstance(layer, keras.layers.Conv2D):  # a kernel [kh, kw, c_in/groups, c_out] holds a position's products
        return int(np.prod(layer.kernel.shape)) * int(np.prod(shape[1:3]))
    return 0


class _Node(Protocol):
    """A use of a layer, as Keras keeps it."""

    layer: Layer
    outputs: Inputs
    call_args: Sequence[Inputs]
    call_kwargs: Mapping[str, object]
    keras_inputs: Inputs


def _nodes(model: Model) -> Iterator[_Node]:
    """Every use of a layer in `model`, in topological order."""
    by_depth: dict[int, list[_Node]] = model._nodes_by_depth  # type: ignore[attr-defined]
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]
