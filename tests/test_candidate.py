"""An untrained network is priced as what it becomes: the operators and the pieces of the file that ships."""

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


@pytest.mark.slow
@pytest.mark.parametrize("name", cheapest_first(lambda spec: True))
def test_an_untrained_networks_file_has_the_operators_of_the_one_that_ships(name: str) -> None:
    keras.backend.clear_session()
    px = max(32, models.spec(name).min_px)
    model = models.build(name, px=px, classes=5)
    images = np.random.default_rng(1).uniform(-1, 1, (16, px, px, 3)).astype(np.float32)
    untrained, shipped = int8_file(model), as_trained(model, images)
    assert flatbuffer.operators(untrained) == flatbuffer.operators(shipped)
    assert runtime.partitions(untrained) == runtime.partitions(shipped)
