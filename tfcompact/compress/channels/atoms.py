"""Which channels of a network can only go together.

Every channel that a layer makes is an *atom*. The network is run on arrays of atoms in the place of tensors: an
addition puts the atoms that it adds into one *class*, a concatenation joins arrays, a shuffle deals them out. A class
is kept or removed whole. So the coupled groups of any network come out of one walk, without a rule for a family.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfcompact.errors import UserError
from tfcompact.frameworks import Layer, Model, keras
from tfcompact.models.layers import (
    ChannelShift,
    ChannelShuffle,
    ChannelSlice,
    HSigmoid,
    HSwish,
    LocalResponseNorm,
    SamePadding,
    Scale,
    ShiftedReLU6,
)
from tfcompact.networks import rewrite
from tfcompact.networks.kinds import is_convolution, is_full_convolution

L = keras.layers
Ids = np.ndarray
"""Of each channel of a tensor its atom, and in a `Site` its class: `[c]` of int64."""


@dataclass(frozen=True)
class Site:
    """A layer with channels of its own: the classes of what it reads and of what it writes, `[c]` each."""

    layer: Layer
    reads: Ids
    writes: Ids


@dataclass(frozen=True)
class Group:
    """Classes that the same layers make, so that they compete: `producers` are these layers' names.

    `classes` are their numbers, `width` is how many channels a class has in the widest producer.
    """

    producers: tuple[str, ...]
    classes: tuple[int, ...]
    width: int


@dataclass(frozen=True)
class Channels:
    """The classes of a network's channels. `sites` are its layers by name, `frozen` the classes that stay.

    `groups` hold every class that may go, each in one group.
    """

    sites: dict[str, Site]
    frozen: frozenset[int]
    groups: tuple[Group, ...]


class _Union:
    """Sets of atoms that only grow together."""

    def __init__(self) -> None:
        self.parent: list[int] = []

    def new(self, count: int) -> Ids:
        first = len(self.parent)
        self.parent += range(first, first + count)
        return np.arange(first, first + count)

    def find(self, atom: int) -> int:
        while self.parent[atom] != atom:
            self.parent[atom] = atom = self.parent[self.parent[atom]]
        return atom

    def join(self, *arrays: Ids) -> None:
        """Puts the atoms at equal places into one class."""
        for atoms in zip(*(array.tolist() for array in arrays), strict=True):
            roots = {self.find(atom) for atom in atoms}
            for root in roots:
                self.parent[root] = min(roots)


def channels(model: Model) -> Channels:
    """The classes of the channels of a float network `[n, h, w, c] -> [n, classes]`, auxiliary heads and all.

    What a network reads and its outputs are frozen, and so is what passes a local response normalization, since its
    neighbours would be others. Raises `UserError` for a layer that nothing is known of.
    """
    union = _Union()
    found: dict[str, Site] = {}
    frozen: list[Ids] = []

    def step(layer: Layer, values: list[Ids]) -> Ids:
        if isinstance(layer, L.InputLayer):
            frozen.append(union.new(int(np.prod(layer.output_shape[0][-1:]))))
            return frozen[-1]
        out = _written(layer, values, union, found.get(layer.name))
        if isinstance(layer, LocalResponseNorm):
            frozen.append(out)
        reads = np.concatenate(values) if isinstance(layer, L.Concatenate) else values[0]
        if layer.name in found:  # used before: both uses have the same weights
            union.join(found[layer.name].reads, reads)
        else:
            found[layer.name] = Site(layer, reads, out)
        return out

    frozen += rewrite.interpreted(model, step)
    roots = np.array([union.find(atom) for atom in range(len(union.parent))])
    sites = {name: Site(site.layer, roots[site.reads], roots[site.writes]) for name, site in found.items()}
    stays = frozenset(int(root) for ids in frozen for root in roots[ids])
    return Channels(sites, stays, _groups(sites, stays))


def makes_channels(layer: Layer) -> bool:
    """Whether every channel that the layer writes is a new one: convolutions and dense layers, not depthwise ones."""
    return isinstance(layer, L.Dense) or is_full_convolution(layer)


def _written(layer: Layer, values: list[Ids], union: _Union, before: Site | None) -> Ids:
    """The atoms of the layer's output."""
    x = values[0]
    if makes_channels(layer):
        if before is not None:
            return before.writes
        out = union.new(int(layer.output_shape[-1]))
        if (groups := getattr(layer, "groups", 1)) > 1:  # each group gets as many channels as the others
            union.join(*x.reshape(groups, -1))
            union.join(*out.reshape(groups, -1))
        return out
    if is_convolution(layer):
        return np.repeat(x, layer.output_shape[-1] // len(x))
    if isinstance(layer, L.Concatenate):
        return np.concatenate(values)
    if isinstance(layer, (L.Add, L.Multiply)):
        union.join(*values)
        return x
    if isinstance(layer, ChannelShuffle):
        rows = x.reshape(layer.groups, -1)
        union.join(*rows)
        return rows.T.ravel()
    if isinstance(layer, ChannelSlice):
        return x[layer.start : layer.start + layer.size]
    if isinstance(layer, L.Flatten):
        return np.tile(x, int(np.prod(layer.input_shape[1:-1])))
    if isinstance(layer, _PASSED):
        return x
    raise UserError(
        f"nothing is known of the channels of {layer.name}, a {type(layer).__name__}; it cannot be pruned"
    )


_PASSED = (
    *(L.Activation, L.ReLU, L.Softmax, L.Dropout, L.BatchNormalization, L.ZeroPadding2D, L.Cropping2D),
    *(L.AveragePooling2D, L.MaxPooling2D, L.GlobalAveragePooling2D),
    *(HSigmoid, HSwish, ShiftedReLU6, Scale, ChannelShift, LocalResponseNorm, SamePadding),
)
"""Layers whose output has the channels of their input, in order."""


def _groups(sites: dict[str, Site], frozen: frozenset[int]) -> tuple[Group, ...]:
    """The classes that may go, by the layers that make them."""
    producers: dict[int, list[str]] = {}
    widths: dict[int, int] = {}
    for name, site in sites.items():
        if not makes_channels(site.layer):
            continue
        for root, count in zip(*np.unique(site.writes, return_counts=True), strict=True):
            producers.setdefault(int(root), []).append(name)
            widths[int(root)] = max(widths.get(int(root), 0), int(count))
    of: dict[tuple[str, ...], list[int]] = {}
    for root, names in producers.items():
        if root not in frozen:
            of.setdefault(tuple(names), []).append(root)
    return tuple(
        Group(names, tuple(sorted(roots)), max(widths[root] for root in roots)) for names, roots in of.items()
    )


def has_own_channels(layer: Layer) -> bool:
    """Whether the layer's weights, or its options, are of single channels."""
    return bool(layer.weights) or isinstance(layer, ChannelSlice)
