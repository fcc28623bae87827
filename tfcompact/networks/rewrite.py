"""Network graphs as values: rebuild one by a rule, count what it costs.

`rewrite` is the primitive under every stage that changes a network (quantization, lowering, pruning, …);
no other module walks Keras nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tfcompact.frameworks import keras, tf

Rule = Callable[[Any, Any], Any]
"""`rule(layer, x)` gives what stands in for `layer(x)`, or None to keep the layer. `x` is a tensor, or a list of
tensors for a layer of several inputs."""


def rewrite(model: Any, rule: Rule, *, name: str | None = None, shape: tuple[int, ...] | None = None) -> Any:
    """A new model in which `rule` has replaced layers; the others are copied with their weights.

    `model` is not changed and shares nothing with the result. A layer used twice is copied once. Every replacement
    must keep the tensor's shape from where on the rest of the network was built for it. `shape` is another shape of
    the input, `[h, w, c]`, for networks whose weights do not depend on it.
    """
    new_of: dict[int, Any] = {}  # id of a tensor of the old model -> tensor of the new one
    copies: dict[int, Any] = {}  # id of an old layer -> its copy

    for layer, node in _nodes(model):
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
        name=name or model.name,
    )


def clone(model: Any) -> Any:
    """A copy with its own weights."""
    return rewrite(model, lambda layer, x: None)


def inference(model: Any) -> Any:
    """The network that is shipped: `model` up to its first output, without auxiliary heads. Shares its layers."""
    return model if len(model.outputs) == 1 else keras.Model(model.inputs, model.outputs[0], name=model.name)


def calls(model: Any) -> Iterator[tuple[Any, list[str], list[str]]]:
    """Every layer in topological order, with the names of the layers it reads from and of those that read it."""
    rows = [(layer, node) for layer, node in _nodes(model)]
    maker = {id(t): layer.name for layer, node in rows for t in tf.nest.flatten(node.outputs)}
    readers: dict[str, list[str]] = {layer.name: [] for layer, _ in rows}
    sources: dict[str, list[str]] = {layer.name: [] for layer, _ in rows}
    for layer, node in rows:
        for t in tf.nest.flatten(node.keras_inputs):
            if id(t) in maker:
                sources[layer.name].append(maker[id(t)])
                readers[maker[id(t)]].append(layer.name)
    seen: set[str] = set()
    for layer, _ in rows:
        if layer.name not in seen:
            seen.add(layer.name)
            yield layer, sources[layer.name], readers[layer.name]


def output_names(model: Any) -> set[str]:
    """The names of the layers whose outputs are the model's."""
    return {t._keras_history.layer.name for t in model.outputs}


def tensors(model: Any, names: list[str]) -> Any:
    """A model that gives the outputs of the layers called `names`, in that order, for the same input."""
    return keras.Model(model.inputs, [model.get_layer(name).output for name in names])


def listed(outputs: Any) -> list[Any]:
    """What a model gives, as a list where it has one output too."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


class Cost(NamedTuple):
    """Trainable and non-trainable parameters, and multiply-adds for one image."""

    trainable: int
    non_trainable: int
    macs: int


def cost(model: Any) -> Cost:
    """What `model` costs. MACs are those of convolutions and dense layers at the model's own input size."""
    return Cost(
        sum(int(np.prod(w.shape)) for w in model.trainable_weights),
        sum(int(np.prod(w.shape)) for w in model.non_trainable_weights),
        sum(macs(layer) for layer in model.layers),
    )


def macs(layer: Any) -> int:
    """Multiply-adds of one layer for one image: convolutions of every kind and dense layers; 0 for the rest."""
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


def _nodes(model: Any) -> Iterator[tuple[Any, Any]]:
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            yield node.layer, node
