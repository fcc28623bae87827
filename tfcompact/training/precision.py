"""Mixed precision: 16-bit arithmetic over 32-bit weights, where a GPU has it."""

from __future__ import annotations

from typing import Any

from tfcompact.frameworks import keras, tf
from tfcompact.networks.rewrite import rewrite


def policy_for(precision: str) -> str:
    """The Keras dtype policy: mixed where asked for, or where every GPU has the arithmetic for it."""
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [tf.config.experimental.get_device_details(g).get("compute_capability", (0, 0)) for g in gpus]
    if not capabilities or min(capabilities) < (7, 0):
        return "float32"
    return "mixed_bfloat16" if min(capabilities) >= (8, 0) else "mixed_float16"


def with_precision(model: Any, policy: str) -> Any:
    """A copy of `model` that computes in `policy`; variables, and so weights, stay float32."""
    copies: dict[str, Any] = {}

    def recast(layer: Any, x: Any) -> Any:
        if isinstance(layer, keras.layers.InputLayer):
            return None
        if layer.name not in copies:
            copies[layer.name] = layer.__class__.from_config(layer.get_config() | {"dtype": policy})
        out = copies[layer.name](x)
        copies[layer.name].set_weights(layer.get_weights())
        return out

    return rewrite(model, recast)
