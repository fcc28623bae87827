"""Layers as several: which may be split, what a split costs and what it loses, and the network with splits in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfcompact.compress.decomposition import factors
from tfcompact.compress.decomposition.factors import Array, Roots
from tfcompact.errors import UserError
from tfcompact.frameworks import Inputs, Layer, Model, Tensor, keras, tf
from tfcompact.networks import rewrite
from tfcompact.networks.kinds import is_full_convolution

L = keras.layers


@dataclass(frozen=True)
class Split:
    """One layer in factors: `kind` is svd, spatial, tucker or cp; `ranks` one number, for tucker those of in and out.

    `cost` are the multiply-adds of one image, or parameters, of all factors; `error` the share of the output's energy
    that is lost on the inputs that the ranks were chosen with.
    """

    layer: str
    kind: str
    ranks: tuple[int, ...]
    cost: float
    error: float


def splittable(model: Model) -> list[Any]:
    """The layers that may be split: dense ones and convolutions over all channels, but for the image's."""
    images = {layer.name for layer in model.layers if isinstance(layer, L.InputLayer)}
    inside = {layer.name for layer in rewrite.inference(model).layers}
    return [
        call.layer
        for call in rewrite.calls(model)
        if (isinstance(call.layer, L.Dense) or (is_full_convolution(call.layer) and call.layer.groups == 1))
        and not images.intersection(call.sources)
        and call.layer.name in inside
    ]


def second_moments(model: Model, layers: Iterable[Layer], batches: Iterable[Tensor]) -> dict[str, Array]:
    """Of each layer's input the mean of `x x^T` over positions and images, `[in, in]` in 64 bits.

    Memory: the moments, and what all these layers read of one batch.
    """
    names = [layer.name for layer in layers]
    calls = rewrite.calls_by_name(model)
    sources = list(dict.fromkeys(calls[name].sources[0] for name in names))
    probe = rewrite.tensors(model, sources)

    @tf.function
    def products(images: Tensor) -> list[Tensor]:
        rows = [tf.reshape(x, [-1, x.shape[-1]]) for x in rewrite.listed(probe(images, training=False))]
        return [tf.matmul(x, x, transpose_a=True) / tf.cast(tf.shape(x)[0], x.dtype) for x in rows]

    sums: list[Array] = []
    count = 0
    for images in batches:
        found = [value.numpy().astype(np.float64) for value in products(images)]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        count += 1
    of = {source: total / count for source, total in zip(sources, sums, strict=True)}
    return {name: of[calls[name].sources[0]] for name in names}


def kind_of(layer: Any, windows: str, pointwise: bool) -> str | None:
    """What the layer would become; None where it is left alone."""
    if isinstance(layer, L.Dense) or tuple(layer.kernel_size) == (1, 1):
        return "svd" if pointwise else None
    return None if windows == "none" else windows


def ladder(layer: Any, kind: str, roots: Roots, *, cost: str, multiple: int) -> list[Split]:
    """The splits of a layer, the finest first, that cost less than it, each less than the one before."""
    kernel = kernel_of(layer)
    whole = layer_cost(layer, cost)
    found: list[Split] = []
    for ranks, error in _choices(kernel, kind, roots, multiple):
        price = split_cost(layer, kind, ranks, cost)
        if price < whole and (not found or price < found[-1].cost):
            found.append(Split(layer.name, kind, ranks, price, error))
    return found


def _choices(kernel: Array, kind: str, roots: Roots, multiple: int) -> Iterable[tuple[tuple[int, ...], float]]:
    """Ranks and the share of energy they lose, from the largest ranks down."""
    kh, kw, channels, out = kernel.shape
    if kind == "tucker":
        energies = factors.tucker_energies(kernel, roots)
        kept = energies.cumsum(0).cumsum(1) / max(float(energies.sum()), 1e-30)
        for i in range(_top(channels, multiple), 0, -multiple):
            ratio = i / channels
            o = min(out, max(multiple, round(ratio * out / multiple) * multiple))
            yield (i, o), max(0.0, 1 - float(kept[i - 1, o - 1]))
        return
    if kind == "cp":
        plain = np.linalg.norm(roots.turned(kernel)) ** 2
        for rank in range(_top(min(channels * out, 4 * max(channels, out), 256), 4 * multiple), 0, -4 * multiple):
            yield (rank,), _cp_loss(kernel, rank, roots, float(plain))
        return
    matrix = factors.spatial_matrix(kernel) if kind == "spatial" else kernel[0, 0]
    values = np.square(factors.spectrum(matrix, factors.spatial_roots(roots, kh) if kind == "spatial" else roots))
    lost = 1 - values.cumsum() / max(float(values.sum()), 1e-30)
    for rank in range(_top(len(values), multiple), 0, -multiple):
        yield (rank,), max(0.0, float(lost[rank - 1]))


def _top(count: int, multiple: int) -> int:
    return count // multiple * multiple


def _cp_loss(kernel: Array, rank: int, roots: Roots, whole: float) -> float:
    """The share of energy that a CP loses, 1 where it diverges."""
    try:
        first, window, last = factors.cp(kernel, rank, roots)
    except UserError:
        return 1.0
    made = np.einsum("ir,hwr,ro->hwio", first, window[..., 0], last, optimize=True)
    return float(np.square(roots.turned(kernel - made)).sum() / max(whole, 1e-30))


def kernel_of(layer: Any) -> Array:
    """The layer's kernel as `[kh, kw, in, out]` in 64 bits."""
    kernel = layer.kernel.numpy().astype(np.float64)
    return kernel if kernel.ndim == 4 else kernel[np.newaxis, np.newaxis]


def layer_cost(layer: Any, cost: str) -> float:
    """What the layer's kernel costs now."""
    return float(np.prod(layer.kernel.shape)) if cost == "params" else float(rewrite.macs(layer))


def split_cost(layer: Any, kind: str, ranks: tuple[int, ...], cost: str) -> float:
    """What the factors of the layer would cost."""
    kh, kw, channels, out = kernel_of(layer).shape
    rank, last = ranks[0], ranks[-1]
    shape = [
        {"svd": channels * rank, "spatial": kh * channels * rank, "tucker": channels * rank, "cp": channels * rank}[
            kind
        ],
        {"svd": rank * out, "spatial": kw * rank * out, "tucker": kh * kw * rank * last, "cp": kh * kw * rank}[kind],
        last * out if kind in ("tucker", "cp") else 0,
    ]
    if cost == "params":
        return float(sum(shape))
    if isinstance(layer, L.Dense):
        return float(sum(shape)) * float(np.prod(layer.output_shape[1:-1]))
    (_, hi, wi, _), (_, ho, wo, _) = layer.input_shape, layer.output_shape
    first = {"svd": ho * wo, "spatial": ho * wi}.get(kind, hi * wi)
    return float(shape[0] * first + (shape[1] + shape[2]) * ho * wo)


def split(model: Model, splits: Mapping[str, Split], roots: Mapping[str, Roots]) -> Model:
    """A copy of `model` with layers in factors. The last factor keeps the layer's name, bias and activation."""

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        chosen = splits.get(layer.name)
        return None if chosen is None else _factors(layer, chosen, roots[layer.name], x)

    return rewrite.rewrite(model, rule)


def _factors(layer: Any, chosen: Split, roots: Roots, x: Inputs) -> Tensor:
    kernel, bias = kernel_of(layer), layer.get_weights()[1:]
    if isinstance(layer, L.Dense):
        first, last = factors.svd(kernel[0, 0], chosen.ranks[0], roots)
        inner = L.Dense(chosen.ranks[0], use_bias=False, name=f"{layer.name}_in")
        return rewrite.copied(layer, _filled(inner, x, first), weights=[last, *bias])
    strides = tuple(layer.strides)
    if chosen.kind == "svd":
        first, last = factors.svd(kernel[0, 0], chosen.ranks[0], roots)
        x = _convolution(f"{layer.name}_in", first[np.newaxis, np.newaxis], strides, "valid", x)
        return rewrite.copied(layer, x, options={"strides": (1, 1)}, weights=[last[np.newaxis, np.newaxis], *bias])
    if chosen.kind == "spatial":
        down, across = factors.spatial_svd(kernel, chosen.ranks[0], roots)
        x = _convolution(f"{layer.name}_down", down, (strides[0], 1), layer.padding, x)
        options: dict[str, object] = {"kernel_size": across.shape[:2], "strides": (1, strides[1])}
        return rewrite.copied(layer, x, options=options, weights=[across, *bias])
    if chosen.kind == "tucker":
        first, core, last = factors.tucker2(kernel, (chosen.ranks[0], chosen.ranks[1]), roots)
        x = _convolution(f"{layer.name}_in", first[np.newaxis, np.newaxis], (1, 1), "valid", x)
        x = _convolution(f"{layer.name}_core", core, strides, layer.padding, x)
    else:
        first, window, last = factors.cp(kernel, chosen.ranks[0], roots)
        x = _convolution(f"{layer.name}_in", first[np.newaxis, np.newaxis], (1, 1), "valid", x)
        # Strides of a depthwise convolution are equal in Keras; those of our networks are.
        inner = L.DepthwiseConv2D(
            kernel.shape[:2], strides, layer.padding, use_bias=False, name=f"{layer.name}_window"
        )
        x = _filled(inner, x, window)
    options = {"kernel_size": (1, 1), "strides": (1, 1), "padding": "valid"}
    return rewrite.copied(layer, x, options=options, weights=[last[np.newaxis, np.newaxis], *bias])


def _convolution(name: str, kernel: Array, strides: tuple[int, int], padding: str, x: Inputs) -> Tensor:
    inner = L.Conv2D(kernel.shape[-1], kernel.shape[:2], strides, padding, use_bias=False, name=name)
    return _filled(inner, x, kernel)


def _filled(layer: Layer, x: Inputs, kernel: Array) -> Tensor:
    out = layer(x)
    layer.set_weights([kernel])
    return out
