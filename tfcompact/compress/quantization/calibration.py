"""The ranges of activations, observed before training, and how far a rounded network is from its parent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tfcompact.compress.quantization.plan import rounding_plan
from tfcompact.compress.quantization.ranges import observe
from tfcompact.compress.quantization.rules import INPUT, SIGMOID, L, ignores_below_minus_3, rule_for
from tfcompact.errors import UserError
from tfcompact.frameworks import tf
from tfcompact.networks.rewrite import calls, listed, tensors
from tfcompact.records.artifact import Normalization


def calibrate(
    qat: Any,
    model: Any,
    batches: Iterable[np.ndarray],
    normalization: Normalization,
    percentile: float,
    method: str = "percentile",
) -> dict[str, tuple[float, float]]:
    """Sets every range of `qat` from what the layers of `model`, its float parent, give for `batches`; returns them.

    `batches` are normalized images `[n, px, px, 3]`. `ranges.observe` says what `method` and `percentile` (100:
    minimum and maximum) make of them. The image's range is that of its pixels, so that a uint8 pixel is its own
    quantized value.
    """
    plan = rounding_plan(model)
    zero_point, step = grid(normalization)
    ranges = {INPUT: ((0 - zero_point) * step, (255 - zero_point) * step)}
    readers = {layer.name: readers for layer, _, readers in calls(model)}
    layers = {layer.name: layer for layer in model.layers}
    floors = {  # x * relu6(x + 3) is 0 from there down: more steps for the rest
        name: -3.0
        for name in plan.outputs
        if readers[name] and all(ignores_below_minus_3(layers[r], readers, layers) for r in readers[name])
    }
    sources = [name for name, by in plan.outputs.items() if by == name or name in plan.joined]
    observed = observe(model, sources, batches, method=method, percentile=percentile, floors=floors)
    for name, by in plan.joined.items():
        if name in observed:
            low, high = observed[by]
            observed[by] = min(low, observed[name][0]), max(high, observed[name][1])
    for name, by in plan.outputs.items():
        low, high = observed[by]
        low = max(low, floors.get(name, low))
        ranges[name] = SIGMOID if isinstance(layers[by], L.Activation) else (min(low, 0.0), max(high, 1e-3))
    for name, (low, high) in ranges.items():
        variables = qat.get_layer(name)._output_quantizer_vars
        variables["min_var"].assign(low)
        variables["max_var"].assign(high)
    for layer in model.layers:
        if rule_for(layer).kernel_axis is not None and layer.use_bias:
            low, high = ranges[plan.source[layer.name]]
            bias = qat.get_layer(layer.name)._weight_vars[1][2]
            bias["input_step"].assign((high - low) / 255)
    return ranges


def grid(normalization: Normalization) -> tuple[int, float]:
    """Zero point and step at which a quantized input is the uint8 pixel. Raises `UserError` where there is none."""
    if not normalization.uniform or normalization.mean[0] != round(normalization.mean[0]):
        raise UserError(
            f"a uint8 input needs one whole-numbered mean and one std for all channels, not {normalization}; "
            "use quantization.on_grid(normalization)"
        )
    return round(normalization.mean[0]), 1 / normalization.std[0]


def on_grid(normalization: Normalization) -> Normalization:
    """`normalization` with its mean moved to a whole pixel value (127.5 -> 128), so that pixels are exact in 8 bits.

    The network is fine-tuned with it; the shift, at most half of one pixel value, is what a uint8 file has anyway.
    An 8-bit input has one scale for all channels: where channels differ it is (pixel - 128) / 127.5, and the network
    must be made to fit (`lowering.renormalized`).
    """
    if not normalization.uniform:
        return Normalization((128.0,), (127.5,))
    return Normalization(
        (float(np.floor(normalization.mean[0] + 0.5)),), normalization.std[:1], normalization.channel_order
    )


def signal_to_noise_db(qat: Any, model: Any, images: np.ndarray) -> dict[str, float]:
    """For each rounded layer, the power of the float parent's output over that of the difference, in dB."""
    names = list(rounding_plan(model).outputs)
    reference, rounded = tensors(model, names), tensors(qat, names)
    signal, noise = np.zeros(len(names)), np.zeros(len(names))
    for start in range(0, len(images), 32):
        batch = images[start : start + 32]
        pairs = zip(listed(reference(batch)), listed(rounded(batch)), strict=True)
        for i, (a, b) in enumerate(pairs):
            signal[i] += float(tf.reduce_sum(a * a))
            noise[i] += float(tf.reduce_sum((a - b) ** 2))
    ratio = np.maximum(signal, 1e-30) / np.maximum(noise, 1e-30)
    return {name: round(float(10 * np.log10(r)), 2) for name, r in zip(names, ratio, strict=True)}
