"""How each kind of layer is quantized to 8 bits: the one table of rules, calibration, and the way out.

`quantized(model)` wraps a lowered network's layers in tfmot's `QuantizeWrapperV2`; `calibrate` sets the ranges from
what is observed; `deployable` gives the network that the converter turns into integers.

tfmot's own 8-bit scheme is not used for three reasons: it quantizes depthwise kernels per tensor, its ranges start
at +-6 and forget that slowly, and it stores weight ranges that are wrong until the first training step.
"""

from __future__ import annotations

from typing import Any

from tfcompact.compress.quantization.plan import Plan, rounding_plan
from tfcompact.compress.quantization.quantizers import (
    FakeQuant,
    LayerQuantization,
    Wrapper,
    learned_ends,
    shift_bounds,
)
from tfcompact.compress.quantization.rules import INPUT, L, rule_for
from tfcompact.models.layers import ChannelShift
from tfcompact.networks.rewrite import rewrite


def quantized(model: Any, *, learn_ranges: bool = False) -> Any:
    """A quantization-aware copy of a lowered network: same input and output, every layer rounded as TFLite will.

    Where the only reader of a convolution or addition is a ReLU, or of anything a concatenation, the rounding is the
    reader's: TFLite fuses the first and gives the second's inputs its own scale. Ranges are unset until `calibrate`.

    With `learn_ranges` training moves the ranges too, all but the image's and the sigmoids'. A range that two layers
    share is learned once. Such a network is for training only: `settled` gives what is saved.
    """
    whole_plan = rounding_plan(model)
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
    plan = rounding_plan(model)
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


def _learned_inputs(qat: Any, plan: Plan) -> dict[str, Any]:
    """For each layer with a bias whose input's range is learned, the variables of that range."""
    found = {}
    for layer in qat.layers:
        if isinstance(layer, Wrapper) and len(layer._weight_vars) > 1:
            source = qat.get_layer(plan.outputs.get(plan.source[layer.name], INPUT))
            if source.quantize_config.learned:
                found[layer.name] = source._output_quantizer_vars
    return found
