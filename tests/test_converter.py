"""A file's bytes follow from its network alone, whatever else the process has built before."""

from tfcompact import models
from tfcompact.export.candidate import int8_file
from tfcompact.frameworks import keras


def test_a_file_is_the_same_after_other_networks_were_built() -> None:
    def file() -> bytes:
        keras.utils.set_random_seed(0)
        return int8_file(models.build("mobilenet_v2_0.35", px=32, classes=3))

    first = file()
    keras.Model(inputs := keras.Input((4,)), keras.layers.Dense(2)(inputs) + 1)
    assert file() == first
