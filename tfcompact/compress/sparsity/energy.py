"""Energy-aware pruning (arXiv:1611.05128): the layers that take the most energy first, and what is left refitted.

Of a layer's weights the smallest go; some come back where they lower the error of the layer's output most; then
those that are left are fitted by least squares to what the layer of the whole network gives. Inputs are those of the
network as it is pruned by then, so that a later layer makes up for the errors of earlier ones. Only one layer's
products are held at a time: a square matrix of 64-bit numbers, as wide as one filter has weights, besides what all
layers read of one batch.

Zeros save energy on hardware that skips them, which phones' integer kernels do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfcompact.errors import UserError
from tfcompact.frameworks import Layer, Model, Tensor, keras, tf
from tfcompact.networks import rewrite
from tfcompact.networks.costs import CACHE_PJ, DRAM_PJ, INT8, Operator, Precision
from tfcompact.networks.operators import operators

Array = npt.NDArray[np.float64]

RESTORED = 0.1
"""The share of the weights that stay which is chosen by the error and not by size."""
POSITIONS = 64  # of a layer's output that are read of each image
RIDGE = 1e-3
"""How strongly the fit holds on to the old weights, as a share of the inputs' mean square."""


@dataclass(frozen=True)
class Fitted:
    """What became of a layer: its share of zeros, and the share of its output's energy that was lost, before the fit
    and after it."""

    name: str
    zeros: float
    cut_error: float
    error: float


def energies(model: Model, zeros: Mapping[str, float] | None = None, precision: Precision = INT8) -> dict[str, float]:
    """The picojoules of each operator for one image, where a zero weight is neither read nor multiplied.

    `zeros` are shares by layer. What it costs to say where the zeros are is not counted.
    """
    shares = zeros or {}

    def energy(operator: Operator) -> float:
        cost, kept = operator.cost(precision), 1 - shares.get(operator.name, 0.0)
        weights = operator.weights * precision.bytes * kept + operator.biases * 4
        moved = cost.read_bytes + cost.written_bytes
        return cost.arithmetic_pj * kept + weights * DRAM_PJ + moved * CACHE_PJ

    return {operator.name: energy(operator) for operator in operators(model)}


def to_prune(model: Model, layers: Sequence[Layer], sparsity: float, keep: float) -> list[str]:
    """The names of the layers to prune, the one with the most energy first, until `keep` of the energy is left.

    Raises `UserError` where it is not enough to prune all of them.
    """
    model = rewrite.inference(model)
    whole = energies(model)
    order = sorted((layer.name for layer in layers), key=lambda name: -whole[name])
    zeros: dict[str, float] = {}
    for name in order:
        zeros[name] = sparsity
        left = sum(energies(model, zeros).values()) / sum(whole.values())
        if left <= keep:
            return list(zeros)
    raise UserError(
        f"with {sparsity:.0%} of zeros in every layer {left:.1%} of the energy is left, more than the {keep:.0%} "
        "asked for; give a larger --sparsity or --keep"
    )


class Refit:
    """Prunes layers of `network` in place, one after the other, and fits what is left to what `parent` gives.

    `parent` is the same network unpruned. `batches()` are normalized images `[n, px, px, 3]`, always the same.
    """

    def __init__(
        self, parent: Model, network: Model, names: Sequence[str], batches: Callable[[], Iterable[Tensor]], seed: int
    ) -> None:
        self.parent, self.network, self.batches, self.seed = parent, network, batches, seed
        calls = rewrite.calls_by_name(network)
        self.source = {name: calls[name].sources[0] for name in names}
        sources = list(dict.fromkeys(self.source.values()))
        self.place = {source: i for i, source in enumerate(sources)}
        probes = [rewrite.tensors(model, sources) for model in (network, parent)]
        self._read: Callable[[Tensor], list[list[Tensor]]] = tf.function(
            lambda images: [rewrite.listed(probe(images, training=False)) for probe in probes]
        )

    def prune(self, name: str, sparsity: float) -> Fitted:
        """Sets that share of a layer's weights to zero, and fits the others."""
        layer: Any = self.network.get_layer(name)
        whole: Any = self.parent.get_layer(name)
        target = np.asarray(whole.kernel, np.float64)
        kernel, groups = np.asarray(layer.kernel, np.float64), int(getattr(layer, "groups", 1))
        size, found, cut, lost, energy = kernel.shape[-1] // groups, np.zeros_like(kernel), 0.0, 0.0, 0.0
        parts = [slice(group * size, (group + 1) * size) for group in range(groups)]
        targets = [target[..., part].reshape(-1, size) for part in parts]
        for part, sums in zip(parts, self._sums(layer, self.source[name], targets), strict=True):
            before = kernel[..., part].reshape(-1, size)
            weights, mask = fitted(sums.products, sums.wanted, before, sparsity)
            energy += sums.energy
            cut += sums.error(before * mask)
            lost += sums.error(weights)
            found[..., part] = weights.reshape(*kernel.shape[:-1], size)
        layer.kernel.assign(found.astype(np.float32))
        energy = max(energy, 1e-12)
        return Fitted(name, float(np.mean(found == 0)), max(cut, 0.0) / energy, max(lost, 0.0) / energy)

    def _sums(self, layer: Any, source: str, targets: Sequence[Array]) -> list[Sums]:
        """The sums of each group over some positions of all images."""
        rng = np.random.default_rng(self.seed)
        sums: list[Sums] = []
        for images in self.batches():
            places = np.sort(rng.permutation(_positions(layer))[:POSITIONS])
            values = [value[self.place[source]] for value in self._read(images)]
            ours, theirs = (_of_groups(_rows(layer, value, places), layer, len(targets)) for value in values)
            wanted = [z @ target for z, target in zip(theirs, targets, strict=True)]
            found = [Sums(x.T @ x, x.T @ y, float(np.sum(y**2))) for x, y in zip(ours, wanted, strict=True)]
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        return sums


class Sums(NamedTuple):
    """What a least-squares fit needs of inputs `x` and wanted outputs `y`: the sums of `x x^T` `[in, in]`, of `x y^T`
    `[in, out]`, and of the squares of `y`."""

    products: Array
    wanted: Array
    energy: float

    def __add__(self, other: Sums) -> Sums:  # type: ignore[override]
        return Sums(self.products + other.products, self.wanted + other.wanted, self.energy + other.energy)

    def error(self, weights: Array) -> float:
        """The squared error of the outputs that weights `[in, out]` give."""
        return float(np.sum(weights * (self.products @ weights)) - 2 * np.sum(weights * self.wanted)) + self.energy


def fitted(products: Array, wanted: Array, kernel: Array, sparsity: float) -> tuple[Array, Array]:
    """Weights `[in, out]` with that share of zeros which give nearly what is wanted, and the mask of those that stay.

    `products` `[in, in]` are the sums of `x x^T` over the inputs, `wanted` `[in, out]` those of `x y^T`.
    """
    kept = max(1, round(kernel.size * (1 - sparsity)))
    back = min(round(RESTORED * kept), kept - 1)
    order = np.argsort(-np.abs(kernel), axis=None, kind="stable")
    mask = np.zeros(kernel.shape, bool)
    mask.reshape(-1)[order[: kept - back]] = True
    diagonal = np.maximum(np.diag(products), 1e-12)
    residual = wanted - products @ (kernel * mask)
    gain = np.where(mask, -1.0, residual**2 / diagonal[:, None])  # what the error falls by, each weight alone
    mask.reshape(-1)[np.argsort(-gain, axis=None, kind="stable")[:back]] = True
    ridge = RIDGE * float(diagonal.mean())
    found = np.zeros_like(kernel)
    for out in range(kernel.shape[1]):
        places = np.flatnonzero(mask[:, out])
        if len(places):
            inner = products[np.ix_(places, places)] + ridge * np.eye(len(places))
            found[places, out] = np.linalg.solve(inner, wanted[places, out] + ridge * kernel[places, out])
    return found, mask


def _rows(layer: Any, x: Tensor, places: np.ndarray) -> np.ndarray:
    """The inputs of a layer's filters at some places: of `[n, h, w, c]` or `[n, c]` `[n, positions, in]`."""
    if isinstance(layer, keras.layers.Dense):
        rows = tf.reshape(x, [x.shape[0], -1, x.shape[-1]])
    else:
        sizes, strides, rates = ([1, *pair, 1] for pair in (layer.kernel_size, layer.strides, layer.dilation_rate))
        patches = tf.image.extract_patches(x, sizes, strides, rates, layer.padding.upper())
        rows = tf.reshape(patches, [x.shape[0], -1, patches.shape[-1]])
    found: np.ndarray = tf.gather(rows, places, axis=1).numpy()
    return found


def _positions(layer: Any) -> int:
    """At how many places a filter is applied to one image."""
    shape = layer.output_shape[1:-1]
    return int(np.prod(shape)) if shape else 1


def _of_groups(rows: np.ndarray, layer: Any, groups: int) -> list[Array]:
    """The rows of each group, `[rows, in]` in 64 bits, in the order of a kernel's `[kh, kw, in]`."""
    flat = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
    if groups == 1:
        return [flat]
    window = int(np.prod(layer.kernel_size))
    apart = flat.reshape(len(flat), window, groups, -1)
    return [apart[:, :, group].reshape(len(flat), -1) for group in range(groups)]
