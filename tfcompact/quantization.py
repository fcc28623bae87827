"""How each kind of layer is quantized to 8 bits: the one table of rules, calibration, and the way out.

`quantized(model)` wraps a lowered network's layers in tfmot's `QuantizeWrapperV2`; `calibrate` sets the ranges from
what is observed; `deployable` gives the network that the converter turns into integers.

tfmot's own 8-bit scheme is not used for three reasons: it quantizes depthwise kernels per tensor, its ranges start
at +-6 and forget that slowly, and it stores weight ranges that are wrong until the first training step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from tfcompact.backend import keras, tf
from tfcompact.errors import UserError
from tfcompact.graph import calls, listed, rewrite, tensors
from tfcompact.models.layers import ChannelShift, ChannelShuffle, ChannelSlice, Scale, ShiftedReLU6
from tfcompact.quantizers import FakeQuant, LayerQuantization, Wrapper, learned_ends, shift_bounds
from tfcompact.ranges import observe
from tfcompact.types import Normalization

L = keras.layers
INPUT = "image_quantized"
SIGMOID = (0.0, 255 / 256)
"""The range of a sigmoid's output, a step of 1/256 (TFLite 8-bit specification, LOGISTIC)."""


class Rule(NamedTuple):
    """One line of the table: what to do with layers of these classes."""

    layers: tuple[type, ...]
    kernel_axis: int | None  # the axis of the kernel's output channels
    output: str  # "observed": a range of its own; "source": the range of its input; "none": nothing to round


RULES = (  # the first line that fits a layer counts
    Rule((L.DepthwiseConv2D,), 2, "observed"),
    Rule((L.Conv2D, L.Dense), -1, "observed"),
    Rule((L.ReLU, ShiftedReLU6, L.Add, L.Multiply, L.Concatenate, L.GlobalAveragePooling2D, Scale), None, "observed"),
    Rule((ChannelShift,), None, "observed"),  # its numbers are rounded too
    # Integer average pooling rounds on its input's grid (TFLite 8-bit specification: one scale for both ends).
    Rule((L.AveragePooling2D,), None, "source"),
    # A sigmoid; TFLite's has one range, whatever comes in.
    Rule((L.Activation,), None, "observed"),
    # These move values without computing new ones.
    Rule(
        (L.InputLayer, L.MaxPooling2D, L.Dropout, L.Flatten, L.Reshape, L.ZeroPadding2D, L.Cropping2D), None, "none"
    ),
    Rule((ChannelShuffle, ChannelSlice), None, "none"),
)


def rule_for(layer: Any) -> Rule:
    """The line of the table for `layer`. Raises `UserError` that names a layer without one."""
    odd = isinstance(layer, L.Conv2DTranspose)
    odd |= isinstance(layer, L.Activation) and layer.activation is not keras.activations.sigmoid
    for rule in RULES:
        if isinstance(layer, rule.layers) and not odd:
            return rule
    raise UserError(
        f"no rule to quantize layer {layer.name} ({type(layer).__name__}) to int8; "
        "export float32, or add a line to RULES in tfcompact/quantization.py"
    )


def quantized(model: Any, *, learn_ranges: bool = False) -> Any:
    """A quantization-aware copy of a lowered network: same input and output, every layer rounded as TFLite will.

    Where the only reader of a convolution or addition is a ReLU, or of anything a concatenation, the rounding is the
    reader's: TFLite fuses the first and gives the second's inputs its own scale. Ranges are unset until `calibrate`.

    With `learn_ranges` training moves the ranges too, all but the image's and the sigmoids'. A range that two layers
    share is learned once. Such a network is for training only: `settled` gives what is saved.
    """
    whole_plan = _plan(model)
    plan = whole_plan.outputs

    def wrap(layer: Any, x: Any) -> Any:
        if isinstance(layer, L.InputLayer):
            return None
        rule = rule_for(layer)
        x = [_entry(t) for t in x] if isinstance(x, list) else _entry(x)
        copy = layer.__class__.from_config(layer.get_config())
        has_weights = rule.kernel_axis is not None or isinstance(layer, ChannelShift)
        if not has_weights and layer.name not in plan:
            return copy(x)  # nothing to round
        if has_weights:  # before the wrapper takes the variables over
            copy.build(x.shape)
            copy.set_weights(layer.get_weights())
        learned = learn_ranges and plan.get(layer.name) == layer.name and not isinstance(layer, L.Activation)
        return Wrapper(copy, LayerQuantization(rule.kernel_axis, layer.name in plan, learned), name=layer.name)(x)

    entries: dict[int, Any] = {}

    def _entry(x: Any) -> Any:
        """`x`, or where it is the image itself, the image rounded to 8 bits."""
        if not isinstance(x._keras_history.layer, L.InputLayer):
            return x
        if id(x) not in entries:
            entries[id(x)] = Wrapper(
                L.Activation("linear", name="pixels"), LayerQuantization(None, True), name=INPUT
            )(x)
        return entries[id(x)]

    qat = rewrite(model, wrap)
    if learn_ranges:
        for name, by in plan.items():
            if by != name:
                qat.get_layer(name)._output_quantizers[0].follows = qat.get_layer(by)._output_quantizer_vars
        for name, variables in _learned_inputs(qat, whole_plan).items():
            qat.get_layer(name)._weight_vars[1][1].input_range = variables
    return qat


def settled(qat: Any, model: Any) -> Any:
    """What `qat`, made by `quantized(model, learn_ranges=True)`, has become: the same network with its ranges fixed.

    It gives the same outputs to the bit, comes back from disk, and is what `deployable` takes.
    """
    plan = _plan(model)
    fixed = quantized(model)
    for layer in fixed.layers:
        if not isinstance(layer, Wrapper):
            continue
        learned = qat.get_layer(layer.name)
        for (variable, _, _), (value, _, _) in zip(layer._weight_vars, learned._weight_vars, strict=True):
            variable.assign(value)
        if layer.quantize_config.output:
            low, high = learned_ends(learned._output_quantizers[0].follows or learned._output_quantizer_vars)
            layer._output_quantizer_vars["min_var"].assign(low)
            layer._output_quantizer_vars["max_var"].assign(high)
        if len(layer._weight_vars) > 1:
            layer._weight_vars[1][2]["input_step"].assign(learned._weight_vars[1][2]["input_step"])
    for name, variables in _learned_inputs(qat, plan).items():
        low, high = learned_ends(variables)
        fixed.get_layer(name)._weight_vars[1][2]["input_step"].assign((high - low) / 255)
    return fixed


def ranges_of(qat: Any) -> dict[str, tuple[float, float]]:
    """The range of every layer of `qat` whose output is rounded, by name."""
    return {
        layer.name: (float(ends[0]), float(ends[1]))
        for layer in qat.layers
        if isinstance(layer, Wrapper) and layer.quantize_config.output
        for ends in [learned_ends(layer._output_quantizers[0].follows or layer._output_quantizer_vars)]
    }


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
    plan = _plan(model)
    zero_point, step = grid(normalization)
    ranges = {INPUT: ((0 - zero_point) * step, (255 - zero_point) * step)}
    readers = {layer.name: readers for layer, _, readers in calls(model)}
    layers = {layer.name: layer for layer in model.layers}
    floors = {  # x * relu6(x + 3) is 0 from there down: more steps for the rest
        name: -3.0
        for name in plan.outputs
        if readers[name] and all(_ignores_below_minus_3(layers[r], readers, layers) for r in readers[name])
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


def deployable(qat: Any) -> Any:
    """`qat` for the converter: kernels and biases on their grids, a `FakeQuant` at each rounding, no wrapper left.

    A kernel whose largest value per channel lies on the end of its grid gets the same scale again from the converter,
    so nothing is rounded twice, and depthwise kernels become per-channel like the rest.
    """

    def unwrap(layer: Any, x: Any) -> Any:
        if not isinstance(layer, Wrapper):
            return None
        config = layer.layer.get_config()
        if isinstance(layer.layer, ChannelShift):
            config["bounds"] = tuple(float(end) for end in shift_bounds(layer._weight_vars[0][0]))
        inner = layer.layer.__class__.from_config(config)
        out = inner(x)
        if inner.weights:
            rounded = [quantizer(value, False, weights=ranges) for value, quantizer, ranges in layer._weight_vars]
            inner.set_weights([value.numpy() for value in rounded])
        if layer.quantize_config.output:
            bounds = layer._output_quantizer_vars
            low, high = float(bounds["min_var"].numpy()), float(bounds["max_var"].numpy())
            out = FakeQuant(low, high, name=f"{layer.name}_8bit")(out)
        return out

    return rewrite(qat, unwrap)


def signal_to_noise_db(qat: Any, model: Any, images: np.ndarray) -> dict[str, float]:
    """For each rounded layer, the power of the float parent's output over that of the difference, in dB."""
    names = list(_plan(model).outputs)
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


class _Plan(NamedTuple):
    """Where a network is rounded. Both tables are by layer name, in topological order."""

    outputs: dict[str, str]  # a layer whose output is rounded -> the layer whose observed range it takes
    source: dict[str, str]  # a layer -> the rounding that its (first) input carries
    joined: dict[str, str]  # a concatenation that goes into another -> the last one, whose range holds all of theirs


def _plan(model: Any) -> _Plan:
    outputs: dict[str, str] = {}
    source: dict[str, str] = {}
    carried: dict[str, str] = {}  # a layer -> the rounding that its output carries
    graph = [(layer, sources, readers) for layer, sources, readers in calls(model)]
    joined = _joined(graph)
    layers = {layer.name: layer for layer, _, _ in graph}
    readers_of = {layer.name: readers for layer, _, readers in graph}
    for layer, sources, readers in graph:
        rule = rule_for(layer)
        source[layer.name] = carried[sources[0]] if sources else INPUT
        carried[layer.name] = source[layer.name]
        grid_of_input = rule.output == "source"
        if isinstance(layer, L.ReLU) and source[layer.name] != INPUT:
            before = layers[sources[0]]
            fused = fuses_relu(before) and len(readers_of[before.name]) == 1
            # Alone, it picks from values that are rounded already; a finer grid would gain nothing.
            grid_of_input = not fused
        if rule.output == "observed" and not grid_of_input:
            carried[layer.name] = layer.name
            if not (len(readers) == 1 and _rounds_for(layers[readers[0]], layer)):
                outputs[layer.name] = joined.get(layer.name, layer.name)
        elif grid_of_input:
            if source[layer.name] == INPUT:
                raise UserError(f"layer {layer.name} pools the image itself; no rule to quantize that")
            carried[layer.name] = layer.name
            outputs[layer.name] = outputs[source[layer.name]]
    return _Plan(outputs, source, joined)


def _joined(graph: list[tuple[Any, list[str], list[str]]]) -> dict[str, str]:
    """Concatenations whose values go into one other, as they are, each with the last of such a chain.

    On one grid none of them has to be rounded again: DenseNet's blocks copy all that they have so far at every layer,
    ShuffleNet V2's units half of it.
    """
    layers = {layer.name: layer for layer, _, _ in graph}
    readers_of = {layer.name: readers for layer, _, readers in graph}
    last: dict[str, str] = {}
    for layer, _, readers in reversed(graph):
        if isinstance(layer, L.Concatenate):
            reached, open_ends = set(), list(readers)
            while open_ends:
                name = open_ends.pop()
                if isinstance(layers[name], L.Concatenate):
                    reached.add(name)
                elif rule_for(layers[name]).output == "none":
                    open_ends += readers_of[name]
            if len(reached) == 1:
                (other,) = reached
                last[layer.name] = last.get(other, other)
    return last


def _rounds_for(reader: Any, layer: Any) -> bool:
    """Whether TFLite rounds the output of `layer` only once `reader`, its one reader, has worked on it."""
    if isinstance(reader, L.Concatenate):
        return not isinstance(layer, L.AveragePooling2D)
    return isinstance(reader, L.ReLU) and fuses_relu(layer)


def fuses_relu(layer: Any) -> bool:
    """Whether TFLite makes one operator of `layer` and a ReLU that is its only reader."""
    return isinstance(layer, (L.Conv2D, L.DepthwiseConv2D, L.Dense, L.Add, ChannelShift))


def _ignores_below_minus_3(reader: Any, readers: dict[str, list[str]], layers: dict[str, Any]) -> bool:
    """Whether `reader` is part of a lowered h-swish, or its gate, for which all inputs up to -3 are alike."""
    if isinstance(reader, ShiftedReLU6):
        return True
    sources = [t._keras_history.layer for t in reader.input] if isinstance(reader, L.Multiply) else []
    return any(
        isinstance(s, ShiftedReLU6) and s.input._keras_history.layer in [o for o in sources if o is not s]
        for s in sources
    )


def _learned_inputs(qat: Any, plan: _Plan) -> dict[str, Any]:
    """For each layer with a bias whose input's range is learned, the variables of that range."""
    found = {}
    for layer in qat.layers:
        if isinstance(layer, Wrapper) and len(layer._weight_vars) > 1:
            source = qat.get_layer(plan.outputs.get(plan.source[layer.name], INPUT))
            if source.quantize_config.learned:
                found[layer.name] = source._output_quantizer_vars
    return found
