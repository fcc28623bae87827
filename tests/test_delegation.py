"""Rewrites for XNNPACK: the same numbers, in one piece."""

import re

import numpy as np
import pytest

from tfcompact.compress.quantization import calibration, for_xnnpack, quantizers, wrapping
from tfcompact.export import converter
from tfcompact.frameworks import keras
from tfcompact.models.blocks import logits
from tfcompact.networks.rewrite import calls, rewrite
from tfcompact.records.artifact import Normalization
from tfcompact.tflite import flatbuffer, runtime

L = keras.layers
PIXELS = np.random.default_rng(3).integers(0, 256, (48, 11, 11, 3)).astype(np.uint8)
NORMALIZATION = Normalization((128.0,), (127.5,))


def network(middle):
    """A convolution, what is tested, another one and a classifier, with weights that spread their outputs."""
    keras.utils.set_random_seed(2)
    image = L.Input((11, 11, 3), name="image")
    x = L.Conv2D(8, 3, padding="same", name="stem")(image)
    x = middle(x)
    x = L.Conv2D(8, 1, name="after")(x)
    return keras.Model(image, logits(x, 5, dropout=0.0))


def shared_relu(x):
    """An addition that is read with a ReLU and without, as in pre-activation residual networks."""
    y = L.Add(name="sum")([x, L.Conv2D(8, 1, name="side")(x)])
    return L.Add(name="join")([L.Conv2D(8, 1, name="main")(L.ReLU(name="relu")(y)), y])


def capped(x):
    x = L.Multiply(name="large")([x, L.Conv2D(8, 1, name="wide", kernel_initializer="random_normal")(x)])
    return L.Add(name="join")([L.ReLU(6.0, name="relu6")(L.Add(name="larger")([x, x, x])), x])


MIDDLES = {
    "shared ReLU": shared_relu,
    "capped ReLU": capped,
    "ReLU of a concatenation": lambda x: L.ReLU(name="relu")(L.Concatenate(name="both")([x, L.Conv2D(8, 1)(x)])),
    "ReLU of a product": lambda x: L.ReLU(name="relu")(L.Multiply(name="times")([x, L.Conv2D(8, 1)(x)])),
    "pool 3x3 same": lambda x: L.AveragePooling2D(3, 1, "same", name="pool")(x),
    "pool 3x3 same, stride 2": lambda x: L.AveragePooling2D(3, 2, "same", name="pool")(x),
    "pool 2x2 valid": lambda x: L.AveragePooling2D(2, 2, "valid", name="pool")(x),
    "pool 2x2 same": lambda x: L.AveragePooling2D(2, 2, "same", name="pool")(x),
    "pool 5x5 valid": lambda x: L.AveragePooling2D(5, 3, "valid", name="pool")(x),
    "pool 1x3 same": lambda x: L.AveragePooling2D((1, 3), 1, "same", name="pool")(x),
    "six into one": lambda x: L.Concatenate(name="all")([L.ReLU()(L.Conv2D(8, 1)(x)) for _ in range(6)]),
    "twelve into one": lambda x: L.Concatenate(name="all")([L.ReLU()(L.Conv2D(4, 1)(x)) for _ in range(12)]),
    "pool into a concatenation": lambda x: L.Concatenate(name="both")(
        [L.AveragePooling2D(3, 1, "same", name="pool")(x), L.ReLU()(L.Conv2D(8, 1)(x))]
    ),
}


def deployed(middle):
    model = network(middle)
    qat = wrapping.quantized(model)
    images = ((PIXELS - 128.0) / 127.5).astype(np.float32)
    calibration.calibrate(qat, model, [images], NORMALIZATION, 100)
    return qat, wrapping.deployable(qat), images


@pytest.mark.parametrize("name", MIDDLES)
def test_the_function_stays(name) -> None:
    """In float, so that a step of 8 bits cannot hide a mistake: without the rounding layers, the same to 1e-6."""
    _, plain, images = deployed(MIDDLES[name])
    rewritten = for_xnnpack.delegable(plain)

    def bare(model):
        return rewrite(model, lambda layer, x: x if isinstance(layer, quantizers.FakeQuant) else None)

    np.testing.assert_allclose(bare(rewritten)(images), bare(plain)(images), atol=1e-6)


@pytest.mark.parametrize("name", MIDDLES)
def test_the_file_is_one_piece_and_agrees_with_the_network(name) -> None:
    qat, plain, images = deployed(MIDDLES[name])
    rewritten = for_xnnpack.delegable(plain)
    content = converter.convert(rewritten, "int8", images[:4])
    assert flatbuffer.stray_floats(content) == []
    assert not {"RELU", "RELU6", "AVERAGE_POOL_2D"} & set(flatbuffer.operators(content))
    pieces = runtime.partitions(content)
    assert pieces.count == 1
    assert pieces.total_nodes - pieces.delegated_nodes <= 1  # the softmax
    given = runtime.LiteModel(content, delegate="xnnpack")
    values = given.dequantized(given.raw((PIXELS.astype(int) - 128).astype(np.int8)))
    expected = np.asarray(keras.activations.softmax(rewritten(images)))
    assert np.abs(values - expected).max() <= 3 / 256
    as_trained = np.asarray(keras.activations.softmax(qat(images)))
    assert np.abs(values - as_trained).max() <= 4 / 256


def test_a_relu_alone_keeps_the_grid_it_reads() -> None:
    qat, plain, _ = deployed(shared_relu)
    ends = {layer.name: (layer.low, layer.high) for layer in plain.layers if isinstance(layer, quantizers.FakeQuant)}
    assert ends["relu_8bit"] == ends["sum_8bit"]
    assert ends["sum_8bit"][0] < 0


@pytest.mark.parametrize("name", MIDDLES)
def test_layers_beside_another_are_those_it_says(name) -> None:
    qat, _, _ = deployed(MIDDLES[name])
    rewritten = {layer.name for layer in for_xnnpack.shipped(qat).layers} - {layer.name for layer in qat.layers}
    for layer, sources, _ in calls(qat):
        inner = getattr(layer, "layer", layer)
        beside = set(for_xnnpack.beside(inner, len(sources)))
        made = {other for other in rewritten if re.fullmatch(rf"{layer.name}_(border|\d+)", other)}
        assert made <= beside, layer.name
        if isinstance(inner, L.Concatenate):
            assert made == beside


def test_a_fused_relu_is_left_alone() -> None:
    _, plain, _ = deployed(lambda x: L.ReLU(name="relu")(L.Conv2D(8, 3, name="conv")(x)))
    assert [type(layer) for layer in for_xnnpack.delegable(plain).layers] == [type(layer) for layer in plain.layers]


def test_the_border_is_exact_in_eight_bits() -> None:
    _, plain, _ = deployed(MIDDLES["pool 3x3 same"])
    layer = for_xnnpack.delegable(plain).get_layer("pool_border")
    parts = np.array(layer.factors) / layer.step
    assert np.abs(parts - np.rint(parts)).max() < 1e-9
    assert parts.max() <= 255
    assert sorted(set(np.array(layer.factors).ravel())) == [1.0, 1.5, 2.25]
