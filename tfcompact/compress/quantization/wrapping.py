"""A lowered network with everything rounded that its 8-bit file will round, and the way from there to the converter.

`quantized` wraps the layers in tfmot's `QuantizeWrapperV2`, `calibration.calibrate` sets the ranges from what is
observed, `deployable` gives the network that the converter turns into integers.

tfmot's own 8-bit scheme is not used for three reasons: it quantizes depthwise kernels per tensor, its ranges start
at +-6 and forget that slowly, and it stores weight ranges that are wrong until the first training step.
"""

from __future__ import annotations

from tfcompact.compress.quantization.pixel_grid import INPUT
from tfcompact.compress.quantization.plan import Plan, rounding_plan
from tfcompact.compress.quantization.quantizers import (
    FakeQuant,
    LayerQuantization,
    Variables,
    Wrapper,
    learned_ends,
    shift_bounds,
)
from tfcompact.compress.quantization.rounded_layers import (
    bias_variables,
    exact_weights,
    follow_input,
    has_bias,
    output_range,
    range_variables,
    rounded_layer,
    rounded_layers,
    rounded_weights,
    set_output_range,
    share_range,
)
from tfcompact.compress.quantization.rules import rule_for
from tfcompact.frameworks import Inputs, Layer, Model, Tensor, keras
from tfcompact.models.layers import ChannelShift
from tfcompact.networks.rewrite import copied, layer_of, rewrite

L = keras.layers


def quantized(model: Model, *, learn_ranges: bool = False) -> Model:
    """A quantization-aware copy of a lowered network: same input and output, every layer rounded as TFLite will.

    Where the only reader of a convolution or addition is a ReLU, or of anything a concatenation, the rounding is the
    reader's: TFLite fuses the first and gives the second's inputs its own scale. Ranges are unset until `calibrate`.

    With `learn_ranges` training moves the ranges too, all but the image's and the sigmoids'. A range that two layers
    share is learned once. Such a network is for training only: `settled` gives what is saved. It was tried: in two
    epochs, learned ranges gain nothing over fixed ones (docs/results.md, "Ways to 8 bits").
    """
    plan = rounding_plan(model)
    entries: dict[int, Tensor] = {}

    def entry(x: Tensor) -> Tensor:
        """`x`, or where it is the image itself, the image rounded to 8 bits."""
        if not isinstance(layer_of(x), L.InputLayer):
            return x
        if id(x) not in entries:
            pixels = L.Activation("linear", name="pixels")
            entries[id(x)] = Wrapper(pixels, LayerQuantization(None, True), name=INPUT)(x)
        return entries[id(x)]

    def wrap(layer: Layer, x: Inputs) -> Tensor | None:
        if isinstance(layer, L.InputLayer):
            return None
        rule = rule_for(layer)
        x = [entry(t) for t in x] if isinstance(x, list) else entry(x)
        has_weights = rule.kernel_axis is not None or isinstance(layer, ChannelShift)
        if not has_weights and layer.name not in plan.outputs:
            return copied(layer, x)  # nothing to round
        copy = layer.__class__.from_config(layer.get_config())
        if has_weights:  # before the wrapper takes the variables over
            copy.build(x.shape)
            copy.set_weights(layer.get_weights())
        own = plan.outputs.get(layer.name) == layer.name
        learned = learn_ranges and own and not isinstance(layer, L.Activation)
        quantization = LayerQuantization(rule.kernel_axis, layer.name in plan.outputs, learned)
        return Wrapper(copy, quantization, name=layer.name)(x)

    qat = rewrite(model, wrap)
    if learn_ranges:
        for name, by in plan.outputs.items():
            if by != name:
                share_range(rounded_layer(qat, name), rounded_layer(qat, by))
        for name, variables in _learned_inputs(qat, plan).items():
            follow_input(rounded_layer(qat, name), variables)
    return qat


def settled(qat: Model, model: Model) -> Model:
    """What `qat`, made by `quantized(model, learn_ranges=True)`, has become: the same network with its ranges fixed.

    It gives the same outputs to the bit, comes back from disk, and is what `deployable` takes.
    """
    fixed = quantized(model)
    for layer in rounded_layers(fixed):
        learned = rounded_layer(qat, layer.name)
        for variable, value in zip(exact_weights(layer), exact_weights(learned), strict=True):
            variable.assign(value)
        if layer.quantize_config.output:
            set_output_range(layer, *learned_ends(range_variables(learned)))
        if has_bias(layer):
            bias_variables(layer)["input_step"].assign(bias_variables(learned)["input_step"])
    for name, variables in _learned_inputs(qat, rounding_plan(model)).items():
        low, high = learned_ends(variables)
        bias_variables(rounded_layer(fixed, name))["input_step"].assign((high - low) / 255)
    return fixed


def ranges_of(qat: Model) -> dict[str, tuple[float, float]]:
    """The range of every layer of `qat` whose output is rounded, by name."""
    return {layer.name: output_range(layer) for layer in rounded_layers(qat) if layer.quantize_config.output}


def deployable(qat: Model) -> Model:
    """`qat` for the converter: kernels and biases on their grids, a `FakeQuant` at each rounding, no wrapper left.

    A kernel whose largest value per channel lies on the end of its grid gets the same scale again from the converter,
    so nothing is rounded twice, and depthwise kernels become per-channel like the rest.
    """

    def unwrap(layer: Layer, x: Inputs) -> Tensor | None:
        if not isinstance(layer, Wrapper):
            return None
        options = {}
        if isinstance(layer.layer, ChannelShift):
            options["bounds"] = tuple(float(end) for end in shift_bounds(exact_weights(layer)[0]))
        out = copied(layer.layer, x, options=options, weights=rounded_weights(layer))
        if layer.quantize_config.output:
            low, high = output_range(layer)
            out = FakeQuant(low, high, name=f"{layer.name}_8bit")(out)
        return out

    return rewrite(qat, unwrap)


def _learned_inputs(qat: Model, plan: Plan) -> dict[str, Variables]:
    """For each layer with a bias whose input's range is learned, the variables of that range."""
    found = {}
    for layer in rounded_layers(qat):
        if has_bias(layer):
            source = rounded_layer(qat, plan.outputs.get(plan.source[layer.name], INPUT))
            if source.quantize_config.learned:
                found[layer.name] = range_variables(source)
    return found
