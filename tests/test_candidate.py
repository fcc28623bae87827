"""An untrained network is priced as what it becomes: the operators and the pieces of the file that ships."""

from collections import Counter

import numpy as np
import pytest
from random_weights import randomize
from variants import cheapest_first

from tfcompact import models
from tfcompact.compress.quantization import calibration, for_xnnpack
from tfcompact.compress.quantization.pixel_grid import on_grid
from tfcompact.compress.quantization.prepare import prepare
from tfcompact.export import converter
from tfcompact.export.candidate import int8_file
from tfcompact.frameworks import Model, keras, tf
from tfcompact.records.artifact import Normalization
from tfcompact.tflite import flatbuffer, runtime
from tfcompact.training.norms import reestimate_norms


def as_trained(model: Model, images: np.ndarray) -> bytes:
    """The int8 file of a network whose weights are like a trained one's: biases, and statistics of what they see."""
    randomize(model, np.random.default_rng(0))
    reestimate_norms(model, tf.data.Dataset.from_tensors((images, 0)), 1)
    parent, qat, _ = prepare(model, [images])
    calibration.calibrate(qat, parent, [images], on_grid(Normalization((127.5,), (127.5,))), 100)
    return converter.convert(for_xnnpack.shipped(qat), "int8", images[:1])


QUICK = (
    *("squeezenet_1.1", "shufflenet_v2_0.5", "mobilenet_v1_0.25", "mobilenet_v2_0.35", "mobilenet_v3_small_0.75"),
    *("efficientnet_lite0", "googlenet_bn_3x3", "densenet_bc_40_12"),
)
"""Families that are always tried; the others take minutes and are tried with --exhaustive."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        p if p.id in QUICK else pytest.param(p.id, marks=pytest.mark.exhaustive)
        for p in cheapest_first(lambda spec: True)
    ],
)
def test_an_untrained_networks_file_has_the_operators_of_the_one_that_ships(name: str) -> None:
    keras.backend.clear_session()
    spec = models.spec(name)
    px = max(32, spec.min_px)
    model = models.build(name, px=px, classes=5)
    images = np.random.default_rng(1).uniform(-1, 1, (16, px, px, 3)).astype(np.float32)
    untrained, shipped = int8_file(model), as_trained(model, images)
    # A normalization that nothing can be folded into is an addition or a depthwise convolution, as the data want it.
    alike = {"DEPTHWISE_CONV_2D": "ADD"} if spec.family.startswith("densenet") else {}
    ours, theirs = (
        Counter(alike.get(kind, kind) for kind in flatbuffer.operators(content)) for content in (untrained, shipped)
    )
    assert not theirs - ours
    # Weights decide which input of a concatenation has the widest range, and so needs no rescaling.
    assert set(ours - theirs) <= {"QUANTIZE"}
    assert (ours - theirs).total() <= ours["CONCATENATION"]
    assert runtime.partitions(untrained).count == runtime.partitions(shipped).count
