"""Logits against a second implementation, `tf_keras.applications`, with copied random weights."""

import numpy as np
import pytest
from random_weights import after_preprocessing, randomize
from variants import cheapest_first

from tfcompact import models
from tfcompact.frameworks import keras
from tfcompact.weights import transfer

ODD = (
    *("mobilenet_v2_0.35", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_b0", "xception"),
    *("nasnet_mobile", "densenet_121", "resnet_50"),
)
"""At least one of each family that tf_keras.applications has; inception_v3 pads nothing before a stride.

Its mobilenet_v1 is left out: it pads the end of odd maps too, where TF-slim and we pad both sides.
"""


@pytest.mark.parametrize("name", cheapest_first(lambda spec: spec.keras is not None))
def test_logits_are_those_of_keras_applications(name: str, record_property) -> None:
    px = models.spec(name).image_px
    difference = _difference(name, px)
    for key, value in (("network", name), ("px", px), ("difference", difference)):
        record_property(key, value)  # for tests/benchmarks/references.py
    assert difference <= 1e-4


@pytest.mark.parametrize("name", ODD)
def test_logits_are_equal_at_an_odd_size(name: str) -> None:
    """Keras pads by hand before a stride of 2, we say SAME: windows must fall alike on grids of any parity."""
    assert _difference(name, max(models.spec(name).min_px, 96) + 1) <= 1e-4


def _difference(name: str, px: int) -> float:
    """The largest difference of logits between ours and theirs, which has random weights and BN statistics."""
    keras.backend.clear_session()
    rng = np.random.default_rng(1)
    spec = models.spec(name)
    theirs, ours = transfer.application(spec.keras, px, spec.classes), models.build(name, px=px)
    randomize(theirs, rng)
    transfer.copy_in_order(theirs, ours)
    images = rng.uniform(-1, 1, (1, px, px, 3)).astype(np.float32)
    expected, found = after_preprocessing(theirs)(images).numpy(), ours(images).numpy()
    difference, spread = float(np.abs(expected - found).max()), float(expected.std())
    print(f"{name} at {px} px: largest difference {difference:.1e}, standard deviation of the logits {spread:.2f}")
    assert spread > 0.1, "logits too alike to tell anything"
    return difference
