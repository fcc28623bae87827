"""Squeeze-and-excitation for any network, as a rewrite (Hu et al. 2017, arXiv:1709.01507).

    model = with_squeeze_excite(models.build("inception_v3"))

The gates are placed as in the paper's Figures 2 and 3. Where a network has residual additions, one stands at the end
of each branch, before its drop path and before it is added to the shortcut; otherwise one stands behind each
concatenation that ends a block; and in a plain chain, MobileNetV1's, one behind the last nonlinearity of each block.

The network so made computes what it did before, to the bit: the last convolution of each gate begins as zero, so that
every gate is sigmoid(0) = 1/2, and what it multiplies is doubled. Where that is batch normalization's output, its
scale and shift are, and the network is the one that the paper draws; elsewhere a `Scale` layer doubles.
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

import numpy as np

from tfcompact.errors import UserError
from tfcompact.frameworks import Inputs, Layer, Model, Tensor, keras
from tfcompact.models.blocks import squeeze_excite
from tfcompact.models.layers import Scale
from tfcompact.networks.costs import block_of
from tfcompact.networks.rewrite import calls, copied, rewrite

L = keras.layers


class Row(NamedTuple):
    """A layer, the names of those it reads and of those that read it.

    `depth` counts the layers with weights on the longest way to its output.
    """

    layer: Layer
    sources: list[str]
    readers: list[str]
    depth: int


def with_squeeze_excite(model: Model, reduction: int = 16) -> Model:
    """A copy of `model` in which a gate weighs the channels of each block; until it is trained it computes the same.

    A gate on c channels has two 1x1 convolutions with bias, to c / `reduction` channels and back. `model`, trained or
    fresh, is not changed. Raises `UserError` for a reduction below 1, and where there is no block to put a gate at.
    """
    if reduction < 1:
        raise UserError(f"reduction must be at least 1, not {reduction}; the published one is 16")
    rows = _rows(model)
    places = _branch_ends(rows) or _block_ends(rows) or _plain_ends(rows)
    if not places:
        raise UserError(f"{model.name} has no block for a gate to stand behind")
    gates = {place: _unused(f"{block}_se", rows) for place, block in places.items()}

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        if layer.name not in gates:
            return None
        if isinstance(layer, L.BatchNormalization) and layer.scale and layer.center:
            gamma, beta, *statistics = layer.get_weights()
            out = copied(layer, x, weights=[2 * gamma, 2 * beta, *statistics])
        else:
            out = Scale(2.0, name=f"{gates[layer.name]}_double")(copied(layer, x))
        squeezed = max(1, out.shape[-1] // reduction)
        return squeeze_excite(out, squeezed, gate="sigmoid", name=gates[layer.name])

    made = rewrite(model, rule)
    for name in gates.values():
        expand = made.get_layer(f"{name}_expand")
        expand.set_weights([np.zeros_like(array) for array in expand.get_weights()])
    return made


def _rows(model: Model) -> dict[str, Row]:
    """Every layer by its name, in topological order."""
    rows: dict[str, Row] = {}
    for layer, sources, readers in calls(model):
        before = max((rows[name].depth for name in sources if name in rows), default=0)
        rows[layer.name] = Row(layer, sources, readers, before + bool(layer.weights))
    return rows


def _branch_ends(rows: dict[str, Row]) -> dict[str, str]:
    """The last layer of each residual branch, and the name of its block.

    Of what an addition adds, the branch has most layers with weights behind it, and the shortcut is what the branch
    began with, or one convolution of it. Sums that are concatenated (NASNet's) are parts of a block. A branch that
    something else reads, too, has no end to gate.
    """
    ends: dict[str, str] = {}
    for name, row in rows.items():
        if not isinstance(row.layer, L.Add) or any(isinstance(rows[r].layer, L.Concatenate) for r in row.readers):
            continue
        *others, end = sorted(row.sources, key=lambda source: rows[source].depth)
        while isinstance(rows[end].layer, L.Dropout) and len(rows[end].readers) == 1:
            end = rows[end].sources[0]
        if len(rows[end].readers) == 1 and all(_is_shortcut(other, end, rows) for other in others):
            ends[end] = name.removesuffix("_add")
    return ends


def _is_shortcut(other: str, end: str, rows: dict[str, Row]) -> bool:
    """Whether at most one convolution lies between `other` and what the branch up to `end` has come from, too."""
    behind, ways = {end}, [end]
    while ways:
        new = set(rows[ways.pop()].sources) - behind
        behind |= new
        ways += new
    convolutions = 0
    while other not in behind:
        convolutions += isinstance(rows[other].layer, L.Conv2D)
        if convolutions > 1 or len(rows[other].sources) != 1:
            return False
        other = rows[other].sources[0]
    return True


def _block_ends(rows: dict[str, Row]) -> dict[str, str]:
    """The concatenation that ends each block, and the block's name.

    One that another concatenation reads is inside a block (a fork of Inception V3, a layer of DenseNet), and so is
    one of bare convolutions, which still wants its batch normalization (NASNet's halving of what came before).
    """
    ends: dict[str, str] = {}
    for name, row in rows.items():
        inside = any(isinstance(rows[reader].layer, L.Concatenate) for reader in row.readers)
        bare = all(isinstance(rows[source].layer, L.Conv2D) for source in row.sources)
        if isinstance(row.layer, L.Concatenate) and not inside and not bare:
            ends[name] = name.removesuffix("_concat")
    return ends


def _plain_ends(rows: dict[str, Row]) -> dict[str, str]:
    """The last nonlinearity of each block of a plain chain, and the block's name (section 3.3, "after the
    non-linearity")."""
    ends: dict[str, str] = {}
    for name, row in rows.items():
        if isinstance(row.layer, L.ReLU | L.Activation) and name.startswith("block"):
            ends[block_of(name)] = name  # a later one takes an earlier one's place
    return {name: block for block, name in ends.items()}


def _unused(name: str, rows: dict[str, Row]) -> str:
    """`name`, or with a number behind it where the network has layers of that name already."""
    tries = (name if i == 1 else f"{name}{i}" for i in count(1))
    return next(t for t in tries if not any(row.startswith(f"{t}_") for row in rows))
