"""How each kind of layer is quantized to 8 bits: quantizers, the one table of rules, calibration, and the way out.

`quantized(model)` wraps a lowered network's layers in tfmot's `QuantizeWrapperV2`; `calibrate` sets the ranges from
what is observed; `deployable` gives the network that the converter turns into integers. The arithmetic is TFLite's
(arXiv:1712.05877; the TFLite 8-bit specification): activations asymmetric per tensor, kernels symmetric per output
channel in [-127, 127], biases in 32 bits.

tfmot's own 8-bit scheme is not used for three reasons: it quantizes depthwise kernels per tensor, its ranges start
at +-6 and forget that slowly, and it stores weight ranges that are wrong until the first training step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from tfcompact.backend import keras, tf, tfmot
from tfcompact.errors import UserError
from tfcompact.graph import calls, rewrite, tensors
from tfcompact.models.layers import CUSTOM, ChannelShuffle, ChannelSlice, Scale, ShiftedReLU6, register
from tfcompact.types import Normalization

L = keras.layers
Wrapper = tfmot.quantization.keras.QuantizeWrapperV2
CUSTOM["QuantizeWrapperV2"] = Wrapper
INPUT = "image_quantized"
SIGMOID = (0.0, 255 / 256)
"""The range of a sigmoid's output, a step of 1/256 (TFLite 8-bit specification, LOGISTIC)."""


@register
class KernelQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """Rounds a kernel to 8 bits, symmetric, with a range of its own for every index along `axis`.

    The range is that of the weights as they are, at every call, so it is never stale. Gradients pass unchanged.
    """

    def __init__(self, axis: int):
        self.axis = axis

    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        step = tf.stop_gradient(_steps(inputs, self.axis))
        return tf.grad_pass_through(lambda kernel: tf.round(kernel / step) * step)(inputs)

    def get_config(self):
        return {"axis": self.axis}


@register
class BiasQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """Rounds a bias to a whole number of (input step x kernel step), the unit in which TFLite adds it up.

    Small as it is, this rounding is what makes file and network agree: without it, one value in a thousand comes
    out a step apart after the first layer, and every further layer multiplies such differences.
    `input_step` is a variable that `calibrate` sets; at 0, before that, nothing is rounded.
    """

    def __init__(self, axis: int):
        self.axis = axis

    def build(self, tensor_shape, name, layer):
        step = layer.add_weight("input_step", initializer="zeros", trainable=False)
        return {"input_step": step, "kernel": layer._weight_vars[0][0]}  # the kernel's quantizer comes first

    def __call__(self, inputs, training, weights, **kwargs):
        unit = weights["input_step"] * tf.reshape(_steps(weights["kernel"], self.axis), [-1])
        rounded = tf.where(unit > 0, tf.round(inputs / tf.where(unit > 0, unit, 1.0)) * unit, inputs)
        return inputs + tf.stop_gradient(rounded - inputs)

    def get_config(self):
        return {"axis": self.axis}


@register
class RangeQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """Rounds a tensor to 8 bits over [output_min, output_max], variables that `calibrate` sets and training keeps.

    Values outside are clipped, and pass no gradient; zero is always representable.
    """

    def build(self, tensor_shape, name, layer):
        def bound(end: str, value: float):
            return layer.add_weight(f"{name}_{end}", initializer=keras.initializers.Constant(value), trainable=False)

        return {"min_var": bound("min", -6.0), "max_var": bound("max", 6.0)}

    def __call__(self, inputs, training, weights, **kwargs):
        return tf.quantization.fake_quant_with_min_max_vars(inputs, weights["min_var"], weights["max_var"])

    def get_config(self):
        return {}


@register
class LayerQuantization(tfmot.quantization.keras.QuantizeConfig):
    """What is quantized of one layer: its kernel along `kernel_axis` (None: nothing), and its output if `output`."""

    def __init__(self, kernel_axis: int | None, output: bool):
        self.kernel_axis, self.output = kernel_axis, output

    def get_weights_and_quantizers(self, layer):
        if self.kernel_axis is None:
            return []
        pairs = [(getattr(layer, _kernel_name(layer)), KernelQuantizer(self.kernel_axis))]
        return pairs + ([(layer.bias, BiasQuantizer(self.kernel_axis))] if layer.use_bias else [])

    def get_activations_and_quantizers(self, layer):
        return []

    def set_quantize_weights(self, layer, quantize_weights):
        for name, value in zip((_kernel_name(layer), "bias"), quantize_weights, strict=False):
            setattr(layer, name, value)

    def set_quantize_activations(self, layer, quantize_activations):
        pass

    def get_output_quantizers(self, layer):
        return [RangeQuantizer()] if self.output else []

    def get_config(self):
        return {"kernel_axis": self.kernel_axis, "output": self.output}


class Rule(NamedTuple):
    """One line of the table: what to do with layers of these classes."""

    layers: tuple[type, ...]
    kernel_axis: int | None  # the axis of the kernel's output channels
    output: str  # "observed": a range of its own; "source": the range of its input; "none": nothing to round


RULES = (  # the first line that fits a layer counts
    Rule((L.DepthwiseConv2D,), 2, "observed"),
    Rule((L.Conv2D, L.Dense), -1, "observed"),
    Rule((L.ReLU, ShiftedReLU6, L.Add, L.Multiply, L.Concatenate, L.GlobalAveragePooling2D, Scale), None, "observed"),
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


def quantized(model: Any) -> Any:
    """A quantization-aware copy of a lowered network: same input and output, every layer rounded as TFLite will.

    Where the only reader of a convolution or addition is a ReLU, or of anything a concatenation, the rounding is the
    reader's: TFLite fuses the first and gives the second's inputs its own scale. Ranges are unset until `calibrate`.
    """
    plan = _plan(model).outputs

    def wrap(layer: Any, x: Any) -> Any:
        if isinstance(layer, L.InputLayer):
            return None
        rule = rule_for(layer)
        x = [_entry(t) for t in x] if isinstance(x, list) else _entry(x)
        copy = layer.__class__.from_config(layer.get_config())
        if rule.kernel_axis is None and layer.name not in plan:
            return copy(x)  # nothing to round, and no weights
        if rule.kernel_axis is not None:  # before the wrapper takes the variables over
            copy.build(x.shape)
            copy.set_weights(layer.get_weights())
        return Wrapper(copy, LayerQuantization(rule.kernel_axis, layer.name in plan), name=layer.name)(x)

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

    return rewrite(model, wrap)


def calibrate(
    qat: Any, model: Any, batches: Iterable[np.ndarray], normalization: Normalization, percentile: float
) -> dict[str, tuple[float, float]]:
    """Sets every range of `qat` from what the layers of `model`, its float parent, give for `batches`; returns them.

    `batches` are normalized images `[n, px, px, 3]`. A range's ends are the mean over batches of the percentiles
    `100 - percentile` and `percentile` (100: minimum and maximum). The image's range is that of its pixels, so that
    a uint8 pixel is its own quantized value.
    """
    plan = _plan(model)
    observed = _observe(model, [name for name, by in plan.outputs.items() if by == name], batches, percentile)
    zero_point, step = grid(normalization)
    ranges = {INPUT: ((0 - zero_point) * step, (255 - zero_point) * step)}
    readers = {layer.name: readers for layer, _, readers in calls(model)}
    layers = {layer.name: layer for layer in model.layers}
    for name, by in plan.outputs.items():
        low, high = observed[by]
        if readers[name] and all(_ignores_below_minus_3(layers[r], readers, layers) for r in readers[name]):
            low = max(low, -3.0)  # x * relu6(x + 3) is 0 from there down: more steps for the rest
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


@register
class FakeQuant(L.Layer):
    """`x` rounded to 8 bits over a fixed range: what the converter reads a tensor's scale from."""

    def __init__(self, low: float, high: float, **kwargs):
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def call(self, x):
        # As in training: `..._min_max_args` breaks ties another way.
        return tf.quantization.fake_quant_with_min_max_vars(x, self.low, self.high)

    def get_config(self):
        return super().get_config() | {"low": self.low, "high": self.high}


def deployable(qat: Any) -> Any:
    """`qat` for the converter: kernels and biases on their grids, a `FakeQuant` at each rounding, no wrapper left.

    A kernel whose largest value per channel lies on the end of its grid gets the same scale again from the converter,
    so nothing is rounded twice, and depthwise kernels become per-channel like the rest.
    """

    def unwrap(layer: Any, x: Any) -> Any:
        if not isinstance(layer, Wrapper):
            return None
        inner = layer.layer.__class__.from_config(layer.layer.get_config())
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
        pairs = zip(_flat(reference(batch)), _flat(rounded(batch)), strict=True)
        for i, (a, b) in enumerate(pairs):
            signal[i] += float(tf.reduce_sum(a * a))
            noise[i] += float(tf.reduce_sum((a - b) ** 2))
    ratio = np.maximum(signal, 1e-30) / np.maximum(noise, 1e-30)
    return {name: round(float(10 * np.log10(r)), 2) for name, r in zip(names, ratio, strict=True)}


class _Plan(NamedTuple):
    """Where a network is rounded. Both tables are by layer name, in topological order."""

    outputs: dict[str, str]  # a layer whose output is rounded -> the layer whose observed range it takes
    source: dict[str, str]  # a layer -> the rounding that its (first) input carries


def _plan(model: Any) -> _Plan:
    outputs: dict[str, str] = {}
    source: dict[str, str] = {}
    carried: dict[str, str] = {}  # a layer -> the rounding that its output carries
    graph = [(layer, sources, readers) for layer, sources, readers in calls(model)]
    layers = {layer.name: layer for layer, _, _ in graph}
    for layer, sources, readers in graph:
        rule = rule_for(layer)
        source[layer.name] = carried[sources[0]] if sources else INPUT
        carried[layer.name] = source[layer.name]
        if rule.output == "observed":
            carried[layer.name] = layer.name
            if not (len(readers) == 1 and _rounds_for(layers[readers[0]], layer)):
                outputs[layer.name] = layer.name
        elif rule.output == "source":
            if source[layer.name] == INPUT:
                raise UserError(f"layer {layer.name} pools the image itself; no rule to quantize that")
            carried[layer.name] = layer.name
            outputs[layer.name] = outputs[source[layer.name]]
    return _Plan(outputs, source)


def _rounds_for(reader: Any, layer: Any) -> bool:
    """Whether TFLite rounds the output of `layer` only once `reader`, its one reader, has worked on it."""
    if isinstance(reader, L.Concatenate):
        return not isinstance(layer, L.AveragePooling2D)
    return isinstance(reader, L.ReLU) and isinstance(layer, (L.Conv2D, L.DepthwiseConv2D, L.Dense, L.Add))


def _ignores_below_minus_3(reader: Any, readers: dict[str, list[str]], layers: dict[str, Any]) -> bool:
    """Whether `reader` is part of a lowered h-swish, or its gate, for which all inputs up to -3 are alike."""
    if isinstance(reader, ShiftedReLU6):
        return True
    sources = [t._keras_history.layer for t in reader.input] if isinstance(reader, L.Multiply) else []
    return any(
        isinstance(s, ShiftedReLU6) and s.input._keras_history.layer in [o for o in sources if o is not s]
        for s in sources
    )


def _observe(
    model: Any, names: list[str], batches: Iterable[np.ndarray], percentile: float
) -> dict[str, tuple[float, float]]:
    probe = tensors(model, names)
    lows, highs = [], []

    @tf.function(reduce_retracing=True)
    def ends(images):
        rows = []
        for values in _flat(probe(images)):
            flat = tf.reshape(values, [-1])
            if percentile < 100:
                # Whole positions: steps through single values could meet one channel only. Odd: not one column.
                positions = tf.reshape(values, [-1, values.shape[-1]])[:: tf.size(flat) // 200_000 * 2 + 1]
                flat = tf.sort(tf.reshape(positions, [-1]))
                last = tf.cast(tf.size(flat) - 1, tf.float32)
                at = tf.cast(tf.round(last * percentile / 100), tf.int32)
                rows.append(tf.stack([flat[tf.size(flat) - 1 - at], flat[at]]))
            else:
                rows.append(tf.stack([tf.reduce_min(flat), tf.reduce_max(flat)]))
        return tf.stack(rows)

    for images in batches:
        low, high = ends(tf.constant(images)).numpy().T
        lows.append(low)
        highs.append(high)
    if not lows:
        raise UserError("no calibration images; give at least one batch")
    join = (np.min, np.max) if percentile == 100 else (np.mean, np.mean)
    low, high = join[0](lows, axis=0), join[1](highs, axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _flat(outputs: Any) -> list[Any]:
    return outputs if isinstance(outputs, (list, tuple)) else [outputs]


def _steps(kernel: Any, axis: int) -> Any:
    """The kernel's quantization step for every index along `axis` and the axes after it, dimensions kept; 1/127 for
    an empty one. (A depthwise kernel is [h, w, channels, multiplier], and its outputs are the last two.)"""
    others = list(range(axis % kernel.shape.rank))
    largest = tf.reduce_max(tf.abs(kernel), others, keepdims=True)
    return tf.where(largest > 0, largest, 1.0) / 127


def _kernel_name(layer: Any) -> str:
    return "depthwise_kernel" if isinstance(layer, L.DepthwiseConv2D) else "kernel"
