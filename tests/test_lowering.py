"""Rewrites that must leave the function alone: proved on all three architectures and branch by branch."""

import collections

import numpy as np
import pytest

from tfcompact import models
from tfcompact.compress.quantization import calibration, lowering, pixel_grid, rules, wrapping
from tfcompact.data.images import normalize
from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.models.layers import HSigmoid, HSwish, Scale, ShiftedReLU6
from tfcompact.networks import rewrite
from tfcompact.records.artifact import Normalization

L = keras.layers
PX = 75


def randomize(model):
    """BN statistics and biases that are anything but 0 and 1: a rewrite that drops one would be seen."""
    rng = np.random.default_rng(7)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.5, shape))
            layer.moving_variance.assign(rng.uniform(0.3, 2.0, shape))
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.5, 1.5, shape))
            if layer.center:
                layer.beta.assign(rng.normal(0, 0.5, shape))
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.normal(0, 0.5, layer.bias.shape))
    return model


def images(shape, count: int = 4) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 2, (count, *shape)).astype(np.float32)


def assert_same(rewritten, model, relative: float = 2e-5) -> None:
    """Equal up to float32 rounding: `relative` of the largest output."""
    x = images(model.input_shape[1:])
    for ours, theirs in zip(tf.nest.flatten(rewritten(x)), tf.nest.flatten(model(x)), strict=True):
        assert np.abs(theirs).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=relative * np.abs(theirs).max())


def kinds(model) -> collections.Counter:
    return collections.Counter(type(layer).__name__ for layer in model.layers)


@pytest.fixture(scope="module", params=["mobilenet_v2_0.35", "mobilenet_v3_small", "inception_v3"])
def network(request):
    return randomize(models.build(request.param, px=PX, classes=5, aux=True))


def test_the_whole_lowering_leaves_the_function_alone(network) -> None:
    weights = [w.copy() for w in network.get_weights()]
    low = lowering.lower(network)
    assert_same(low, network)
    assert all(map(np.array_equal, weights, network.get_weights()))
    found, before = kinds(low), kinds(network)
    assert not found["BatchNormalization"] + found["HSwish"] + found["HSigmoid"] + found["Scale"]
    assert found["ShiftedReLU6"] == before["HSwish"] + before["HSigmoid"]
    assert [t.shape for t in low.outputs] == [t.shape for t in network.outputs]
    assert rewrite.cost(low).macs == rewrite.cost(network).macs
    assert _convolutions(low) == _convolutions(network)


def test_lowering_twice_changes_nothing_more() -> None:
    low = lowering.lower(_swish_and_excite())
    assert kinds(lowering.lower(low)) == kinds(low)


# Each small network is one way through the rules, and how many Scale layers it may cost.


def _conv(x, c: int = 4, **options):
    return L.Conv2D(c, 3, padding="same", **options)(x)


def gate_before_add(x):
    """6x meets 1x: the other end's convolution gives 6x too."""
    return _conv(L.Add()([HSwish()(_conv(x)), _conv(x)]))


def gate_before_add_of_the_image(x):
    """6x meets what no convolution gave: one end has to be divided."""
    return _conv(L.Add()([HSwish()(_conv(x, 3)), x]))


def gates_on_both_ends_of_add(x):
    return _conv(L.Add()([HSwish()(_conv(x)), HSwish()(_conv(x))]))


def swish_into_pool_into_dense(x):
    x = L.Dropout(0.2)(L.GlobalAveragePooling2D()(HSwish()(_conv(x))))
    return L.Dense(3, bias_initializer="ones")(x)


def swish_into_everything_that_commutes(x):
    x = HSwish()(_conv(x))
    x = L.ReLU()(L.ZeroPadding2D()(x))
    x = L.Concatenate()([L.MaxPooling2D(2)(x), L.AveragePooling2D(2)(x)])
    return L.Dense(3)(L.Flatten()(L.Reshape((-1, 2))(x)))


def swish_into_leaky_relu(x):
    return _conv(L.ReLU(negative_slope=0.1)(HSwish()(_conv(x))))


def swish_into_relu6(x):
    """min(6, 6x) is not 6 min(6, x)."""
    return _conv(L.ReLU(6.0)(HSwish()(_conv(x))))


def swish_into_thresholded_relu(x):
    return _conv(L.ReLU(threshold=0.5)(HSwish()(_conv(x))))


def swish_into_swish(x):
    return _conv(HSwish()(HSwish()(_conv(x))))


def swish_into_sigmoid_gate(x):
    """Squeeze-and-excite after h-swish: 6x times 6g is 36 times as much."""
    x = HSwish()(_conv(x))
    s = L.GlobalAveragePooling2D(keepdims=True)(x)
    s = HSigmoid()(L.Conv2D(4, 1)(L.ReLU()(L.Conv2D(2, 1)(s))))
    return _conv(L.Multiply()([x, s]))


def gate_into_depthwise(x):
    return L.DepthwiseConv2D(3, padding="same", bias_initializer="ones")(HSwish()(_conv(x)))


def gate_into_grouped(x):
    return _conv(HSwish()(_conv(x)), groups=2, activation="tanh")


def gate_into_batch_norm(x):
    """Not after a convolution, so it becomes one of its own, which takes the factor in."""
    return _conv(L.BatchNormalization()(HSwish()(_conv(x))))


def gate_read_twice(x):
    x = HSwish()(_conv(x))
    return L.Add()([_conv(x), _conv(x, activation="relu")])


def swish_and_sigmoid(x):
    """Each is a sigmoid afterwards, and no factor travels."""
    x = L.Activation("swish")(_conv(x))
    return L.Multiply()([x, L.Activation("sigmoid")(_conv(x))])


def sigmoid_gate_into_softmax(x):
    return L.Softmax()(L.GlobalAveragePooling2D()(HSigmoid()(_conv(x))))


def separable_after_gate(x):
    return L.SeparableConv2D(3, 3)(HSwish()(_conv(x)))


SMALL = {
    gate_before_add: 0,
    gate_before_add_of_the_image: 1,
    gates_on_both_ends_of_add: 0,
    swish_into_pool_into_dense: 0,
    swish_into_everything_that_commutes: 0,
    swish_into_leaky_relu: 0,
    swish_into_relu6: 1,
    swish_into_thresholded_relu: 1,
    swish_into_swish: 1,
    swish_into_sigmoid_gate: 0,
    gate_into_depthwise: 0,
    gate_into_grouped: 0,
    gate_into_batch_norm: 0,
    gate_read_twice: 0,
    swish_and_sigmoid: 0,
    sigmoid_gate_into_softmax: 1,
    separable_after_gate: 1,
}


@pytest.mark.parametrize("build", SMALL, ids=lambda build: build.__name__)
def test_every_way_through_the_rules(build) -> None:
    inputs = L.Input((8, 8, 3))
    model = randomize(keras.Model(inputs, build(inputs)))
    low = lowering.lower(model)
    assert_same(low, model)
    assert_same(lowering.lower_gates(model), model)
    assert_same(lowering.fold_batch_norm(model), model)
    assert kinds(low)["Scale"] == SMALL[build]
    assert not kinds(low)["HSwish"] + kinds(low)["HSigmoid"]


def test_a_gate_that_is_an_output_keeps_its_value() -> None:
    inputs = L.Input((8, 8, 3))
    x = HSwish(name="gate")(_conv(inputs))
    model = randomize(keras.Model(inputs, [_conv(x), x, L.GlobalAveragePooling2D()(x)]))
    assert_same(lowering.lower(model), model)


def test_a_convolution_that_is_an_output_is_not_folded() -> None:
    inputs = L.Input((8, 8, 3))
    x = _conv(inputs)
    model = randomize(keras.Model(inputs, [L.BatchNormalization()(x), x]))
    assert_same(lowering.lower(model), model)


def test_only_what_may_be_folded_is() -> None:
    """Not a convolution with an activation, not one that is read elsewhere, not one used twice: there the batch
    normalization becomes a depthwise convolution of its own."""
    inputs = L.Input((8, 8, 3))
    nonlinear = L.BatchNormalization(name="after_relu")(_conv(inputs, activation="relu"))
    read_twice = _conv(inputs)
    shared = L.Conv2D(4, 3, padding="same")
    ends = [
        nonlinear,
        read_twice,
        L.BatchNormalization(name="of_read_twice")(read_twice),
        shared(inputs),
        L.BatchNormalization(name="of_shared")(shared(_conv(inputs, 3))),
        L.BatchNormalization(name="folds", scale=False, center=False)(_conv(inputs, use_bias=True)),
    ]
    model = randomize(keras.Model(inputs, L.Concatenate()(ends)))
    low = lowering.lower(model)
    assert_same(low, model)
    assert not [layer for layer in low.layers if isinstance(layer, L.BatchNormalization)]
    alone = [layer.name for layer in low.layers if isinstance(layer, L.DepthwiseConv2D)]
    assert sorted(alone) == ["after_relu", "of_read_twice", "of_shared"]


def test_depth_multipliers_are_folded() -> None:
    inputs = L.Input((8, 8, 3))
    x = L.BatchNormalization()(L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(inputs))
    assert_same(lowering.lower(model := randomize(keras.Model(inputs, x))), model)


def test_transposed_convolutions_are_folded_right_or_not_at_all() -> None:
    """Their kernels are `[kh, kw, out, in]`."""
    inputs = L.Input((8, 8, 3))
    x = L.BatchNormalization()(L.Conv2DTranspose(3, 3, padding="same")(inputs))
    assert_same(lowering.lower(model := randomize(keras.Model(inputs, x))), model)


def test_a_shared_layer_behind_a_gate() -> None:
    inputs = L.Input((8, 8, 3))
    a, b = HSwish()(_conv(inputs)), HSwish()(_conv(inputs))
    shared = L.Conv2D(4, 1, name="shared")
    model = randomize(keras.Model(inputs, L.Add()([shared(a), shared(b)])))
    with pytest.raises(UserError, match="layer shared is used twice, behind a gate"):
        lowering.lower(model)


def _swish_and_excite():
    inputs = L.Input((16, 16, 3))
    return randomize(keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(swish_into_sigmoid_gate(inputs)))))


@pytest.mark.parametrize(
    "build",
    [
        _swish_and_excite,
        pytest.param(lambda: randomize(models.build("mobilenet_v3_small", px=64, classes=5)), marks=pytest.mark.slow),
    ],
    ids=["one block", "mobilenet_v3_small"],
)
def test_the_integer_file_has_no_hard_swish(build) -> None:
    from tfcompact.export import converter
    from tfcompact.tflite import flatbuffer, runtime

    low = lowering.lower(build())
    qat = wrapping.quantized(low)
    pixels = np.random.default_rng(0).integers(0, 256, (8, *low.input_shape[1:]))
    x = ((pixels - 128) / 127.5).astype(np.float32)
    calibration.calibrate(qat, low, [x], pixel_grid.on_grid(Normalization()), 100.0)
    content = converter.convert(wrapping.deployable(qat), "int8", x)
    operators = collections.Counter(flatbuffer.operators(content))
    assert operators["MUL"]
    assert not operators["HARD_SWISH"], operators
    assert not flatbuffer.stray_floats(content)
    assert runtime.partitions(content).count == 1


def test_gate_layers_are_the_paper_s() -> None:
    x = np.linspace(-8, 8, 401, dtype=np.float32)
    gate = np.clip(x + 3, 0, 6) / 6
    np.testing.assert_allclose(HSigmoid()(x), gate, atol=1e-6)
    np.testing.assert_allclose(HSwish()(x), x * gate, atol=1e-6)
    np.testing.assert_allclose(ShiftedReLU6()(x), 6 * gate, atol=1e-6)
    assert Scale.from_config(Scale(0.5, name="half").get_config()).factor == 0.5


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("bias", [True, False])
def test_pooling_that_shrinks_goes_before_a_pointwise_convolution(padding: str, bias: bool) -> None:
    image = keras.layers.Input((9, 9, 8))
    x = keras.layers.Conv2D(4, 1, use_bias=bias, bias_initializer="random_normal", name="pointwise")(image)
    model = keras.Model(image, keras.layers.AveragePooling2D(2, 2, padding, name="pool")(x))
    lowered = lowering.pool_first(model)
    assert [layer.name for layer in lowered.layers[1:]] == ["pool", "pointwise"]
    assert rewrite.cost(lowered).macs < rewrite.cost(model).macs / 3
    assert_same(lowered, model)


def test_pooling_stays_where_it_would_change_something_or_gain_nothing() -> None:
    def kept(convolution, pool) -> bool:
        image = keras.layers.Input((9, 9, 8))
        model = keras.Model(image, pool(convolution(image)))
        names = [layer.name for layer in model.layers]
        return [layer.name for layer in lowering.pool_first(model).layers] == names

    pool = keras.layers.AveragePooling2D
    assert kept(keras.layers.Conv2D(4, 3), pool(2))
    assert kept(keras.layers.Conv2D(4, 1, activation="relu"), pool(2))
    assert kept(keras.layers.Conv2D(4, 1, strides=2), pool(2))
    assert kept(keras.layers.Conv2D(4, 1), pool(3, 1))
    assert kept(keras.layers.Conv2D(4, 1), keras.layers.MaxPooling2D(2))
    assert not kept(keras.layers.Conv2D(4, 1), pool(2))


def test_what_is_added_to_a_gated_tensor_grows_with_it() -> None:
    """MobileNetV3-Large's first block: no layer is left that divides by 6."""
    image = keras.layers.Input((8, 8, 4))
    x = HSwish(name="gated")(image)
    y = keras.layers.Conv2D(4, 1, bias_initializer="random_normal", name="branch")(x)
    x = keras.layers.Conv2D(3, 1, name="end")(keras.layers.Add(name="sum")([x, y]))
    model = keras.Model(image, x)
    lowered = lowering.lower_gates(model)
    assert "Scale" not in kinds(lowered)
    assert_same(lowered, model)


def test_what_others_read_too_does_not_grow() -> None:
    image = keras.layers.Input((8, 8, 4))
    x = HSwish(name="gated")(image)
    y = keras.layers.Conv2D(4, 1, name="branch")(x)
    both = keras.layers.Add(name="sum")([x, y])
    model = keras.Model(image, keras.layers.Add(name="again")([keras.layers.Conv2D(4, 1)(both), y]))
    assert_same(lowering.lower_gates(model), model)


def _convolutions(model) -> list[str]:
    return sorted(layer.name for layer in model.layers if isinstance(layer, L.Conv2D | L.DepthwiseConv2D))


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_another_normalization_is_the_same_function_of_the_pixels(padding: str) -> None:
    old = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    new = Normalization((128.0,), (127.5,))
    inputs = L.Input((9, 9, 3), name="image")
    stem = L.Conv2D(4, 3, 2, padding, use_bias=False, name="stem")
    model = randomize(keras.Model(inputs, L.BatchNormalization(name="stem_bn")(stem(inputs))))
    changed = lowering.renormalized(model, old, new)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3)).astype(np.float32)
    np.testing.assert_allclose(
        changed(normalize(pixels, new)),
        model(normalize(pixels, old)),
        atol=1e-4 * np.abs(model(normalize(pixels, old))).max(),
    )
    has_affine = "image_affine" in [layer.name for layer in changed.layers]
    assert has_affine == (padding == "same")  # zeros of a padding would move with the image
    assert stem.get_weights()[0].shape == model.get_layer("stem").get_weights()[0].shape


def settled(model):
    """Batch normalization with the statistics of `images`, so that a signal neither fades nor grows with depth."""
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.0
    model(images(model.input_shape[1:]), training=True)
    return model


SMALLEST = (
    *("squeezenet_1.1", "shufflenet_v1_g3_0.5", "shufflenet_v2_0.5", "mobilenet_v1_0.25", "mnasnet_a1_0.35"),
    *("googlenet_bn", "inception_v2", "bn_inception", "efficientnet_b0", "efficientnet_lite0", "densenet_bc_40_12"),
)
LARGE = ("se_inception", "inception_v4", "inception_resnet_v2", "xception", "efficientnet_v2_b0", "nasnet_mobile")


@pytest.mark.parametrize(
    "name", [*SMALLEST, *(pytest.param(n, marks=pytest.mark.slow) for n in (*LARGE, "se_resnet_50"))]
)
def test_every_family_is_lowered_to_itself_and_has_a_rule_for_each_layer(name: str) -> None:
    keras.backend.clear_session()
    spec = models.spec(name)
    keras.backend.set_floatx("float64")  # in 32 bits, rounding alone grows to 1e-3 in Inception V4
    try:
        model = settled(models.build(name, px=max(spec.min_px, 48), classes=5))
        low = lowering.lower(model)
        assert_same(low, model, relative=1e-6)
    finally:
        keras.backend.set_floatx("float32")
    assert not [layer for layer in low.layers if isinstance(layer, L.BatchNormalization)]
    for layer in low.layers:
        rules.rule_for(layer)


def test_googlenet_with_its_local_response_normalization_is_refused_and_the_other_named() -> None:
    assert "googlenet_bn" in models.spec("googlenet").float_only
    with pytest.raises(UserError, match="LocalResponseNorm"):
        wrapping.quantized(lowering.lower(models.build("googlenet", px=32, classes=5)))
