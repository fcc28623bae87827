"""8-bit rules, ranges and grids: what is rounded, over which range, and that the way out changes nothing."""

import numpy as np
import pytest

from tfcompact.compress.quantization import calibration, lowering, pixel_grid, quantizers, rules, wrapping
from tfcompact.compress.quantization import ranges as ranges_module
from tfcompact.errors import UserError
from tfcompact.frameworks import keras, tf
from tfcompact.models.blocks import conv, depthwise, logits, squeeze_excite
from tfcompact.models.layers import ChannelShuffle, ChannelSlice, HSwish, Scale, ShiftedReLU6
from tfcompact.networks import rewrite
from tfcompact.records.artifact import Normalization
from tfcompact.weights import saved

L = keras.layers
PX = 16
NORMALIZATION = pixel_grid.on_grid(Normalization())  # (pixel - 128) / 127.5
PIXELS = np.random.default_rng(1).integers(0, 256, (64, PX, PX, 3))
IMAGES = ((PIXELS - 128) / 127.5).astype(np.float32)


def network():
    """Every kind of layer that the rules know, each by the name the tests call it by."""
    keras.utils.set_random_seed(5)
    inputs = L.Input((PX, PX, 3), name="image")
    x = conv(inputs, 8, 3, 2, act="h_swish", name="stem")
    y = conv(x, 16, act="relu6", name="expand")
    y = depthwise(y, 3, act="relu", name="filter")
    y = squeeze_excite(y, 4, gate="h_sigmoid", name="se")
    x = L.Add(name="add")([x, conv(y, 8, act=None, name="project")])
    pooled = L.AveragePooling2D(3, 1, "same", name="average")(x)
    ends = [conv(x, 4, act="relu", name="left"), conv(x, 4, act=None, name="bare"), pooled]
    x = L.Concatenate(name="concat")(ends)
    x = L.MaxPooling2D(2, name="maximum")(x)
    x = conv(x, 12, act="h_swish", name="head")
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, logits(x, 4, dropout=0.2))


def warmed(model):
    """Batch normalization that has seen the images: what a trained network has."""
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            values = rewrite.tensors(model, [layer.get_config()["name"].removesuffix("_bn")])(IMAGES)
            values = np.asarray(values[0] if isinstance(values, list) else values)
            layer.moving_mean.assign(values.mean((0, 1, 2)))
            layer.moving_variance.assign(values.var((0, 1, 2)))
            layer.gamma.assign(rng.uniform(0.7, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(0, 0.5, layer.beta.shape))
    return model


@pytest.fixture(scope="module")
def lowered():
    model = warmed(network())
    model.get_layer("logits").kernel.assign(np.random.default_rng(3).normal(0, 1, (12, 4)))
    return lowering.lower(model)


@pytest.fixture(scope="module")
def qat(lowered):
    """Calibrated with minimum and maximum over two batches."""
    model = wrapping.quantized(lowered)
    calibration.calibrate(model, lowered, [IMAGES[:32], IMAGES[32:]], NORMALIZATION, 100.0)
    return model


def ranges(model) -> dict[str, tuple[float, float]]:
    """The name and range of every layer whose output is rounded."""
    return {
        layer.name: tuple(float(layer._output_quantizer_vars[f"{end}_var"]) for end in ("min", "max"))
        for layer in model.layers
        if isinstance(layer, wrapping.Wrapper) and layer.quantize_config.output
    }


@pytest.mark.parametrize(
    ("layer", "axis", "output"),
    [
        (lambda: L.Conv2D(2, 1), -1, "observed"),
        (lambda: L.DepthwiseConv2D(3), 2, "observed"),  # a Conv2D by inheritance, but not by kernel
        (lambda: L.Dense(2), -1, "observed"),
        (lambda: L.ReLU(6.0), None, "observed"),
        (lambda: ShiftedReLU6(), None, "observed"),
        (lambda: Scale(0.5), None, "observed"),
        (lambda: L.Add(), None, "observed"),
        (lambda: L.Multiply(), None, "observed"),
        (lambda: L.Concatenate(), None, "observed"),
        (lambda: L.GlobalAveragePooling2D(), None, "observed"),
        (lambda: L.AveragePooling2D(), None, "source"),
        (lambda: L.MaxPooling2D(), None, "none"),
        (lambda: L.Dropout(0.1), None, "none"),
        (lambda: L.Flatten(), None, "none"),
        (lambda: L.Cropping2D(1), None, "none"),
        (lambda: ChannelShuffle(2), None, "none"),
        (lambda: ChannelSlice(0, 2), None, "none"),
        (lambda: L.Activation("sigmoid"), None, "observed"),
    ],
)
def test_rules(layer, axis, output: str) -> None:
    rule = rules.rule_for(layer())
    assert (rule.kernel_axis, rule.output) == (axis, output)


def test_a_layer_without_a_rule_is_named_with_the_remedy() -> None:
    inputs = L.Input((8, 8, 3))
    model = keras.Model(inputs, L.LayerNormalization(name="odd_one")(inputs))
    with pytest.raises(UserError, match=r"no rule to quantize layer odd_one \(LayerNormalization\).*export float32"):
        wrapping.quantized(model)


def test_the_input_network_is_left_alone(lowered) -> None:
    before = [w.copy() for w in lowered.get_weights()]
    expected = lowered(IMAGES[:4]).numpy()
    copy = wrapping.quantized(lowered)
    calibration.calibrate(copy, lowered, [IMAGES], NORMALIZATION, 99.0)
    for variable in copy.trainable_variables:
        variable.assign(variable + 1)
    assert all(map(np.array_equal, before, lowered.get_weights()))
    assert np.array_equal(lowered(IMAGES[:4]), expected)


def test_what_is_rounded_where(qat) -> None:
    """Before a ReLU or a concatenation nothing is: TFLite fuses the one and scales the other's inputs alike."""
    rounded = set(ranges(qat))
    assert rounded == {
        *(pixel_grid.INPUT, "stem", "stem_h_swish_gate", "stem_h_swish"),
        *("expand_relu6", "filter_relu"),
        *("se_squeeze", "se_reduce_relu", "se_expand", "se_expand_h_sigmoid", "se_excite"),
        *("project", "add", "average", "concat"),
        *("head", "head_h_swish_gate", "head_h_swish", "pool", "logits"),
    }
    assert {"expand", "filter", "se_reduce", "left", "bare"}.isdisjoint(rounded)
    assert "left_relu" not in rounded  # its one reader is the concatenation


def test_a_convolution_read_by_a_relu_and_another_layer_is_rounded_itself() -> None:
    inputs = L.Input((8, 8, 3))
    x = L.Conv2D(4, 1, name="first")(inputs)
    model = keras.Model(inputs, L.Add(name="add")([x, L.ReLU(name="relu")(x)]))
    assert set(ranges(wrapping.quantized(model))) == {pixel_grid.INPUT, "first", "relu", "add"}


def test_every_kernel_lies_on_a_grid_of_its_own_channel(qat, lowered) -> None:
    deployed = wrapping.deployable(qat)
    for layer in deployed.layers:
        if not layer.weights:
            continue
        kernel, axis = layer.get_weights()[0], 2 if isinstance(layer, L.DepthwiseConv2D) else -1
        parent = lowered.get_layer(layer.name).get_weights()[0]
        channels, before = np.moveaxis(kernel, axis, 0), np.moveaxis(parent, axis, 0)
        steps = np.array([np.abs(c).max() / 127 for c in channels])
        assert len(set(steps)) == len(steps), f"{layer.name}: one step for several channels"
        for channel, original, step in zip(channels, before, steps, strict=True):
            assert np.abs(channel / step - np.round(channel / step)).max() < 1e-3
            assert np.abs(channel).max() == pytest.approx(np.abs(original).max(), rel=1e-6)
            assert np.abs(channel - original).max() <= step * 0.501


def test_kernel_quantizer_bears_an_empty_channel_and_passes_gradients_on() -> None:
    kernel = tf.constant(np.stack([np.zeros((3, 3)), np.random.default_rng(0).normal(size=(3, 3))], -1), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        rounded = quantizers.KernelQuantizer(-1)(kernel, True, {})
        loss = tf.reduce_sum(2.0 * rounded)
    assert np.isfinite(rounded).all()
    assert not np.any(rounded[..., 0])
    assert np.array_equal(tape.gradient(loss, kernel), np.full(kernel.shape, 2.0))


def test_minimum_and_maximum_are_those_observed(qat, lowered) -> None:
    found = ranges(qat)
    observed = [name for name in found if name not in (pixel_grid.INPUT, "average")]
    values = dict(zip(observed, (v.numpy() for v in rewrite.tensors(lowered, observed)(IMAGES)), strict=True))
    clipped = {"stem", "head", "se_expand"}
    for name, (low, high) in found.items():
        if name in values:
            least = min(values[name].min(), 0.0)
            assert low == pytest.approx(max(least, -3.0) if name in clipped else least, rel=1e-4, abs=1e-5), name
            assert high == pytest.approx(max(values[name].max(), 1e-3), rel=1e-4), name


def test_average_pooling_has_the_range_of_its_input(qat) -> None:
    assert ranges(qat)["average"] == ranges(qat)["add"]


def test_only_what_feeds_a_gate_and_nothing_else_is_clipped_at_minus_3() -> None:
    inputs = L.Input((PX, PX, 3), name="image")
    x = L.Conv2D(4, 1, name="first", kernel_initializer=keras.initializers.RandomNormal(stddev=20))(inputs)
    swish = HSwish(name="swish")(x)
    gated = keras.Model(inputs, L.Conv2D(4, 1, name="last")(swish))
    shared = keras.Model(inputs, L.Add(name="add")([L.Conv2D(4, 1, name="last")(swish), x]))
    for model, least in ((gated, -3.0), (shared, None)):
        low = lowering.lower(model)
        qat = wrapping.quantized(low)
        found = calibration.calibrate(qat, low, [IMAGES], NORMALIZATION, 100.0)["first"]
        values = rewrite.tensors(low, ["first", "last"])(IMAGES)[0].numpy()
        assert values.min() < -5
        assert found[0] == pytest.approx(values.min() if least is None else least)


def test_percentiles_clip_outliers_and_are_averaged_over_batches(lowered) -> None:
    model = wrapping.quantized(lowered)
    outlier = IMAGES[:32].copy()
    found = calibration.calibrate(model, lowered, [IMAGES[:32], outlier * 2], NORMALIZATION, 99.0)
    values = [rewrite.tensors(lowered, ["project", "pool"])(x)[0].numpy() for x in (IMAGES[:32], outlier * 2)]
    for k, percent in enumerate((1.0, 99.0)):
        expected = np.mean([np.percentile(v, percent) for v in values])
        assert found["project"][k] == pytest.approx(expected, rel=0.02, abs=0.01)


def test_percentiles_see_every_channel_of_a_large_tensor() -> None:
    """Thinning out a tensor by a step that its channels divide would look at one channel alone."""
    inputs = L.Input((100, 100, 16), name="image")
    kernel = np.zeros((1, 1, 16, 16), np.float32)
    kernel[0, 0, range(16), range(16)] = 1.0
    kernel[0, 0, 5, 5] = 50.0
    model = keras.Model(inputs, L.Conv2D(16, 1, use_bias=False, name="wide")(inputs))
    model.layers[-1].set_weights([kernel])
    x = np.random.default_rng(0).uniform(-1, 1, (10, 100, 100, 16)).astype(np.float32)
    low, high = calibration.calibrate(wrapping.quantized(model), model, [x], NORMALIZATION, 99.98)["wide"]
    assert low < -45
    assert high > 45


def test_minmax_is_the_hundredth_percentile_and_average_forgets(lowered) -> None:
    batches = [IMAGES[:16], IMAGES[16:32] * 3, IMAGES[32:48]]
    found = {
        method: calibration.calibrate(
            wrapping.quantized(lowered), lowered, batches, NORMALIZATION, percentile, method
        )
        for method, percentile in (("percentile", 100.0), ("minmax", 99.0), ("average", 99.0))
    }
    assert found["minmax"] == found["percentile"]
    probe = rewrite.tensors(lowered, ["project", "pool"])
    values = [probe(x)[0].numpy() for x in batches]
    weights = np.array([0.81, 0.9, 1.0]) / 2.71
    for k, end in enumerate((np.min, np.max)):
        expected = float(np.sum([w * end(v) for w, v in zip(weights, values, strict=True)]))
        assert found["average"]["project"][k] == pytest.approx(expected, rel=1e-4)
    assert found["average"]["average"] == found["average"]["add"]


def test_the_range_of_least_error_is_the_best_of_all_tried() -> None:
    """Against rounding 60,000 values over every pair of ends of a grid: Laplace's tails, a ReLU, a ReLU6."""
    rng = np.random.default_rng(0)
    wide = rng.laplace(0.2, 1, 60_000)
    for values in (wide, np.maximum(wide, 0), np.clip(3 * wide, 0, 6), np.append(rng.normal(0, 1, 60_000), [90.0])):

        def error(low: float, high: float, values=values) -> float:
            rounded = tf.quantization.fake_quant_with_min_max_vars(values.astype(np.float32), low, high)
            return float(np.mean((rounded - values) ** 2))

        least, largest = float(values.min()), float(values.max())
        inside = values[(values != 0) & (values > least) & (values < largest)]
        counts = np.histogram(inside, 2048, (least, largest))[0].astype(float)
        ends = (float((values <= least).sum()) if least < 0 else 0.0, float((values >= largest).sum()))
        low, high = ranges_module.least_error(counts, least, largest, ends)
        assert least <= low <= 0 < high <= largest
        fractions = np.arange(1, 41) / 40
        grid = [(a, b) for a in ([0.0] if least == 0 else least * fractions) for b in largest * fractions]
        assert error(low, high) <= 1.02 * min(error(a, b) for a, b in grid)
        assert error(low, high) <= error(least, largest)


def test_least_error_keeps_what_is_fixed_and_beats_minimum_and_maximum(lowered, qat) -> None:
    model = wrapping.quantized(lowered)
    found = calibration.calibrate(model, lowered, [IMAGES[:32], IMAGES[32:]], NORMALIZATION, 100.0, "mse")
    assert found[pixel_grid.INPUT] == pytest.approx(ranges(qat)[pixel_grid.INPUT])
    assert all(low >= -3 for low in (found[name][0] for name in ("stem", "head", "se_expand")))
    assert found["average"] == found["add"]
    values = rewrite.tensors(lowered, ["project", "pool"])(IMAGES)[0]

    def error(low: float, high: float) -> float:
        return float(tf.reduce_mean((tf.quantization.fake_quant_with_min_max_vars(values, low, high) - values) ** 2))

    assert error(*found["project"]) <= 1.001 * error(*ranges(qat)["project"])


def test_an_unknown_method_is_refused(lowered) -> None:
    with pytest.raises(UserError, match="no method for ranges named 'max'"):
        calibration.calibrate(wrapping.quantized(lowered), lowered, [IMAGES], NORMALIZATION, 100.0, "max")


def test_a_pixel_is_its_own_quantized_value(qat) -> None:
    zero_point, step = pixel_grid.grid(NORMALIZATION)
    assert (zero_point, step) == (128, pytest.approx(1 / 127.5))
    pixels = np.arange(256).repeat(PX * PX * 3).reshape(256, PX, PX, 3)
    values = ((pixels - 128) / 127.5).astype(np.float32)
    seen = rewrite.tensors(qat, [pixel_grid.INPUT, "logits"])(values)[0].numpy()
    np.testing.assert_allclose(seen, values, atol=1e-6)
    assert np.array_equal(np.round(seen * 127.5 + 128), pixels)
    np.testing.assert_allclose(ranges(qat)[pixel_grid.INPUT], (-128 / 127.5, 127 / 127.5), rtol=1e-6)


def test_on_grid_moves_the_mean_by_half_a_pixel_at_most() -> None:
    assert pixel_grid.on_grid(Normalization()).mean == (128.0,)
    assert pixel_grid.on_grid(Normalization((127.0,), (128.0,))).mean == (127.0,)
    assert pixel_grid.on_grid(Normalization((0.0,) * 3, (255.0,) * 3, "bgr")) == Normalization(
        (0.0,), (255.0,), "bgr"
    )


def test_normalizations_without_a_grid_are_refused() -> None:
    with pytest.raises(UserError, match="whole-numbered mean"):
        pixel_grid.grid(Normalization())
    per_channel = Normalization((123.0, 116.0, 103.0), (58.0, 57.0, 57.0))
    with pytest.raises(UserError, match="all channels"):
        pixel_grid.grid(per_channel)
    assert pixel_grid.on_grid(per_channel) == Normalization((128.0,), (127.5,))  # the network is made to fit it


def test_calibration_needs_images(lowered) -> None:
    with pytest.raises(UserError, match="no calibration images"):
        calibration.calibrate(wrapping.quantized(lowered), lowered, [], NORMALIZATION, 100.0)


def test_it_comes_back_from_disk_to_the_bit(qat, tmp_path) -> None:
    saved.save(qat, tmp_path / "model.h5")
    back = saved.load(tmp_path / "model.h5")
    assert np.array_equal(back(IMAGES), qat(IMAGES))
    assert ranges(back) == ranges(qat)
    assert np.array_equal(wrapping.deployable(back)(IMAGES), wrapping.deployable(qat)(IMAGES))


def test_what_is_deployed_computes_exactly_what_was_trained(qat) -> None:
    deployed = wrapping.deployable(qat)
    assert np.array_equal(deployed(IMAGES), qat(IMAGES))
    assert not [layer for layer in deployed.layers if isinstance(layer, wrapping.Wrapper)]
    restored = rewrite.clone(deployed)
    assert np.array_equal(restored(IMAGES), qat(IMAGES))


def test_training_moves_weights_through_the_rounding_and_leaves_ranges(lowered) -> None:
    model = wrapping.quantized(lowered)
    calibration.calibrate(model, lowered, [IMAGES], NORMALIZATION, 100.0)
    before = ranges(model)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(IMAGES[:8], training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert len(gradients) == len(lowered.trainable_variables)
    assert all(g is not None and np.any(g) for g in gradients)
    keras.optimizers.SGD(1e-3).apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    assert ranges(model) == before
    assert np.array_equal(wrapping.deployable(model)(IMAGES), model(IMAGES))


@pytest.fixture(scope="module")
def learned(lowered):
    """Ten steps with learned ranges, from calibrated ones that clip; and the ranges it began with."""
    model = wrapping.quantized(lowered, learn_ranges=True)
    calibration.calibrate(model, lowered, [IMAGES[:32], IMAGES[32:]], NORMALIZATION, 95.0)
    before = wrapping.ranges_of(model)
    optimizer = keras.optimizers.Adam(3e-3)
    target = lowered(IMAGES)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(IMAGES, training=True) - target) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    losses = [float(step()) for _ in range(10)]
    assert losses[-1] < losses[0]
    return model, before


def test_learned_ranges_begin_as_calibrated(lowered) -> None:
    plain, model = wrapping.quantized(lowered), wrapping.quantized(lowered, learn_ranges=True)
    for network in (plain, model):
        calibration.calibrate(network, lowered, [IMAGES], NORMALIZATION, 99.0)
    assert wrapping.ranges_of(model) == wrapping.ranges_of(plain) == ranges(plain)
    np.testing.assert_allclose(model(IMAGES), plain(IMAGES), atol=1e-6)
    settled = wrapping.settled(model, lowered)
    for a, b in zip(settled.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-7)  # an input step is taken in 32 bits here, in 64 there


def test_what_may_be_learned_is_and_the_rest_stays(lowered, learned) -> None:
    model, before = learned
    after = wrapping.ranges_of(model)
    assert set(after) == set(before)
    assert after[pixel_grid.INPUT] == before[pixel_grid.INPUT]
    assert after["average"] == after["add"] != before["add"]  # pooling has its input's range still
    assert {name for name in after if after[name] == before[name]} == {pixel_grid.INPUT}
    for name, (low, high) in after.items():
        assert low <= 0 < high
        assert (low == 0) == (before[name][0] == 0)  # a ReLU's 0 is not moved
    names = [v.name for v in model.trainable_variables if "_log" in v.name]
    assert len(names) == 2 * (len(after) - 2)  # neither the image's nor the pooling's


def test_a_sigmoid_keeps_its_range() -> None:
    inputs = L.Input((8, 8, 3), name="image")
    model = keras.Model(inputs, L.Activation("sigmoid", name="gate")(L.Conv2D(4, 1, name="first")(inputs)))
    qat = wrapping.quantized(model, learn_ranges=True)
    calibration.calibrate(qat, model, [IMAGES[:, :8, :8]], NORMALIZATION, 100.0)
    assert wrapping.ranges_of(qat)["gate"] == pytest.approx(pixel_grid.SIGMOID)
    assert [v.name.split("/")[0] for v in qat.trainable_variables if "_log" in v.name] == ["first", "first"]


def test_a_learned_network_settles_comes_back_and_is_deployed_to_the_bit(lowered, learned, tmp_path) -> None:
    model, _ = learned
    settled = wrapping.settled(model, lowered)
    assert np.array_equal(settled(IMAGES), model(IMAGES))
    assert ranges(settled) == wrapping.ranges_of(model)
    saved.save(settled, tmp_path / "model.h5")
    back = saved.load(tmp_path / "model.h5")
    assert np.array_equal(back(IMAGES), model(IMAGES))
    assert all(map(np.array_equal, back.get_weights(), settled.get_weights()))
    assert np.array_equal(wrapping.deployable(back)(IMAGES), model(IMAGES))
    before = {layer.name: layer for layer in settled.layers}
    for name in ("expand", "project", "logits"):  # biases lie on the grid of the learned range
        source = {"expand": "stem_h_swish", "project": "se_excite", "logits": "pool"}[name]
        low, high = ranges(settled)[source]
        assert float(before[name]._weight_vars[1][2]["input_step"]) == pytest.approx((high - low) / 255, rel=1e-6)


def test_gradients_of_a_range_are_those_of_its_error() -> None:
    """Against the formula: 1 where an end clips, inside the rounding error in steps, shared by both ends."""
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(0, 1, (4, 500)), tf.float32)
    upstream = tf.constant(rng.normal(0, 1, (4, 500)), tf.float32)
    low, high = tf.constant(-1.0), tf.constant(1.55)  # 255 steps of 0.01
    with tf.GradientTape() as tape:
        tape.watch([x, low, high])
        loss = tf.reduce_sum(upstream * quantizers.rounded_and_learned(x, low, high))
    to_x, to_low, to_high = tape.gradient(loss, [x, low, high])
    plain = tf.quantization.fake_quant_with_min_max_vars(x, low, high)
    assert np.array_equal(quantizers.rounded_and_learned(x, low, high), plain)
    clipped_low, clipped_high = x < -1.0, x > 1.55
    inside = ~(clipped_low | clipped_high)
    np.testing.assert_array_equal(to_x, tf.where(inside, upstream, 0.0))
    whole = np.round(x / 0.01)
    share = np.where(inside, (whole - x / 0.01) / 255, 0)  # of each end in the change of whole * step, less x's own
    scale = 1 / np.sqrt(500 * 255)
    np.testing.assert_allclose(to_high, scale * np.sum(upstream * np.where(clipped_high, 1, share)), rtol=2e-3)
    np.testing.assert_allclose(to_low, scale * np.sum(upstream * np.where(clipped_low, 1, -share)), rtol=2e-3)


def test_signal_to_noise_is_high_at_the_start_and_counts_in_db(qat, lowered) -> None:
    ratio = calibration.signal_to_noise_db(qat, lowered, IMAGES)
    assert set(ratio) == set(ranges(qat)) - {pixel_grid.INPUT}
    assert ratio["stem"] > 25
    assert min(ratio.values()) > 10
    names = ["logits", "pool"]
    a, b = rewrite.tensors(lowered, names)(IMAGES)[0], rewrite.tensors(qat, names)(IMAGES)[0]
    expected = 10 * np.log10(np.sum(np.square(a)) / np.sum(np.square(a - b)))
    assert ratio["logits"] == pytest.approx(expected, abs=0.02)


def test_a_trained_network_survives_quantization_without_training() -> None:
    """Four kinds of stripes in noise: float and calibrated int8 agree."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, 768)
    waves = np.sin(np.arange(PX) * np.array([[0.6], [0.6], [1.6], [1.6]]))[labels]
    stripes = np.where((labels % 2 == 0)[:, None, None], waves[:, None, :], waves[:, :, None])
    pixels = np.clip(np.round(128 + 50 * stripes[..., None] + rng.normal(0, 40, (768, PX, PX, 3))), 0, 255)
    x = ((pixels - 128) / 127.5).astype(np.float32)
    model = network()
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x[:512], labels[:512], batch_size=64, epochs=12, verbose=0)
    low = lowering.lower(warm_statistics(model, x[:512]))
    qat = wrapping.quantized(low)
    calibration.calibrate(qat, low, [x[i : i + 64] for i in range(0, 256, 64)], NORMALIZATION, 99.99)
    truth, expected, found = labels[512:], low(x[512:]).numpy().argmax(1), qat(x[512:]).numpy().argmax(1)
    accuracy = float((expected == truth).mean())
    assert accuracy > 0.9, "the network did not learn; the comparison would say nothing"
    assert float((found == truth).mean()) >= accuracy - 0.01
    assert float((found == expected).mean()) >= 0.97


def warm_statistics(model, x):
    norms = [layer for layer in model.layers if isinstance(layer, L.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.5
    for _ in range(12):
        model(x, training=True)
    return model
