"""The weights of a member: how they begin, and how they are taken out into a network of its own."""

from __future__ import annotations

import numpy as np

from tfcompact.frameworks import Model
from tfcompact.models.architecture import Architecture, build
from tfcompact.supernet.masked_layers import he
from tfcompact.supernet.masked_network import MaskedNetwork, switches_of

LOGITS_DEVIATION = 0.01  # as in `models.blocks.logits`


def become(network: MaskedNetwork, architecture: Architecture) -> None:
    """Makes the network compute what the member does. Raises `UserError` where it is no member."""
    network.switches.set(switches_of(network.space, architecture))


def start(network: MaskedNetwork, architecture: Architecture | None, rng: np.random.Generator) -> None:
    """Gives the network random weights, as large as the member's own would be; the widest member's without one."""
    model = None if architecture is None else build(architecture)
    fans = {} if model is None else {name: shape for name, (_, shape) in _places(model, architecture).items()}
    for name, variable in network.variables.items():
        shape = tuple(variable.shape)
        if len(shape) == 1:
            variable.assign(np.zeros(shape, np.float32))
        elif name == "logits":
            variable.assign(rng.normal(0, LOGITS_DEVIATION, shape).astype(np.float32))
        else:
            height, width, _, out = fans.get(name, shape)
            variable.assign(he(rng, shape, height * width * out))
    for norm in network.norms.values():
        norm.gamma.assign(np.ones(norm.gamma.shape, np.float32))
        norm.beta.assign(np.zeros(norm.beta.shape, np.float32))


def taken_out(network: MaskedNetwork, architecture: Architecture, name: str = "member") -> Model:
    """A Keras network of the architecture with the weights that it has in the masked one."""
    model = build(architecture, name)
    for layer_name, (own, _) in _places(model, architecture).items():
        layer = model.get_layer(own)
        kernel, *rest = layer.get_weights()
        values = network.variables[layer_name].numpy()
        shape = kernel.shape if kernel.ndim == 4 else (1, 1, *kernel.shape)
        found = [_part(values, shape).reshape(kernel.shape)]
        if rest:
            found.append(network.variables[f"{layer_name}/bias"].numpy()[: len(rest[0])])
        layer.set_weights(found)
    for layer_name, norm in network.norms.items():
        if _has(model, layer_name):
            layer = model.get_layer(layer_name)
            count = layer.weights[0].shape[0]
            layer.set_weights([v.numpy()[:count] for v in (norm.gamma, norm.beta, norm.mean, norm.variance)])
    return model


def _part(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The middle of the kernel, of the first channels."""
    start = (values.shape[0] - shape[0]) // 2
    rows = slice(start, start + shape[0])
    return values[rows, rows, : shape[2], : shape[3]]


def _places(model: Model, architecture: Architecture | None) -> dict[str, tuple[str, tuple[int, ...]]]:
    """By the name of a weight of the masked network, the layer of the member's own, and the shape of its kernel."""
    assert architecture is not None
    found = {}
    for layer in model.layers:
        if layer.weights and len(layer.weights[0].shape) > 1:
            shape = tuple(layer.weights[0].shape)
            name = _masked_name(layer.name, architecture)
            found[name] = (layer.name, shape if len(shape) == 4 else (1, 1, *shape))
    return found


def _masked_name(name: str, architecture: Architecture) -> str:
    """The masked network's name of a layer of the member's own."""
    if not name.startswith("block") or "_se_" not in name:
        return name
    block, _, part = name.rpartition("_se_")
    row = architecture.rows[int(block.removeprefix("block").split("_")[0])]
    way = f"{block}_conv" if row.op == "conv" else block
    return f"{way}_se_input_{part}" if row.squeeze == "input" else f"{way}_se_{part}"


def _has(model: Model, name: str) -> bool:
    return any(layer.name == name for layer in model.layers)
