"""What DenseNet needs in 8 bits: normalization before a ReLU as an addition, the same function where it is worth it,
and concatenations that go into each other on one grid."""

import collections
import itertools

import numpy as np
import pytest

from tfcompact.compress.quantization import calibration, for_xnnpack, lowering, norm_as_addition, wrapping
from tfcompact.compress.quantization.norm_as_addition import shifted
from tfcompact.export import converter
from tfcompact.frameworks import keras
from tfcompact.models.blocks import logits
from tfcompact.models.layers import ChannelShift, ChannelShuffle, ChannelSlice
from tfcompact.networks.rewrite import listed, tensors
from tfcompact.records.artifact import Normalization
from tfcompact.tflite import flatbuffer, runtime
from tfcompact.weights import saved

L = keras.layers
PX = 12
NORMALIZATION = Normalization((128.0,), (127.5,))
PIXELS = np.random.default_rng(3).integers(0, 256, (48, PX, PX, 3)).astype(np.uint8)
IMAGES = ((PIXELS - 128.0) / 127.5).astype(np.float32)
NORMS = ("one_bn", "two_bn", "last_bn")


def network(*, gamma=(0.5, 1.5), beta=(-1.0, 1.0), between=(), kernel=1, padding="same"):
    """A dense block of two layers, then a transition's ReLU with `between` it and the convolution."""
    keras.utils.set_random_seed(2)
    rng = np.random.default_rng(5)
    image = L.Input((PX, PX, 3), name="image")
    x = L.Conv2D(12, 3, padding="same", name="stem")(image)
    for name in ("one", "two"):
        y = L.ReLU(name=f"{name}_relu")(L.BatchNormalization(name=f"{name}_bn")(x))
        y = L.Conv2D(6, kernel, padding=padding if kernel > 1 else "valid", use_bias=False, name=f"{name}_conv")(y)
        x = L.Concatenate(name=name)([x, y])
    x = L.ReLU(name="last_relu")(L.BatchNormalization(name="last_bn")(x))
    for layer in between:
        x = layer(x)
    if len(x.shape) == 4:
        x = L.Conv2D(8, 1, name="last_conv")(x)
        model = keras.Model(image, logits(L.GlobalAveragePooling2D(keepdims=True, name="mean")(x), 5, dropout=0.0))
    else:
        model = keras.Model(image, L.Dense(5, name="logits")(x))
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.0
            layer.gamma.assign(rng.uniform(*gamma, layer.gamma.shape))
            layer.beta.assign(rng.uniform(*beta, layer.beta.shape))
    model(IMAGES, training=True)
    return model


def shifts(model) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, ChannelShift)]


def assert_same(ours, theirs) -> None:
    a, b = ours(IMAGES), theirs(IMAGES)
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize(
    "between",
    [
        (),
        (L.AveragePooling2D(2),),
        (L.AveragePooling2D(3, 2, "same"),),
        (L.MaxPooling2D(2), L.Dropout(0.3)),
        (L.GlobalAveragePooling2D(),),
    ],
    ids=lambda layers: "-".join(layer.name for layer in layers) or "nothing",
)
def test_the_function_stays(between) -> None:
    model = network(between=[layer.__class__.from_config(layer.get_config()) for layer in between])
    low = lowering.lower(model)
    weights = [w.copy() for w in low.get_weights()]
    with_shifts = shifted(low, [IMAGES[:24], IMAGES[24:]])
    assert shifts(with_shifts) == list(NORMS)
    assert_same(with_shifts, low)
    assert all(map(np.array_equal, weights, low.get_weights()))


def test_channels_that_are_always_on_or_off_have_small_shifts() -> None:
    """A large beta over a small gamma is a shift of hundreds, which 8 bits could not hold beside the others."""
    model = network()
    norm = model.get_layer("two_bn")
    norm.beta.assign(np.where(np.arange(18) % 3 == 0, 9.0, np.where(np.arange(18) % 3 == 1, -9.0, 0.5)))
    low = lowering.lower(model)
    with_shifts = shifted(low, [IMAGES])
    assert_same(with_shifts, low)
    seen = tensors(low, ["one"])(IMAGES).numpy()
    found = with_shifts.get_layer("two_bn").shift.numpy()
    assert found.min() >= -seen.max() - 1e-6
    assert found.max() <= -seen.min() + 1e-6
    assert np.abs(low.get_layer("two_bn").get_weights()[1]).max() > 2 * np.abs(found).max()


def test_where_it_would_not_be_the_same_the_convolution_stays(monkeypatch) -> None:
    monkeypatch.setattr(norm_as_addition, "MOST_NOISE", np.inf)
    same = lowering.lower(network(kernel=3))  # zeros around the image are not what a constant would be there
    assert shifts(shifted(same, [IMAGES])) == ["last_bn"]
    negative = network()
    negative.get_layer("one_bn").gamma.assign(np.where(np.arange(12) == 3, -1.0, 1.0))
    low = lowering.lower(negative)
    assert shifts(shifted(low, [IMAGES])) == ["two_bn", "last_bn"]
    assert_same(shifted(low, [IMAGES]), low)


def test_two_readers_of_the_relu() -> None:
    image = L.Input((PX, PX, 3))
    x = L.ReLU()(L.BatchNormalization(name="bn")(image))
    for others, expected in ((L.Conv2D(4, 1), ["bn"]), (L.ZeroPadding2D(1), [])):
        ends = [L.GlobalAveragePooling2D()(y) for y in (L.Conv2D(4, 1, use_bias=False)(x), others(x))]
        low = lowering.lower(keras.Model(image, L.Concatenate()(ends)))
        assert shifts(shifted(low, [IMAGES])) == expected
        assert_same(shifted(low, [IMAGES]), low)


def test_scales_that_ruin_the_kernels_stay_outside() -> None:
    """One channel a hundred times the size of the rest: with its scale in the kernel, its weights would be 0."""
    model = network()
    stem = model.get_layer("stem")
    kernel, bias = stem.get_weights()
    stem.set_weights([kernel * np.where(np.arange(12) == 0, 100.0, 1.0), bias])
    model(IMAGES, training=True)  # the statistics follow
    assert shifts(shifted(lowering.lower(model), [IMAGES])) == []


def test_no_norm_no_change() -> None:
    model = keras.Model(image := L.Input((PX, PX, 3)), L.Conv2D(4, 1)(image))
    assert shifted(model, [IMAGES]) is model


@pytest.fixture(scope="module")
def quantized():
    parent = shifted(lowering.lower(network()), [IMAGES])
    qat = wrapping.quantized(parent)
    calibration.calibrate(qat, parent, [IMAGES], NORMALIZATION, 100)
    return parent, qat


def test_8_bits_are_close_to_float(quantized) -> None:
    parent, qat = quantized
    ratio = calibration.signal_to_noise_db(qat, parent, IMAGES)
    assert min(ratio.values()) > 25
    # Its numbers are what the file will hold: multiples of one step, with 0 among them.
    shift = qat.get_layer("one_bn")._weight_vars[0]
    rounded = shift[1](shift[0], False, weights={}).numpy()
    low, high = min(rounded.min(), 0.0), max(rounded.max(), 0.0)
    steps = rounded / ((high - low) / 255)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert 0 < np.abs(rounded - parent.get_layer("one_bn").shift.numpy()).max() <= 0.51 * (high - low) / 255


def test_the_file_does_what_the_simulation_does(quantized) -> None:
    """And XNNPACK takes it whole: an ADD with its ReLU for each normalization."""
    _, qat = quantized
    file = converter.convert(for_xnnpack.shipped(qat), "int8", IMAGES[:4])
    operators = collections.Counter(flatbuffer.operators(file))
    assert (operators["ADD"], operators["DEPTHWISE_CONV_2D"], operators["RELU"]) == (3, 0, 0)
    assert not flatbuffer.stray_floats(file)
    assert runtime.partitions(file).count == 1
    model = runtime.LiteModel(file)
    expected = keras.layers.Softmax()(qat(IMAGES)).numpy()
    assert np.abs(model(PIXELS) - expected).max() <= 2 / 256


def test_training_moves_the_shifts_and_saving_keeps_them(quantized, tmp_path) -> None:
    parent, _ = quantized
    qat = wrapping.quantized(parent)
    calibration.calibrate(qat, parent, [IMAGES], NORMALIZATION, 100)
    before = qat.get_layer("one_bn")._weight_vars[0][0].numpy()
    qat.compile(keras.optimizers.SGD(0.05), "mse")
    qat.fit(IMAGES, np.ones((48, 5)), epochs=1, verbose=0)
    assert np.abs(qat.get_layer("one_bn")._weight_vars[0][0].numpy() - before).max() > 1e-5
    saved.save(qat, tmp_path / "model.h5")
    for ours, theirs in zip(listed(saved.load(tmp_path / "model.h5")(IMAGES)), listed(qat(IMAGES)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_learned_ranges_settle_to_the_same_network(quantized) -> None:
    parent, _ = quantized
    qat = wrapping.quantized(parent, learn_ranges=True)
    calibration.calibrate(qat, parent, [IMAGES], NORMALIZATION, 100)
    qat.compile(keras.optimizers.Adam(1e-3), "mse")
    qat.fit(IMAGES, np.ones((48, 5)), epochs=1, verbose=0)
    np.testing.assert_array_equal(wrapping.settled(qat, parent)(IMAGES), qat(IMAGES))


def _units(x):
    """ShuffleNet V2's: half of the channels goes on as it is, the other half through a convolution."""
    for name in ("first", "second", "third"):
        kept = ChannelSlice(0, 6, name=f"{name}_kept")(ChannelShuffle(2, name=f"{name}_shuffle")(x))
        other = ChannelSlice(6, 6, name=f"{name}_other")(x)
        made = L.ReLU(name=f"{name}_relu")(L.Conv2D(6, 1, name=f"{name}_conv")(other))
        x = L.Concatenate(name=name)([kept, made])
    return x


@pytest.mark.parametrize("kind", ["dense block", "units"])
def test_concatenations_that_go_into_each_other_are_on_one_grid(kind) -> None:
    """So no value is rounded twice, and the file has no operator that would do it."""
    if kind == "dense block":
        parent, chain = shifted(lowering.lower(network()), [IMAGES]), ["one", "two"]
    else:
        keras.utils.set_random_seed(2)
        image = L.Input((PX, PX, 3), name="image")
        x = _units(L.Concatenate(name="stem")([L.Conv2D(6, 1, name=f"stem{i}")(image) for i in range(2)]))
        pooled = L.GlobalAveragePooling2D(keepdims=True, name="mean")(L.Conv2D(8, 1, name="last")(x))
        parent, chain = keras.Model(image, logits(pooled, 5, dropout=0.0)), ["stem", "first", "second", "third"]
    qat = wrapping.quantized(parent)
    ranges = calibration.calibrate(qat, parent, [IMAGES], NORMALIZATION, 100)
    (shared,) = {ranges[name] for name in chain}
    values = [value.numpy() for value in tensors(parent, chain)(IMAGES)]
    expected = min(0.0, *(v.min() for v in values)), max(v.max() for v in values)
    np.testing.assert_allclose(shared, expected, rtol=1e-6)
    rounded = dict(zip(chain, tensors(qat, chain)(IMAGES), strict=True))
    if kind == "dense block":
        for before, after in itertools.pairwise(chain):  # what was rounded once comes through as it is
            kept = rounded[before].numpy()
            np.testing.assert_array_equal(rounded[after].numpy()[..., : kept.shape[-1]], kept)
    file = converter.convert(for_xnnpack.shipped(qat), "int8", IMAGES[:4])
    # One is left for the block's stem, which is read by others too and so has a grid of its own.
    assert flatbuffer.operators(file).count("QUANTIZE") == (1 if kind == "dense block" else 0)


def test_a_concatenation_that_goes_into_two_keeps_its_own_grid() -> None:
    image = L.Input((PX, PX, 3), name="image")
    first = L.Concatenate(name="first")([L.Conv2D(4, 1, name=f"conv{i}")(image) for i in range(2)])
    ends = [
        L.Concatenate(name=f"end{i}")([first, L.Conv2D(4, 1, name=f"more{i}", kernel_initializer="ones")(first)])
        for i in range(2)
    ]
    x = L.Concatenate(name="last")([L.Conv2D(4, 1, name=f"after{i}")(end) for i, end in enumerate(ends)])
    pooled = L.GlobalAveragePooling2D(keepdims=True, name="mean")(x)
    parent = keras.Model(image, logits(pooled, 5, dropout=0.0))
    ranges = calibration.calibrate(wrapping.quantized(parent), parent, [IMAGES], NORMALIZATION, 100)
    assert len({ranges[name] for name in ("first", "end0", "last")}) == 3
