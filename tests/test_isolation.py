"""Operators of a file as files of their own: together they are the file; XNNPACK's kernels are the reference's."""

import numpy as np
import pytest

from tfcompact import delegation, export, isolation, lite, models, quantization
from tfcompact.lowering import lower
from tfcompact.types import Normalization

PIXELS = np.random.default_rng(4).integers(0, 256, (16, 64, 64, 3)).astype(np.uint8)


@pytest.fixture(scope="module", params=["mobilenet_v3_small", "shufflenet_v2_0.5", "googlenet_bn"])
def content(request) -> bytes:
    parent = lower(models.build(request.param, px=64, classes=10))
    images = ((PIXELS - 128.0) / 127.5).astype(np.float32)
    qat = quantization.quantized(parent)
    quantization.calibrate(qat, parent, [images], Normalization((128.0,), (127.5,)), 100)
    return export.convert(delegation.shipped(qat), "int8", images[:4])


def test_every_piece_gives_what_the_whole_file_has_there(content) -> None:
    values = isolation.integers(content, PIXELS[0])
    found = list(isolation.pieces(content))
    assert [piece.kind for piece in found] == lite.operators(content)
    for piece in found:
        for name, value in zip(piece.outputs, isolation._run(piece, values, "reference"), strict=True):
            np.testing.assert_array_equal(value, values[name], err_msg=piece.name)


def test_no_kernel_of_xnnpack_is_more_than_two_steps_from_the_reference(content) -> None:
    values = isolation.integers(content, PIXELS[1])
    for piece in isolation.pieces(content):
        assert isolation.largest_difference(piece, values, "xnnpack", "reference") <= 2, piece.name


def test_a_piece_takes_nothing_but_what_its_operator_reads(content) -> None:
    piece = next(p for p in isolation.pieces(content) if p.kind == "CONV_2D")
    assert lite.operators(piece.content) == ["CONV_2D"]
    assert len(piece.inputs) == len(piece.outputs) == 1
    assert len(piece.content) < len(content) / 3
