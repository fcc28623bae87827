"""A weights file of tf_keras.applications before Keras reads it: what is in it, and that it is in it."""

from __future__ import annotations

from pathlib import Path

import h5py  # type: ignore[import-untyped]

from tfcompact.errors import UserError
from tfcompact.weights.stored_arrays import check_arrays

HEADS = ("predictions", "conv_preds", "logits")
"""What tf_keras.applications calls its classifiers, in small letters."""


def classes(path: Path) -> int | None:
    """The number of classes of the network that the file is of; None where it has no classifier.

    Raises `UserError` for a file that is no weights file, or whose arrays are not in it.
    """
    try:
        with h5py.File(path) as file:
            check_arrays(path, file)
            layers = file.get("model_weights", file)
            for name in reversed(
                [str(n.decode() if isinstance(n, bytes) else n) for n in layers.attrs["layer_names"]]
            ):
                if weights := [layers[name][w] for w in layers[name].attrs["weight_names"]]:
                    is_head = name.lower().rstrip("_0123456789").startswith(HEADS)
                    return int(weights[0].shape[-1]) if is_head else None
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a weights file of tf_keras.applications ({reason:.200})") from None
    raise UserError(f"{path} is not a weights file of tf_keras.applications (no layer in it has weights)")
