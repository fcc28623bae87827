"""Rewrites that leave a network's function alone and make its int8 form faster: every one is proved equal in tests.

`fold_batch_norm` puts batch normalization into the convolution before it, `pool_first` a pooling before a 1x1
convolution. `lower_gates` writes h-swish and h-sigmoid as operations that XNNPACK takes: `x * relu6(x + 3)` without
the 1/6, which goes into the kernels of whatever convolution reads the result. (A constant 1/6 left in the graph is
fused by the converter into HARD_SWISH, an operator that XNNPACK leaves out: it cut MobileNetV3-Small into 20
partitions.) `renormalized` is for networks whose images were normalized in a way that 8 bits cannot have.
"""

from __future__ import annotations

import numpy as np

from tfcompact.errors import UserError
from tfcompact.frameworks import BatchNormalization, Inputs, Layer, Model, Tensor, keras
from tfcompact.models.layers import ChannelShuffle, ChannelSlice, HSigmoid, HSwish, Scale, ShiftedReLU6
from tfcompact.networks.kinds import is_convolution, is_full_convolution, is_linear
from tfcompact.networks.rewrite import calls, calls_by_name, copied, layer_of, output_names, rewrite
from tfcompact.records.artifact import Normalization


def lower(model: Model) -> Model:
    """`model` in the form that is quantized and shipped, as a new network of the same input and output.

    It has no batch normalization after a convolution, no h-swish, and pools before 1x1 convolutions.
    """
    return lower_gates(pool_first(fold_batch_norm(model)))


def fold_batch_norm(model: Model) -> Model:
    """`model` with each batch normalization that directly follows a convolution folded into it, as its bias.

    Any other (DenseNet's and NASNet's, before their convolutions) becomes a depthwise 1x1 convolution with bias: one
    operator, with which a ReLU that follows is fused.
    """
    rows = calls_by_name(model)
    seen_outside = output_names(model)
    folded: dict[str, BatchNormalization] = {}  # the convolution's name -> the batch normalization it absorbs
    for layer, sources, _ in rows.values():
        if isinstance(layer, keras.layers.BatchNormalization) and len(sources) == 1:
            before, _, readers = rows[sources[0]]
            alone = readers == [layer.name] and before.name not in seen_outside
            if is_convolution(before) and is_linear(before) and alone:
                folded[before.name] = layer
    absorbed = {layer.name for layer in folded.values()}

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        if layer.name in absorbed:
            return x
        if isinstance(layer, keras.layers.BatchNormalization) and len(x.shape) == 4:
            scale, shift = _affine(layer)
            return _affine_layer(layer.name, x, scale, shift)
        if layer.name not in folded:
            return None
        kernel, bias = _kernel_and_bias(layer)
        scale, shift = _affine(folded[layer.name])
        return _with_weights(layer, x, kernel * _per_output_channel(layer, scale), bias * scale + shift)

    return rewrite(model, rule)


def pool_first(model: Model) -> Model:
    """`model` with average pooling before the 1x1 convolution that it followed, where it makes the image smaller.

    Both are linear, and the mean of a constant bias is the bias, so they can change places; DenseNet's transitions
    then convolve a quarter of the positions.
    """
    rows = calls_by_name(model)
    seen_outside = output_names(model)
    later: dict[str, Layer] = {}  # the pooling's name -> the convolution that is to come after it
    for layer, sources, _ in rows.values():
        if not isinstance(layer, keras.layers.AveragePooling2D) or max(layer.strides) == 1:
            continue
        before, _, readers = rows[sources[0]]
        pointwise = is_full_convolution(before) and before.kernel_size == before.strides == (1, 1)
        alone = readers == [layer.name] and before.name not in seen_outside
        if pointwise and is_linear(before) and alone:
            later[layer.name] = before
    moved = {before.name for before in later.values()}

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        if layer.name in moved:
            return x
        if layer.name not in later:
            return None
        convolution = later[layer.name]
        return _with_weights(convolution, copied(layer, x), *_kernel_and_bias(convolution))

    return rewrite(model, rule)


def renormalized(model: Model, old: Normalization, new: Normalization) -> Model:
    """`model`, made for images normalized by `old`, as the same function of images normalized by `new` (both RGB).

    An image in `old` is one in `new`, scaled and shifted by channel. A stem without padding takes that into its
    kernel and bias; with padding it cannot (its zeros would move too), and a depthwise 1x1 convolution,
    `image_affine`, goes before it.
    """
    mean, std = (np.broadcast_to(np.array(v, np.float64), 3) for v in (old.mean, old.std))
    scale = np.array(new.std) / std
    shift = (np.array(new.mean) - mean) / std
    rows = calls_by_name(model)
    (image,) = [row for row in rows.values() if not row.sources]
    absorbing = all(_is_unpadded(rows[name].layer) for name in image.readers)
    made: list[Tensor] = []

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        if layer.name not in image.readers:
            return None
        if absorbing:
            kernel, bias = _kernel_and_bias(layer)  # [kh, kw, 3, out]
            bias = bias + np.einsum("hwio,i->o", kernel, shift)
            return _with_weights(layer, x, kernel * scale[:, np.newaxis], bias)
        if not made:
            made.append(_affine_layer("image_affine", x, scale, shift))
        return copied(layer, made[0])

    return rewrite(model, rule)


def lower_gates(model: Model) -> Model:
    """`model` with h-swish and h-sigmoid as ADD, RELU6 and MUL, and their 1/6 in the next convolution's kernel.

    Swish becomes a sigmoid and a MUL, which is what TFLite makes of it: so both are rounded in training.

    A tensor of the new graph may so hold a multiple of what it held before. The factor travels through operations
    that commute with it, until a convolution or dense layer divides its kernel by it; where neither is possible a
    `Scale` layer does it.
    """
    outputs = output_names(model)
    readers_of = {layer.name: readers for layer, _, readers in calls(model)}
    used: set[str] = set()
    factor_of: dict[int, float] = {}
    alive: list[Tensor] = []  # keeps tensors from being freed, so that their ids stay theirs

    def factor(x: Tensor) -> float:
        return factor_of.get(id(x), 1.0)

    def carrying(x: Tensor, value: float) -> Tensor:
        factor_of[id(x)] = value
        alive.append(x)
        return x

    def may_grow(layer: Layer, reader: str) -> bool:
        """Whether `layer`, of the new graph, may give a multiple of its values, since only `reader` sees them."""
        alone = readers_of.get(layer.name) == [reader] and layer.name not in outputs
        return (is_convolution(layer) or isinstance(layer, keras.layers.Dense)) and is_linear(layer) and alone

    def plain(x: Tensor, name: str) -> Tensor:
        """`x` without its factor."""
        return x if factor(x) == 1.0 else Scale(1 / factor(x), name=f"{name}_unscale")(x)

    def rule(layer: Layer, x: Inputs) -> Tensor | None:
        out = replacement(layer, x)
        if out is not None:
            if layer.name in used:
                raise UserError(
                    f"layer {layer.name} is used twice, behind a gate; lowering needs a layer for each use"
                )
            used.add(layer.name)
        return plain(out, layer.name) if out is not None and layer.name in outputs else out

    def replacement(layer: Layer, x: Inputs) -> Tensor | None:
        if isinstance(layer, HSwish):
            x = plain(x, layer.name)
            gate = ShiftedReLU6(name=f"{layer.name}_gate")(x)
            return carrying(keras.layers.Multiply(name=layer.name)([x, gate]), 6.0)
        if isinstance(layer, HSigmoid):
            return carrying(ShiftedReLU6(name=layer.name)(plain(x, layer.name)), 6.0)
        if isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.swish:
            x = plain(x, layer.name)
            gate = keras.layers.Activation("sigmoid", name=f"{layer.name}_gate")(x)
            return keras.layers.Multiply(name=layer.name)([x, gate])
        inputs = x if isinstance(x, list) else [x]
        factors = [factor(t) for t in inputs]
        if set(factors) == {1.0}:
            return None
        if is_convolution(layer) or isinstance(layer, keras.layers.Dense):
            kernel, bias = _kernel_and_bias(layer)
            return _with_weights(layer, x, kernel / factors[0], bias)
        if isinstance(layer, keras.layers.Multiply):
            return carrying(copied(layer, x), float(np.prod(factors)))
        if isinstance(layer, keras.layers.Add) and set(factors) == {1.0, max(factors)}:
            # 1/6 of one side, beside its gate, would be HARD_SWISH again.
            others = [layer_of(t) for t, f in zip(inputs, factors, strict=True) if f == 1.0]
            if all(may_grow(other, layer.name) for other in others):
                for other in others:
                    other.set_weights([w * max(factors) for w in other.get_weights()])
                return carrying(copied(layer, x), max(factors))
        if _commutes(layer) and len(set(factors)) == 1:
            return carrying(copied(layer, x), factors[0])
        plain_inputs = [plain(t, f"{layer.name}_{i}") for i, t in enumerate(inputs)]
        return copied(layer, plain_inputs if isinstance(x, list) else plain_inputs[0])

    return rewrite(model, rule)


def _commutes(layer: Layer) -> bool:
    """Whether `layer(f * x) == f * layer(x)` for every f > 0."""
    if isinstance(layer, keras.layers.ReLU):
        return layer.max_value is None and layer.threshold == 0
    return isinstance(
        layer,
        (
            keras.layers.Add,
            keras.layers.AveragePooling2D,
            keras.layers.Concatenate,
            keras.layers.Cropping2D,
            keras.layers.Dropout,
            keras.layers.Flatten,
            keras.layers.GlobalAveragePooling2D,
            keras.layers.MaxPooling2D,
            keras.layers.Reshape,
            keras.layers.ZeroPadding2D,
            ChannelShuffle,
            ChannelSlice,
        ),
    )


def _is_unpadded(layer: Layer) -> bool:
    """Whether it is a convolution of all channels that sees nothing but the image."""
    return is_full_convolution(layer) and layer.padding == "valid" and layer.groups == 1


def _kernel_and_bias(layer: Layer) -> tuple[np.ndarray, np.ndarray | float]:
    """The kernel of a convolution or dense layer, and its bias, or 0 where it has none."""
    kernel, *bias = layer.get_weights()
    return kernel, bias[0] if bias else 0.0


def _affine(norm: BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of each channel, with which batch normalization at inference is `scale * x + shift`."""
    mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    scale = (norm.gamma.numpy() if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    return scale, (norm.beta.numpy() if norm.center else 0.0) - mean * scale


def _per_output_channel(layer: Layer, values: np.ndarray) -> np.ndarray:
    """`values` in the shape that multiplies the kernel: [kh, kw, c, m] if depthwise, else [kh, kw, in, out]."""
    return values.reshape(-1, layer.depth_multiplier) if isinstance(layer, keras.layers.DepthwiseConv2D) else values


def _affine_layer(name: str, x: Tensor, scale: np.ndarray, shift: np.ndarray) -> Tensor:
    """`scale * x + shift` for each channel, by a depthwise 1x1 convolution."""
    layer = keras.layers.DepthwiseConv2D(1, name=name)
    out = layer(x)
    layer.set_weights([scale.reshape(1, 1, -1, 1), shift])
    return out


def _with_weights(layer: Layer, x: Tensor, kernel: np.ndarray, bias: np.ndarray | float) -> Tensor:
    """What `layer` with this kernel and bias gives for `x`."""
    weights = [kernel] if isinstance(bias, float) else [kernel, bias]
    return copied(layer, x, options={"use_bias": len(weights) > 1}, weights=weights)
