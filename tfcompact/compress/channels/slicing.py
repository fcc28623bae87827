"""A network without some of its channels: physically smaller, or of the same size with zeros in their place.

The two compute the same. The second is the proof of the first, and costs nothing to make from a compiled network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tfcompact.compress.channels.atoms import Channels, Ids, Site, has_own_channels, makes_channels
from tfcompact.frameworks import Inputs, Layer, Model, Tensor, keras
from tfcompact.models.layers import ChannelShift, ChannelSlice
from tfcompact.networks import rewrite
from tfcompact.networks.kinds import is_convolution

L = keras.layers


def smaller(model: Model, channels: Channels, removed: Iterable[int]) -> Model:
    """A copy of `model` without the channels of the classes `removed`. `model` is not changed.

    Raises `ValueError` where a layer would keep no channel, and for a class that is frozen.
    """
    gone = _checked(channels, removed)
    return _with(model, channels, lambda site: _sliced(site, gone))


def zeroed(model: Model, channels: Channels, removed: Iterable[int]) -> Model:
    """A copy of `model` of the same size in which the channels of the classes `removed` are zero wherever they pass.

    Kernels alone are not enough: a shift of batch normalization would leave a constant. Where a nonlinearity does not
    keep zero, h-sigmoid in a gate, what it multiplies is zero.
    """
    gone = _checked(channels, removed)
    return _with(
        model, channels, lambda site: ({}, _zeroed(site, ~np.isin(site.writes, gone), site.layer.get_weights()))
    )


def masks(channels: Channels, removed: Iterable[int]) -> dict[str, list[np.ndarray]]:
    """What the weights of each layer that has any are multiplied by in `zeroed`: ones, zeros where a channel went."""
    gone = _checked(channels, removed)
    found = {}
    for name, site in channels.sites.items():
        if site.layer.weights:
            ones = [np.ones(weight.shape, np.float32) for weight in site.layer.weights]
            found[name] = _zeroed(site, ~np.isin(site.writes, gone), ones)
    return found


def _with(model: Model, channels: Channels, part: Callable[[Site], tuple[dict[str, Any], list[np.ndarray]]]) -> Model:
    """A copy of `model` whose layers with channels of their own have other options and weights."""
    made: dict[int, Layer] = {}  # id of an old layer -> its copy, which may be used twice

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        if not has_own_channels(layer):
            return None
        if id(layer) in made:
            return made[id(layer)](x)
        # The weights are the network's own, also where its channels were found in another of its shape.
        options, weights = part(dataclasses.replace(channels.sites[layer.name], layer=layer))
        made[id(layer)] = copy = layer.__class__.from_config(layer.get_config() | options)
        out = copy(x)
        copy.set_weights(weights)
        return out

    return rewrite.rewrite(model, rule)


def kept(site: Site, gone: Ids) -> tuple[Ids, Ids]:
    """The places of the channels that a layer still reads and writes."""
    return np.flatnonzero(~np.isin(site.reads, gone)), np.flatnonzero(~np.isin(site.writes, gone))


def widths(channels: Channels) -> dict[str, int]:
    """How many channels each layer that makes new ones writes."""
    return {name: len(site.writes) for name, site in channels.sites.items() if makes_channels(site.layer)}


def _checked(channels: Channels, removed: Iterable[int]) -> Ids:
    gone = np.array(sorted(removed), np.int64)
    if stays := channels.frozen.intersection(gone.tolist()):
        raise ValueError(f"class {min(stays)} is what the network reads or writes, or passes a window of channels")
    for name, site in channels.sites.items():
        if makes_channels(site.layer) and np.isin(site.writes, gone).all():
            raise ValueError(f"layer {name} would keep no channel")
    return gone


def _sliced(site: Site, gone: Ids) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The options and the weights of a layer that reads and writes what is left."""
    layer, weights = site.layer, site.layer.get_weights()
    reads, writes = kept(site, gone)
    if isinstance(layer, ChannelSlice):
        before = np.flatnonzero(reads < layer.start)
        return {"start": len(before), "size": len(writes)}, []
    if isinstance(layer, ChannelShift):
        return {}, [weights[0][writes]]
    if isinstance(layer, L.Dense):
        kernel, *bias = weights
        return {"units": len(writes)}, [kernel[np.ix_(reads, writes)], *(b[writes] for b in bias)]
    if isinstance(layer, L.BatchNormalization):
        return {}, [vector[writes] for vector in weights]
    if not is_convolution(layer):
        return {}, weights
    kernel, *bias = weights
    rest = [b[writes] for b in bias]
    if not makes_channels(layer):  # depthwise: [kh, kw, in, multiplier]
        return {}, [kernel[:, :, reads], *rest]
    slots = reads[reads < len(site.reads) // layer.groups]  # the first group's, which are every group's
    return {"filters": len(writes)}, [kernel[:, :, slots][..., writes], *rest]


def _zeroed(site: Site, stays: np.ndarray, weights: list[np.ndarray]) -> list[np.ndarray]:
    """These weights of a layer, whose output is zero in all channels but those that stay."""
    layer = site.layer
    if isinstance(layer, L.BatchNormalization):
        *scaled, mean, variance = weights
        # Without a scale the mean is what has to go: the input is zero there.
        return [*(vector * stays for vector in scaled), mean * stays, variance]
    if is_convolution(layer) and not makes_channels(layer):
        kernel, *bias = weights
        return [kernel * stays.reshape(kernel.shape[2:]), *(b * stays for b in bias)]
    if makes_channels(layer) or isinstance(layer, ChannelShift):
        return [array * stays for array in weights]
    return weights
