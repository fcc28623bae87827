"""The one chain to 8 bits, and what of it needs no TensorFlow."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from random_weights import randomize

from tfcompact.compress.quantization import equalization, norm_as_addition, prepare, wrapping
from tfcompact.compress.quantization.lowering import lower
from tfcompact.compress.quantization.rounded_layers import rounded_layers
from tfcompact.frameworks import keras
from tfcompact.models.blocks import activation, bare, conv, logits, norm

L = keras.layers
IMAGES = np.random.default_rng(0).uniform(-1, 1, (8, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    """Something for every step: batch normalization behind and before a convolution, h-swish, a ReLU, a side head."""
    image = L.Input((8, 8, 3), name="image")
    x = conv(image, 4, 3, act="h_swish", name="stem")
    x = conv(x, 4, act="relu", name="middle")
    x = L.Concatenate(name="both")([x, conv(x, 4, 3, act="relu", name="grown")])
    x = bare(activation(norm(x, name="last_bn"), "relu", "last"), 4, name="last")
    x = L.GlobalAveragePooling2D(name="pool")(activation(x, "relu", "end"))
    side = logits(x, 2, dropout=0.0, name="aux_logits")
    model = keras.Model(image, [logits(x, 5, dropout=0.0), side], name="tiny")
    randomize(model, np.random.default_rng(1))
    return model


@pytest.mark.parametrize("equalize", [False, True])
def test_it_is_the_steps_one_after_the_other(model, equalize) -> None:
    found = prepare.prepare(model, [IMAGES], equalize=equalize)
    parent = lower(keras.Model(model.input, model.outputs[0]))
    if equalize:
        parent, factors = equalization.equalized(parent)
        assert found.equalized == factors != {}
    parent = norm_as_addition.shifted(parent, [IMAGES])
    assert [layer.name for layer in found.parent.layers] == [layer.name for layer in parent.layers]
    np.testing.assert_array_equal(found.parent(IMAGES), parent(IMAGES))
    np.testing.assert_array_equal(found.qat(IMAGES), wrapping.quantized(parent)(IMAGES))


def test_the_parent_is_the_same_function_and_the_model_stays(model) -> None:
    before = [w.copy() for w in model.get_weights()]
    parent, qat, equalized = prepare.prepare(model, [IMAGES], learn_ranges=True)
    np.testing.assert_allclose(parent(IMAGES), model(IMAGES)[0], rtol=1e-4, atol=1e-4)
    assert equalized == {}
    assert any(layer.quantize_config.learned for layer in rounded_layers(qat))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_options_of_a_stage_can_be_checked_without_tensorflow() -> None:
    code = (
        "import sys; from tfcompact.compress.quantization import pixel_grid, ranges; "
        "from tfcompact.records.artifact import Normalization; "
        "assert pixel_grid.on_grid(Normalization()).mean == (128.0,) and 'mse' in ranges.RANGES; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
