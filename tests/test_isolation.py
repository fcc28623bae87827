"""Operators of a file as files of their own: together they are the file; XNNPACK's kernels are the reference's."""

import numpy as np
import pytest

from tfcompact import models
from tfcompact.compress.quantization import calibration, for_xnnpack, wrapping
from tfcompact.compress.quantization.lowering import lower
from tfcompact.errors import UserError
from tfcompact.export import converter
from tfcompact.frameworks import keras
from tfcompact.records.artifact import Normalization
from tfcompact.tflite import flatbuffer, pieces, runtime

PIXELS = np.random.default_rng(4).integers(0, 256, (16, 64, 64, 3)).astype(np.uint8)


@pytest.fixture(scope="module", params=["mobilenet_v3_small", "shufflenet_v2_0.5", "googlenet_bn"])
def content(request) -> bytes:
    parent = lower(models.build(request.param, px=64, classes=10))
    images = ((PIXELS - 128.0) / 127.5).astype(np.float32)
    qat = wrapping.quantized(parent)
    calibration.calibrate(qat, parent, [images], Normalization((128.0,), (127.5,)), 100)
    return converter.convert(for_xnnpack.shipped(qat), "int8", images[:4])


def test_every_piece_gives_what_the_whole_file_has_there(content) -> None:
    values = pieces.integers(content, PIXELS[0])
    found = list(pieces.pieces(content))
    assert [piece.kind for piece in found] == flatbuffer.operators(content)
    for piece in found:
        for name, value in zip(piece.outputs, pieces.run(piece, values, "reference"), strict=True):
            np.testing.assert_array_equal(value, values[name], err_msg=piece.name)


def test_no_kernel_of_xnnpack_is_more_than_two_steps_from_the_reference(content) -> None:
    values = pieces.integers(content, PIXELS[1])
    for piece in pieces.pieces(content):
        assert pieces.largest_difference(piece, values, "xnnpack", "reference") <= 2, piece.name


def test_a_piece_takes_nothing_but_what_its_operator_reads(content) -> None:
    piece = next(p for p in pieces.pieces(content) if p.kind == "CONV_2D")
    assert flatbuffer.operators(piece.content) == ["CONV_2D"]
    assert len(piece.inputs) == len(piece.outputs) == 1
    assert len(piece.content) < len(content) / 3


@pytest.mark.parametrize("format", ["int8", "uint8", "float32"])
def test_a_file_up_to_its_logits(format) -> None:
    """Its softmax is the whole file's answer; only the softmax, and what changes its type, is gone."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, activation="relu")(image))
    model = keras.Model(image, keras.layers.Dense(5)(x))
    images = np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 3)).astype(np.float32)
    if format != "float32":
        qat = wrapping.quantized(model)
        calibration.calibrate(qat, model, [images], Normalization((128.0,), (127.5,)), 100)
        model = for_xnnpack.shipped(qat)
    whole = converter.convert(model, format, images)
    cut = pieces.up_to_logits(whole)
    expected = flatbuffer.operators(whole)
    assert flatbuffer.operators(cut) == expected[: expected.index("SOFTMAX")]
    files = [runtime.LiteModel(content) for content in (whole, cut)]
    given = images if format == "float32" else files[0].prepared((images * 127 + 128).astype(np.uint8))
    signed = given if files[1].input_dtype == given.dtype else (given ^ 0x80).view(np.int8)
    probabilities, logits = (file.dequantized(file.raw(x)) for file, x in zip(files, (given, signed), strict=True))
    powers = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(powers / powers.sum(1, keepdims=True), probabilities, atol=1 / 256 + 1e-6)
    with pytest.raises(UserError, match="does not end in a softmax, but in FULLY_CONNECTED"):
        pieces.up_to_logits(cut)
