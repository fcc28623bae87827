"""The ranges of activations, observed before training, and how far a rounded network is from its parent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tfcompact.compress.quantization.pixel_grid import INPUT, SIGMOID, image_range
from tfcompact.compress.quantization.plan import rounding_plan
from tfcompact.compress.quantization.ranges import observe
from tfcompact.compress.quantization.rounded_layers import (
    bias_variables,
    has_bias,
    rounded_layer,
    rounded_layers,
    set_output_range,
)
from tfcompact.compress.quantization.rules import ignores_below_minus_3
from tfcompact.frameworks import Model, keras, tf
from tfcompact.networks.rewrite import calls_by_name, listed, tensors
from tfcompact.records.artifact import Normalization


def calibrate(
    qat: Model,
    model: Model,
    batches: Iterable[np.ndarray],
    normalization: Normalization,
    percentile: float,
    method: str = "percentile",
) -> dict[str, tuple[float, float]]:
    """The ranges of `qat`, which it sets from what the layers of `model`, its float parent, give for `batches`.

    `batches` are normalized images `[n, px, px, 3]`. `ranges.observe` says what `method` and `percentile` (100:
    minimum and maximum) make of them. The image's range is that of its pixels, so that a uint8 pixel is its own
    quantized value.
    """
    plan = rounding_plan(model)
    ranges = {INPUT: image_range(normalization)}
    rows = calls_by_name(model)
    floors = {  # x * relu6(x + 3) is 0 from there down: more steps for the rest
        name: -3.0
        for name in plan.outputs
        if rows[name].readers and all(ignores_below_minus_3(rows[r].layer) for r in rows[name].readers)
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
        is_sigmoid = isinstance(rows[by].layer, keras.layers.Activation)
        ranges[name] = SIGMOID if is_sigmoid else (min(low, 0.0), max(high, 1e-3))
    set_ranges(qat, ranges)
    for wrapped in rounded_layers(qat):
        if has_bias(wrapped):
            low, high = ranges[plan.source[wrapped.name]]
            bias_variables(wrapped)["input_step"].assign((high - low) / 255)
    return ranges


def set_ranges(qat: Model, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Has `qat` round the outputs of its layers over `ranges`, which are by name; of biases it rounds none."""
    for name, (low, high) in ranges.items():
        set_output_range(rounded_layer(qat, name), low, high)


def signal_to_noise_db(qat: Model, model: Model, images: np.ndarray) -> dict[str, float]:
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
