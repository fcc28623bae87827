"""Random weights that make every layer matter, so that equal logits mean equal networks."""

from typing import Any

import numpy as np

from tfcompact.frameworks import keras

PREPROCESSING = ("Rescaling", "Normalization")


def randomize(model: Any, rng: np.random.Generator) -> None:
    """Gives every batch normalization statistics, scale and shift, and every bias a value; kernels stay as made."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.3, shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, shape))
            layer.beta.assign(rng.normal(0, 0.3, shape))
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.7, 1.3, shape))
        elif getattr(layer, "use_bias", False) and getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))


def after_preprocessing(theirs: Any) -> Any:
    """The network behind its own layers of preprocessing, if it has any: it takes normalized images."""
    first = [i for i, layer in enumerate(theirs.layers) if type(layer).__name__ in PREPROCESSING]
    if not first:
        return theirs
    return keras.Model(theirs.layers[first[-1]].output, theirs.output)
