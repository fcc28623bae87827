"""A model on disk: architecture and weights in one HDF5 file, for float and quantization-aware networks alike.

Keras' own reader of HDF5 has no safe mode: a config may name any class of any module, and some classes hold code.
So a file is walked before Keras sees it (`foreign_class`, `check_arrays`), and comes in only if it holds what our
networks are made of: classes by a list, arrays that are stored in the file, variables that those arrays fill.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]

from tfcompact import files
from tfcompact.errors import UserError
from tfcompact.frameworks import Model, keras, tf
from tfcompact.runs.store import Run
from tfcompact.weights.stored_arrays import check_arrays

LAYERS = """Activation Add AveragePooling2D BatchNormalization Concatenate Conv2D Cropping2D Dense DepthwiseConv2D
Dropout Flatten GlobalAveragePooling2D InputLayer MaxPooling2D Multiply ReLU Softmax ZeroPadding2D"""
WRAPPER = "QuantizeWrapperV2"
INITIALIZERS = "GlorotUniform Ones RandomNormal VarianceScaling Zeros"
MODULES = {
    **dict.fromkeys(LAYERS.split(), "keras.layers"),
    **dict.fromkeys(INITIALIZERS.split(), "keras.initializers"),
    WRAPPER: "tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper",
}
"""The classes that a network of ours may have beside our own (`layers.CUSTOM`), and the module that may be named for
each; `tests/test_saved.py` holds every family against them."""
OURS = "tfcompact>"  # what Keras writes before the names of registered classes
SPARE = 1024  # variables that no array fills, such as counters, may have as many numbers altogether


def save(model: Model, path: Path) -> None:
    """Writes `model` as HDF5, since quantization-aware networks do not come back from the `.keras` format.

    The file is made in memory: where a disk is full, the HDF5 library may end the process.
    """
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
        with h5py.File(content, "w") as file:
            model.save(file, save_format="h5", include_optimizer=False)
    files.write_bytes(path, content.getvalue())


def of_run(run: Run) -> Model:
    """The network of a finished run. Raises `UserError` where its file is not as it was written."""
    path = run.path / "model.h5"
    recorded = run.model_sha256
    if recorded is not None and path.is_file():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != recorded:
            raise UserError(
                f"{path} is not as it was written: the run is damaged; remove {run.path}, and the same command makes "
                "it anew"
            )
    return load(path)


def load(path: Path) -> Model:
    """The model that `save` wrote. Raises `UserError` for a file that is not one, or that could run foreign code."""
    from tfcompact.models.layers import CUSTOM
    from tfcompact.models.whole_batch import layers_in_scope

    try:
        with h5py.File(path) as file:
            config = json.loads(file.attrs["model_config"])
            held = check_arrays(path, file)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        raise _no_model(path, error) from None
    if not isinstance(config, dict) or "layers" not in (config.get("config") or ()):
        raise _no_model(path, "no network in it")
    if any(part["class_name"] == WRAPPER for part in _parts(config)):
        import tfcompact.compress.quantization.quantizers  # noqa: F401  (registers them and the wrapper)
    if (foreign := foreign_class(config)) is not None:
        raise UserError(
            f"{path} holds {foreign!r:.60}, which is not part of any network that tfcompact makes and might run code "
            "from the file; it was not loaded"
        )
    try:
        with tf.variable_creator_scope(_within(path, held + SPARE)):
            return keras.models.load_model(path, custom_objects=CUSTOM | layers_in_scope(), compile=False)
    except UserError:
        raise
    except Exception as error:  # Keras has an error of every kind for a config that contradicts itself
        raise _no_model(path, error) from None


def _no_model(path: Path, why: object) -> UserError:
    """The error for a file in which there is no network of ours, on one line."""
    reason = " ".join(str(why).split())[:200]
    return UserError(f"{path} is not a model saved by tfcompact ({reason})")


def foreign_class(config: object) -> str | None:
    """The first class that a serialized model names, at any depth, and that no network of ours has; else None."""
    for place, part in enumerate(_parts(config)):
        name = part["class_name"]
        if not ((name == "Functional") if place == 0 else _allowed(part)):
            return name if isinstance(name, str) else repr(name)
    return None


def _allowed(part: dict[str, Any]) -> bool:
    """Whether a serialized object is of a class of ours, and names no other module or registered class."""
    from tfcompact.models.layers import CUSTOM

    name = part["class_name"]
    bare = name.removeprefix(OURS) if isinstance(name, str) else None
    if bare in CUSTOM:
        module = CUSTOM[bare].__module__
    elif bare in MODULES:
        module = MODULES[bare]
    else:
        return False
    return part.get("module") in (None, module) and part.get("registered_name") in (None, bare, OURS + bare)


def _parts(config: object) -> Iterator[dict[str, Any]]:
    """Every serialized object, the outer before the inner."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "class_name" in part:
                yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _within(path: Path, numbers: int) -> Callable[..., Any]:
    """A creator of variables that have no more than so many numbers altogether."""
    left = numbers

    def create(next_creator: Callable[..., Any], **options: Any) -> Any:
        nonlocal left
        left -= math.prod(options.get("shape") or ())
        if left < 0:
            raise UserError(f"{path} describes a larger network than its weights fill; it was not loaded")
        return next_creator(**options)

    return create
