"""Published weights into our networks: from `tf_keras.applications`, and from torchvision's and timm's state dicts.

What is copied is checked by shape, and nothing is left over on either side: a network is filled whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfcompact.errors import UserError
from tfcompact.frameworks import Convolution, Inputs, Layer, Model, Pooling, Tensor, keras
from tfcompact.models.layers import SamePadding
from tfcompact.models.spec import KerasWeights, TorchWeights
from tfcompact.networks.kinds import is_convolution
from tfcompact.networks.rewrite import copied, layer_of, rewrite

HEADS = ("logits", "aux")
"""How the names of layers begin whose shape, or whose being there, depends on what is trained."""


def application(source: KerasWeights, px: int, classes: int = 1000, *, top: bool = True) -> Model:
    """The network of `tf_keras.applications` with random weights, logits out: `[n, px, px, 3] -> [n, classes]`.

    Without `top` it has no classifier and gives the features before it.
    """
    made = getattr(keras.applications, source.application)
    options = dict(source.options) | (
        {"classes": classes, "classifier_activation": None} if top else {"include_top": False}
    )
    return made(input_shape=(px, px, 3), weights=None, **options)


def copy_in_order(theirs: Model, ours: Model, *, head: bool = True) -> None:
    """Gives the layers of `ours` the weights of those of `theirs`, both in the order in which they were made.

    Without `head` those at the end of `ours` that `theirs` lacks are left as they are. A separable convolution of
    theirs stands for a depthwise and a 1x1 convolution of ours. Raises `UserError` where kinds or shapes differ, with
    nothing changed.
    """
    sources, targets = _units(theirs), [(layer, _kind(layer)) for layer in _in_order(ours)]
    if not head:
        targets = targets[: len(sources)]
    if [kind for _, kind in targets] != [kind for kind, _ in sources]:
        at = next(
            (i for i, (s, t) in enumerate(zip(sources, targets, strict=False)) if s[0] != t[1]),
            min(len(sources), len(targets)),
        )
        name = targets[at][0].name if at < len(targets) else "the end"
        raise UserError(f"{theirs.name} and {ours.name} are not the same network: they differ at {name}")
    for (layer, _), (_, arrays) in zip(targets, sources, strict=True):
        found, wanted = [a.shape for a in arrays], [tuple(w.shape) for w in layer.weights]
        if found != wanted:
            raise UserError(f"layer {layer.name} of {ours.name} takes weights of shapes {wanted}, not {found}")
    for (layer, _), (_, arrays) in zip(targets, sources, strict=True):
        layer.set_weights(arrays)


def turn_stem(model: Model) -> None:
    """Makes a network that was trained on BGR images take RGB: turns the channels of what sees the image."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel.shape[2] == 3 and layer.groups == 1:
            kernel, *rest = layer.get_weights()
            layer.set_weights([kernel[:, :, ::-1], *rest])
            return


def from_torch(
    model: Model, state: Mapping[str, np.ndarray], source: TorchWeights, *, keep_head: bool = True
) -> Model:
    """A copy of `model` as PyTorch computes it: padded alike on both sides, its epsilon, the arrays of `state`.

    Auxiliary classifiers that `state` lacks keep their random weights, and without `keep_head` so does everything
    whose shape depends on the classes. Raises `UserError` for a key that is missing, or of another shape.
    """
    network = as_torch(model, source)
    for layer in network.layers:
        if not layer.weights:
            continue
        module = source.module(layer.name)
        is_head = layer.name.startswith(HEADS)
        if is_head and (not keep_head or (layer.name.startswith("aux") and f"{module}.weight" not in state)):
            continue
        layer.set_weights(_from_module(layer, module, state, bgr=source.bgr))
    return network


def missing_key(model: Model, state: Mapping[str, np.ndarray], source: TorchWeights) -> str | None:
    """The first key before the head that `state` would need to be one of `source`; None where it has all."""
    body = (layer for layer in model.layers if layer.weights and not layer.name.startswith(HEADS))
    wanted = (f"{source.module(layer.name)}.weight" for layer in body)
    return next((key for key in wanted if key not in state), None)


def classes(state: Mapping[str, np.ndarray], source: TorchWeights) -> int | None:
    """The number of classes of the network that `state` belongs to; None where it has no head."""
    head = state.get(f"{source.module('logits')}.weight")
    return None if head is None else len(head)


def as_torch(model: Model, source: TorchWeights) -> Model:
    """A copy of `model` that pads as PyTorch does and has the batch normalization of `source`, with scale."""

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        if isinstance(layer, keras.layers.BatchNormalization):
            options = layer.get_config() | {"epsilon": source.epsilon, "scale": True}
            return layer.__class__.from_config(options)(x)
        if isinstance(layer, keras.layers.MaxPooling2D):
            return _maximum(layer, x, source)
        if isinstance(layer, keras.layers.AveragePooling2D):
            return _average(layer, x, source)
        if is_convolution(layer) and source.symmetric and _pads_otherwise(layer.kernel_size, layer, x):
            return _padded(layer, layer.kernel_size, x)
        return None

    return rewrite(model, rule)


def _maximum(layer: Pooling, x: Tensor, source: TorchWeights) -> Tensor | None:
    """The maxima of PyTorch's windows; None where they are those of `layer`."""
    before = layer_of(x)
    if isinstance(before, SamePadding):
        # Its zeros are a peculiarity of keras.applications: elsewhere nothing beyond the border is a maximum.
        return copied(layer, before.input, options={"padding": "same"})
    if source.ceil and layer.strides != (1, 1):
        # Where windows do not fit, SAME pads the end alone, as ceil_mode does; where they do, it pads both ends.
        fits = all((n - k) % s == 0 for n, k, s in zip(x.shape[1:3], layer.pool_size, layer.strides, strict=True))
        return copied(layer, x, options={"padding": "valid" if fits else "same"})
    if not (source.symmetric and _pads_otherwise(layer.pool_size, layer, x)):
        return None
    if not isinstance(before, keras.layers.ReLU):
        # Padding with zeros would beat negative values: all maxima, then those PyTorch takes.
        every = keras.layers.MaxPooling2D(layer.pool_size, 1, "same", name=f"{layer.name}_all")(x)
        return keras.layers.MaxPooling2D(1, layer.strides, "same", name=layer.name)(every)
    return _padded(layer, layer.pool_size, x)


def _average(layer: Pooling, x: Tensor, source: TorchWeights) -> Tensor | None:
    """The averages of PyTorch's windows; None where they are those of `layer`.

    Unless PyTorch counts the padding, both leave it out on all sides.
    """
    if not (source.counts_padding and layer.strides == (1, 1) and layer.padding == "same"):
        return None
    padded = keras.layers.ZeroPadding2D([k // 2 for k in layer.pool_size], name=f"{layer.name}_pad")(x)
    return copied(layer, padded, options={"padding": "valid"})


def _pads_otherwise(window: tuple[int, int], layer: Convolution | Pooling, x: Tensor) -> bool:
    """Whether the windows of `layer` lie elsewhere than in PyTorch, which pads both sides alike."""
    if layer.padding != "same" or layer.strides == (1, 1) or window == (1, 1):
        return False
    # Where this holds for all, SAME, too, pads both sides alike.
    return not all(k % 2 and n % s == 1 for k, n, s in zip(window, x.shape[1:3], layer.strides, strict=True))


def _padded(layer: Layer, window: tuple[int, int], x: Tensor) -> Tensor:
    """What `layer` gives with zeros on both sides alike."""
    padded = keras.layers.ZeroPadding2D([(k - 1) // 2 for k in window], name=f"{layer.name}_pad")(x)
    return copied(layer, padded, options={"padding": "valid"})


def _from_module(layer: Layer, module: str, state: Mapping[str, np.ndarray], *, bgr: bool) -> list[np.ndarray]:
    """The arrays of one torch module, in the order and layout of the Keras layer's weights."""

    def take(name: str) -> np.ndarray:
        key = f"{module}.{name}"
        if key not in state:
            raise UserError(f"layer {layer.name} needs {key!r}, which the file does not have")
        return np.asarray(state[key])

    if isinstance(layer, keras.layers.BatchNormalization):
        return [take(name) for name in ("weight", "bias", "running_mean", "running_var")]
    kernel = take("weight")
    wanted = tuple(layer.weights[0].shape)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        kernel = kernel.transpose(2, 3, 0, 1)  # [c, 1, h, w]
        kernel = kernel.reshape(wanted) if kernel.size == np.prod(wanted) else kernel
    elif kernel.ndim == 4:
        kernel = kernel.transpose(2, 3, 1, 0)  # [out, in, h, w]
        kernel = kernel[0, 0] if len(wanted) == 2 else kernel
    else:
        kernel = kernel.T  # [out, in]
        kernel = kernel[np.newaxis, np.newaxis] if len(wanted) == 4 else kernel
    if bgr and kernel.ndim == 4 and kernel.shape[2] == 3:  # the stem, which alone sees colours
        kernel = kernel[:, :, ::-1]
    arrays = [kernel, take("bias")] if len(layer.weights) > 1 else [kernel]
    for array, weight in zip(arrays, layer.weights, strict=True):
        if array.shape != tuple(weight.shape):
            raise UserError(f"layer {layer.name} takes {tuple(weight.shape)}, but {module} has {array.shape}")
    return arrays


def _kind(layer: Layer) -> str:
    """What a layer with weights is, whatever its class is called."""
    for kind in ("BatchNormalization", "DepthwiseConv2D", "Conv2D", "Dense"):
        if isinstance(layer, getattr(keras.layers, kind)):
            return kind
    return type(layer).__name__


def _units(model: Model) -> list[tuple[str, list[np.ndarray]]]:
    """Kind and arrays of every layer with weights, a separable convolution as two."""
    units: list[tuple[str, list[np.ndarray]]] = []
    for layer in _in_order(model):
        arrays = layer.get_weights()
        if isinstance(layer, keras.layers.SeparableConv2D):
            units += [("DepthwiseConv2D", arrays[:1]), ("Conv2D", arrays[1:])]
        elif not isinstance(layer, keras.layers.Normalization):
            units.append((_kind(layer), arrays))
    return units


def _in_order(model: Model) -> list[Layer]:
    """The layers with weights, in the order in which these were made: variables count up."""
    layers = [layer for layer in model.layers if layer.weights]
    return sorted(layers, key=_number)


def _number(layer: Layer) -> int:
    """The place of its first variable among all that were ever made."""
    name: str = layer.weights[0]._unique_id  # type: ignore[attr-defined]
    return int(name.rpartition("_")[2])
