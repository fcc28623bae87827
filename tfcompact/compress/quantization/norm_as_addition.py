"""Batch normalization before a ReLU, made an addition.

`relu(s * x + b)` is `s * relu(x + b / s)` for every s > 0, and the s goes into the kernels that read it.

DenseNet normalizes what many layers have joined, so that no convolution before it can take the normalization in. As
a depthwise 1x1 convolution (`lowering.fold_batch_norm`) it is one of XNNPACK's slowest 8-bit operators, computed as
one of nine taps; an addition is one of its fastest, and its ReLU is fused with it as well.

In 8 bits the addition has one scale for all channels, where the convolution had one for each. So it must not be
given shifts that are larger than it needs: a channel that is always on, or always off, has any of a wide range of
them. Which those are, images tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tfcompact.compress.quantization.ranges import observe
from tfcompact.frameworks import Inputs, Layer, Model, Tensor, keras
from tfcompact.models.layers import ChannelShift
from tfcompact.networks.kinds import is_full_convolution, is_linear
from tfcompact.networks.rewrite import Call, calls_by_name, copied, listed, output_names, rewrite, tensors

L = keras.layers
MOST_NOISE = 8.0
"""9 dB of one kind of noise, which is small beside that of the activations."""


class _Place(NamedTuple):
    """A depthwise 1x1 convolution that can become an addition.

    It reads `source`, and after `relu` the layers `readers` take its scales.
    """

    layer: Layer
    source: str
    relu: str
    readers: tuple[str, ...]


def shifted(model: Model, batches: Iterable[np.ndarray]) -> Model:
    """`model`, a lowered network, with additions in place of batch normalizations; itself where none can be one.

    One can that only a ReLU reads and, behind it, only 1x1 convolutions and dense layers; poolings may lie between.

    `batches` of normalized images `[n, px, px, 3]` tell the range of what the normalization reads. Within it the
    result is the same function; a shift is limited to where the channel is just always on (what is taken off it goes
    into the biases behind) or always off. Where the scales differ so much that the kernels with them in would be
    rounded `MOST_NOISE` times as badly, the convolution stays.
    """
    batches = list(batches)
    places = _without_noisy(_places(model), model, batches)
    if not places:
        return model
    ends = observe(model, sorted({place.source for place in places.values()}), batches, method="minmax")
    scale: dict[str, np.ndarray] = {}  # of the readers' input channels
    constant: dict[str, np.ndarray] = {}  # what is missing in them
    shift: dict[str, np.ndarray] = {}
    for name, place in places.items():
        kernel, bias = place.layer.get_weights()
        factors = kernel.reshape(-1).astype(np.float64)
        wanted = bias / factors
        low, high = ends[place.source]
        shift[name] = np.clip(wanted, -high, -low)
        for reader in place.readers:
            scale[reader] = factors
            constant[reader] = np.maximum(wanted - shift[name], 0.0)

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        if layer.name in shift:
            addition = ChannelShift(name=layer.name)
            out = addition(x)
            addition.set_weights([shift[layer.name]])
            return out
        if layer.name not in scale:
            return None
        kernel, *bias = layer.get_weights()
        kernel = kernel * scale[layer.name][:, np.newaxis]  # [..., in, out]
        inputs = kernel.reshape(-1, kernel.shape[-1])
        moved = constant[layer.name] @ inputs + (bias[0] if bias else 0.0)
        return copied(layer, x, options={"use_bias": True}, weights=[kernel, moved])

    return rewrite(model, rule)


def _without_noisy(places: dict[str, _Place], model: Model, batches: list[np.ndarray]) -> dict[str, _Place]:
    """The places where the noise of 8-bit kernels grows less than `MOST_NOISE` times in each reader.

    A kernel has one step for all inputs of an output channel, a 127th of its largest weight. The noise is the sum
    over inputs of (step * root mean square of the input)^2 / 12, and a scale s makes a weight s times as large and
    its input 1/s times.
    """
    if not places:
        return {}
    probe = tensors(model, [place.relu for place in places.values()])
    sums = [[np.sum(np.square(v), (0, 1, 2)) for v in map(np.asarray, listed(probe(b)))] for b in batches]
    power = dict(zip(places, (np.sum(parts, 0) for parts in zip(*sums, strict=True)), strict=True))
    kept = {}
    for name, place in places.items():
        factors = place.layer.get_weights()[0].reshape(-1)
        kernels = [model.get_layer(reader).get_weights()[0] for reader in place.readers]
        largest = [
            [np.abs(k * f).max(tuple(range(k.ndim - 1))) for f in (1.0, factors[:, np.newaxis])] for k in kernels
        ]
        inputs = power[name].sum(), (power[name] / factors**2).sum()
        growth = [np.sum(after**2) * inputs[1] / (np.sum(before**2) * inputs[0]) for before, after in largest]
        if max(growth) < MOST_NOISE:
            kept[name] = place
    return kept


def _places(model: Model) -> dict[str, _Place]:
    """Where an addition is the same function: by the name of the convolution that it stands for."""
    rows = calls_by_name(model)
    outputs = output_names(model)
    found = {}
    for layer, sources, readers in rows.values():
        if not _is_affine(layer) or len(readers) != 1 or layer.name in outputs or len(layer.inbound_nodes) != 1:
            continue
        relu = rows[readers[0]].layer
        plain = isinstance(relu, L.ReLU) and relu.max_value is None and not relu.threshold and not relu.negative_slope
        behind = _pointwise_readers(relu.name, rows, outputs) if plain else ()
        if behind and np.all(layer.get_weights()[0] > 0):
            found[layer.name] = _Place(layer, sources[0], relu.name, behind)
    return found


def _is_affine(layer: Layer) -> bool:
    """Whether it is `s * x + b` for each channel, as `lowering.fold_batch_norm` leaves it."""
    return (
        isinstance(layer, L.DepthwiseConv2D)
        and layer.kernel_size == layer.strides == (1, 1)
        and layer.depth_multiplier == 1
        and layer.use_bias
        and is_linear(layer)
    )


def _pointwise_readers(name: str, rows: dict[str, Call], outputs: set[str]) -> tuple[str, ...]:
    """The 1x1 convolutions and dense layers that alone read `name`, be it through poolings; none if others do."""
    found: list[str] = []
    for reader in rows[name].readers:
        layer, sources, _ = rows[reader]
        if reader in outputs and not isinstance(layer, (L.Conv2D, L.Dense)) or len(layer.inbound_nodes) != 1:
            return ()
        pointwise = is_full_convolution(layer) and layer.kernel_size == (1, 1) and layer.groups == 1
        if pointwise or type(layer) is L.Dense:
            found.append(reader)
        elif isinstance(layer, (L.AveragePooling2D, L.MaxPooling2D, L.GlobalAveragePooling2D, L.Dropout)):
            further = _pointwise_readers(reader, rows, outputs)
            if not further:
                return ()
            found += further
        else:
            return ()
    return () if name in outputs else tuple(found)
