"""A model on disk: architecture and weights in one HDF5 file, for float and quantization-aware networks alike."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import h5py  # type: ignore[import-untyped]

from tfcompact.errors import UserError
from tfcompact.frameworks import Model, keras


def save(model: Model, path: Path) -> None:
    """Writes `model` as HDF5, since quantization-aware networks do not come back from the `.keras` format."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
        model.save(path, save_format="h5", include_optimizer=False)


def load(path: Path) -> Model:
    """The model that `save` wrote. Raises `UserError` for a file that is not one, or that would run foreign code."""
    from tfcompact.models.layers import CUSTOM
    from tfcompact.models.whole_batch import layers_in_scope

    try:
        with h5py.File(path) as file:
            config = json.loads(file.attrs["model_config"])
            classes = set(_class_names(config["config"]["layers"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a model saved by tfcompact ({error})") from None
    # A Lambda layer carries Python bytecode; none of our networks has one.
    if foreign := classes & {"Lambda", "TFOpLambda"}:
        raise UserError(
            f"{path} holds a {foreign.pop()} layer, which would run code from the file; it was not loaded"
        )
    if "QuantizeWrapperV2" in classes:
        import tfcompact.compress.quantization.quantizers  # noqa: F401  (registers them and the wrapper)
    return keras.models.load_model(path, custom_objects=CUSTOM | layers_in_scope(), compile=False)


def _class_names(config: object) -> Iterator[str]:
    """Every class that a serialized model names, in wrappers and nested models too."""
    if isinstance(config, dict):
        name = config.get("class_name")
        if isinstance(name, str):
            yield name
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            yield from _class_names(item)
