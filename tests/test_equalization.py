"""Equalized channels compute the same to the bit, and corrected biases give back the means of the float network."""

import numpy as np
import pytest

from tfcompact.compress.quantization import calibration, equalization, lowering, pixel_grid, wrapping
from tfcompact.frameworks import keras
from tfcompact.models.blocks import conv, depthwise, logits, squeeze_excite
from tfcompact.networks import rewrite
from tfcompact.records.artifact import Normalization

L = keras.layers
PX = 16
NORMALIZATION = pixel_grid.on_grid(Normalization())
IMAGES = ((np.random.default_rng(1).integers(0, 256, (48, PX, PX, 3)) - 128) / 127.5).astype(np.float32)
BATCHES = [IMAGES[:32], IMAGES[32:]]


@pytest.fixture(scope="module")
def lowered():
    """A network of every way that factors can and cannot take, its channels of very unequal size."""
    keras.utils.set_random_seed(5)
    inputs = L.Input((PX, PX, 3), name="image")
    x = conv(inputs, 8, 3, 2, act="relu", name="stem")
    x = depthwise(x, 3, act="relu", name="filter")
    x = squeeze_excite(x, 4, gate="h_sigmoid", name="se")
    y = conv(x, 12, act=None, name="linear")
    y = conv(y, 12, act="relu6", name="capped")
    y = L.MaxPooling2D(2, 1, "same", name="maximum")(y)
    z = conv(y, 8, act="h_swish", name="gated")
    y = conv(y, 8, act=None, name="project")
    x = L.Add(name="add")([y, z])
    x = conv(x, 16, act="relu", name="head")
    x = L.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, logits(x, 4, dropout=0.2))
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.gamma.assign(2.0 ** rng.uniform(-4, 4, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.5, layer.beta.shape))
    return lowering.lower(model)


def ratios(model, first: str, second: str) -> np.ndarray:
    """The largest weight that makes each channel over the largest that reads it."""
    made, read = model.get_layer(first), model.get_layer(second)
    return equalization._largest(made, of_output=True) / equalization._largest(read, of_output=False)


def test_the_equalized_network_is_the_same_to_the_bit(lowered) -> None:
    before = [w.copy() for w in lowered.get_weights()]
    model, factors = equalization.equalized(lowered)
    assert set(factors) == {"stem", "filter", "se_reduce", "linear", "head"}
    assert max(factors.values()) >= 4, "the channels were equal already; the comparison would say nothing"
    assert np.array_equal(model(IMAGES), lowered(IMAGES))
    assert all(map(np.array_equal, before, lowered.get_weights()))
    assert not all(map(np.array_equal, before, model.get_weights()))


def test_channels_come_out_within_a_factor_of_two(lowered) -> None:
    model, _ = equalization.equalized(lowered)
    for pair in (("stem", "filter"), ("linear", "capped"), ("se_reduce", "se_expand")):
        assert np.abs(np.log2(ratios(lowered, *pair))).max() > 1, pair
        assert np.abs(np.log2(ratios(model, *pair))).max() <= 1 + 1e-5, pair


def test_factors_do_not_pass_what_is_no_multiple(lowered) -> None:
    """A ReLU6, an h-swish, an addition of two sources, a concatenation, the output."""
    pairs = equalization._pairs(lowered)
    assert pairs["filter"] == ["se_reduce", "linear"]  # the gate and what it weighs
    assert pairs["head"] == ["logits"]
    assert {"capped", "gated", "project", "se_expand", "logits"}.isdisjoint(pairs)
    inputs = L.Input((PX, PX, 3), name="image")
    a, b = (L.Conv2D(4, 1, name=name)(inputs) for name in "ab")
    joined = keras.Model(inputs, L.Conv2D(4, 1, name="last")(L.Concatenate()([a, b])))
    assert equalization._pairs(joined) == {}
    grouped = keras.Model(inputs, L.Conv2D(4, 1, groups=2, name="last")(a))
    assert equalization._pairs(grouped) == {}
    again = L.Conv2D(4, 1, name="again")
    twice = keras.Model(inputs, L.Conv2D(4, 1, name="last")(again(again(L.Conv2D(4, 1, name="first")(inputs)))))
    assert equalization._pairs(twice) == {}


def test_a_dead_channel_is_left_alone() -> None:
    inputs = L.Input((PX, PX, 3), name="image")
    x = L.ReLU(name="relu")(L.Conv2D(4, 1, name="first")(inputs))
    model = keras.Model(inputs, L.DepthwiseConv2D(3, depth_multiplier=2, name="second")(x))
    kernel, bias = model.get_layer("first").get_weights()
    kernel[..., 1] = 0
    model.get_layer("first").set_weights([kernel * 100, bias])
    same, factors = equalization.equalized(model)
    assert factors["first"] > 4
    assert not same.get_layer("first").get_weights()[0][..., 1].any()
    assert np.array_equal(same(IMAGES), model(IMAGES))


def test_corrected_biases_give_back_the_means(lowered) -> None:
    qat = wrapping.quantized(lowered)
    calibration.calibrate(
        qat, lowered, BATCHES, NORMALIZATION, 100.0
    )  # what is clipped later is no business of a bias
    names = ["linear", "project", "logits"]

    def shift() -> list[float]:
        found, expected = (rewrite.tensors(m, names)(IMAGES) for m in (qat, lowered))
        axes = [tuple(range(len(e.shape) - 1)) for e in expected]
        pairs = zip(found, expected, axes, strict=True)
        return [float(np.abs(np.mean(f, axis) - np.mean(e, axis)).max()) for f, e, axis in pairs]

    before = shift()
    corrections = equalization.correct_bias(qat, lowered, BATCHES)
    after = shift()
    assert {"stem", "filter", *names} < set(corrections)
    assert all(a < 0.2 * b for a, b in zip(after, before, strict=True)), (before, after)
    assert np.array_equal(wrapping.deployable(qat)(IMAGES), qat(IMAGES))


def test_a_correction_is_the_mean_error_of_its_layer() -> None:
    """One layer, its sum worked out by hand: what rounding shifts the mean by is what the bias loses."""
    inputs = L.Input((PX, PX, 3), name="image")
    model = keras.Model(inputs, L.Conv2D(5, 1, name="only")(inputs))
    model.get_layer("only").set_weights([np.random.default_rng(7).normal(size=(1, 1, 3, 5)), np.full(5, 0.3)])
    qat = wrapping.quantized(model)
    calibration.calibrate(qat, model, BATCHES, NORMALIZATION, 100.0)
    kernel = wrapping.deployable(qat).get_layer("only").get_weights()
    exact = model.get_layer("only").get_weights()
    means = IMAGES.astype(np.float64).mean((0, 1, 2))
    shift = means @ (kernel[0][0, 0] - exact[0][0, 0]) + kernel[1] - exact[1]
    corrections = equalization.correct_bias(qat, model, BATCHES)
    assert corrections == {"only": pytest.approx(np.abs(shift).max(), rel=1e-3, abs=1e-6)}
    np.testing.assert_allclose(qat.get_layer("only")._weight_vars[1][0], 0.3 - shift, rtol=1e-4)
