"""What rounds kernels, biases and activations in training, as TFLite's integers will be rounded.

The arithmetic is TFLite's (arXiv:1712.05877; the TFLite 8-bit specification): activations asymmetric per tensor,
kernels symmetric per output channel in [-127, 127], biases in 32 bits. Which layer gets which, `rules` and `wrapping`
say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tfcompact.frameworks import Layer, LayerConfig, Tensor, Variable, keras, tf, tfmot
from tfcompact.models.layers import CUSTOM, ChannelShift, register

L = keras.layers
Wrapper = tfmot.quantization.keras.QuantizeWrapperV2
CUSTOM["QuantizeWrapperV2"] = Wrapper

Variables = dict[str, Variable]


class Quantizer(Protocol):
    """What rounds a kernel, a bias or an output, with the variables that its `build` has made."""

    def __call__(self, inputs: Tensor, training: bool, weights: Variables) -> Tensor: ...


class Wrapped(Layer, Protocol):
    """A layer in a `Wrapper`, which has the layer's name; `rounded_layers` reads and sets what is in it."""

    layer: Layer
    quantize_config: LayerQuantization
    _weight_vars: list[tuple[Variable, Quantizer, Variables]]
    _output_quantizers: list[RangeQuantizer]
    _output_quantizer_vars: Variables

    def add_weight(self, name: str, **options: object) -> Variable: ...


@register
class KernelQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """Rounds a kernel to 8 bits, symmetric, with a range of its own for every index along `axis`.

    The range is that of the weights as they are, at every call, so it is never stale. Gradients pass unchanged.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def build(self, tensor_shape: tuple[int, ...], name: str, layer: Wrapped) -> Variables:
        return {}

    def __call__(self, inputs: Tensor, training: bool, weights: Variables, **options: object) -> Tensor:
        step = tf.stop_gradient(kernel_steps(inputs, self.axis))
        return tf.grad_pass_through(lambda kernel: tf.round(kernel / step) * step)(inputs)

    def get_config(self) -> LayerConfig:
        return {"axis": self.axis}


@register
class BiasQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """Rounds a bias to a whole number of (input step x kernel step), the unit in which TFLite adds it up.

    Small as it is, this rounding is what makes file and network agree: without it, one value in a thousand comes
    out a step apart after the first layer, and every further layer multiplies such differences.
    `input_step` is a variable that `calibrate` sets; at 0, before that, nothing is rounded. Where the range of the
    input is learned, the step is that of `input_range` instead, as it is at every call.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.input_range: Variables | None = None  # the variables of a learned `RangeQuantizer`

    def build(self, tensor_shape: tuple[int, ...], name: str, layer: Wrapped) -> Variables:
        step = layer.add_weight("input_step", initializer="zeros", trainable=False)
        return {"input_step": step, "kernel": layer._weight_vars[0][0]}  # the kernel's quantizer comes first

    def __call__(self, inputs: Tensor, training: bool, weights: Variables, **options: object) -> Tensor:
        step: Tensor = weights["input_step"]
        if self.input_range is not None:
            low, high = learned_ends(self.input_range)
            step = (high - low) / 255
        unit = step * tf.reshape(kernel_steps(weights["kernel"], self.axis), [-1])
        rounded = tf.where(unit > 0, tf.round(inputs / tf.where(unit > 0, unit, 1.0)) * unit, inputs)
        return inputs + tf.stop_gradient(rounded - inputs)

    def get_config(self) -> LayerConfig:
        return {"axis": self.axis}


@register
class ShiftQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """Rounds the numbers of a `ChannelShift` to 8 bits over their own range, as it is at every call."""

    def build(self, tensor_shape: tuple[int, ...], name: str, layer: Wrapped) -> Variables:
        return {}

    def __call__(self, inputs: Tensor, training: bool, weights: Variables, **options: object) -> Tensor:
        low, high = shift_bounds(inputs)
        return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)

    def get_config(self) -> LayerConfig:
        return {}


def shift_bounds(shift: Tensor) -> tuple[Tensor, Tensor]:
    """The range over which a `ChannelShift` is rounded; 0 is in it, as TFLite wants."""
    return tf.minimum(tf.reduce_min(shift), 0.0), tf.maximum(tf.reduce_max(shift), 1e-3)


@register
class RangeQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """Rounds a tensor to 8 bits over [output_min, output_max], variables that `calibrate` sets and training keeps.

    Values outside are clipped, and pass no gradient; zero is always representable. If `learned`, each end is its
    variable times a factor that is trained; `settled` gives a network whose variables hold the product. A factor is
    positive, so that an end at 0 stays there and neither crosses it.
    """

    def __init__(self, learned: bool = False) -> None:
        self.learned = learned
        self.follows: Variables | None = None  # the variables of another one, whose range is this one's too

    def build(self, tensor_shape: tuple[int, ...], name: str, layer: Wrapped) -> Variables:
        def bound(end: str, value: float) -> Variable:
            return layer.add_weight(f"{name}_{end}", initializer=keras.initializers.Constant(value), trainable=False)

        variables = {"min_var": bound("min", -6.0), "max_var": bound("max", 6.0)}
        if self.learned:
            for end in ("min", "max"):
                variables[f"{end}_log"] = layer.add_weight(f"{name}_{end}_log", initializer="zeros")
        return variables

    def __call__(self, inputs: Tensor, training: bool, weights: Variables, **options: object) -> Tensor:
        weights = self.follows or weights
        if "min_log" in weights:
            return rounded_and_learned(inputs, *learned_ends(weights))
        return tf.quantization.fake_quant_with_min_max_vars(inputs, weights["min_var"], weights["max_var"])

    def get_config(self) -> LayerConfig:
        return {"learned": True} if self.learned else {}


@register
class LayerQuantization(tfmot.quantization.keras.QuantizeConfig):
    """What is quantized of one layer: its kernel along `kernel_axis` (None: nothing), and its output if `output`.

    The output's range is trained if `learned`.
    """

    def __init__(self, kernel_axis: int | None, output: bool, learned: bool = False) -> None:
        self.kernel_axis, self.output, self.learned = kernel_axis, output, learned

    def get_weights_and_quantizers(self, layer: Layer) -> Sequence[tuple[Variable, Quantizer]]:
        if isinstance(layer, ChannelShift):
            return [(layer.shift, ShiftQuantizer())]
        if self.kernel_axis is None:
            return []
        kernel = getattr(layer, kernel_name(layer)), KernelQuantizer(self.kernel_axis)
        bias = getattr(layer, "bias", None)
        return [kernel] if bias is None else [kernel, (bias, BiasQuantizer(self.kernel_axis))]

    def get_activations_and_quantizers(self, layer: Layer) -> list[object]:
        return []

    def set_quantize_weights(self, layer: Layer, quantize_weights: list[Tensor]) -> None:
        if isinstance(layer, ChannelShift):
            (layer.shift,) = quantize_weights
            return
        for name, value in zip((kernel_name(layer), "bias"), quantize_weights, strict=False):
            setattr(layer, name, value)

    def set_quantize_activations(self, layer: Layer, quantize_activations: list[object]) -> None:
        pass

    def get_output_quantizers(self, layer: Layer) -> list[RangeQuantizer]:
        return [RangeQuantizer(self.learned)] if self.output else []

    def get_config(self) -> LayerConfig:
        learned = {"learned": True} if self.learned else {}
        return {"kernel_axis": self.kernel_axis, "output": self.output} | learned


@register
class FakeQuant(keras.layers.Layer):
    """`x` rounded to 8 bits over a fixed range: what the converter reads a tensor's scale from."""

    def __init__(self, low: float, high: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def call(self, x: Tensor) -> Tensor:
        # As in training: `..._min_max_args` breaks ties another way.
        return tf.quantization.fake_quant_with_min_max_vars(x, self.low, self.high)

    def get_config(self) -> LayerConfig:
        return super().get_config() | {"low": self.low, "high": self.high}


RANGE_RATE = 10.0
"""How much faster than a weight the logarithm of an end is trained: Adam moves any variable by about the learning
rate a step, and a range is to change by a few percent in a short training (arXiv:1903.08066 gives thresholds a
learning rate of their own for that, 1e-2 against 1e-6 for weights)."""


def learned_ends(variables: Variables) -> tuple[Tensor, Tensor]:
    """A range's ends as they are now; of one that is not learned, its variables."""
    if "min_log" not in variables:
        return variables["min_var"], variables["max_var"]
    low, high = (variables[f"{end}_var"] * tf.exp(RANGE_RATE * variables[f"{end}_log"]) for end in ("min", "max"))
    return low, high


@tf.custom_gradient
def rounded_and_learned(x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Callable[..., tuple[Tensor, ...]]]:
    """`x` rounded to 8 bits over [low, high], with the gradients of both ends.

    TensorFlow's own gradients come from clipped values alone, so that they only ever widen a range to where nothing
    is clipped (arXiv:1903.08066). What a wider step does to the values inside belongs to them: of
    `round(x / step) * step` it is the rounding error over the step (arXiv:1902.08153, equation 3), here shared by the
    two ends as in arXiv:2004.09576. They are scaled by 1 / sqrt(values * 255) (arXiv:1902.08153, section 2.2), so
    that sums over whole tensors do not outweigh the weights where gradients are clipped by their common norm.
    """
    rounded = tf.quantization.fake_quant_with_min_max_vars(x, low, high)

    def gradients(upstream: Tensor) -> tuple[Tensor, ...]:
        through, to_low, to_high = tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
            gradients=upstream, inputs=x, min=low, max=high
        )
        inside = tf.reduce_sum(through * (rounded - x)) / (high - low)
        scale = tf.math.rsqrt(255.0 * tf.cast(tf.size(x) / tf.shape(x)[0], tf.float32))
        return through, scale * (to_low - inside), scale * (to_high + inside)

    return rounded, gradients


def kernel_steps(kernel: Tensor, axis: int) -> Tensor:
    """The kernel's quantization step for every index along `axis` and the axes after it, dimensions kept.

    It is 1/127 where all weights are 0. (A depthwise kernel is [h, w, channels, multiplier], and its outputs are the
    last two.)
    """
    others = list(range(axis % len(kernel.shape)))
    largest = tf.reduce_max(tf.abs(kernel), others, keepdims=True)
    return tf.where(largest > 0, largest, 1.0) / 127


def kernel_name(layer: Layer) -> str:
    """The name of the attribute that is the kernel of a convolution or dense layer."""
    return "depthwise_kernel" if isinstance(layer, L.DepthwiseConv2D) else "kernel"
