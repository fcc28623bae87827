"""Trains a network: from scratch, or with `--parent` on from the weights of another fit run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfcompact.frameworks import keras, tf
from tfcompact.options import opt
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training

FROM: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config(Training):
    """Options of `fit`."""

    weights: str | None = opt(
        None,
        "what to start from: imagenet, a run's directory, or a file (.h5, .safetensors, .pth); random unless given",
    )


def run(model: Any, config: Config, context: Context) -> tuple[Any, dict[str, Any]]:
    """A trained copy of `model`, with the weights of the best validation accuracy, and what became of it.

    Auxiliary heads, which have their weight in the architecture's `aux_weight`, are trained and kept. Raises
    `UserError` where the loss stops being a number.
    """
    from tfcompact.training import loop

    policy = _policy(config.precision)
    network = _with_precision(model, policy)
    notes = loop.train(network, config, context, aux_weight=context.spec.aux_weight or 0.0)
    return _with_precision(network, "float32"), notes | {"precision": policy}


def _policy(precision: str) -> str:
    """The Keras dtype policy: mixed where asked for, or where every GPU has the arithmetic for it."""
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [tf.config.experimental.get_device_details(g).get("compute_capability", (0, 0)) for g in gpus]
    if not capabilities or min(capabilities) < (7, 0):
        return "float32"
    return "mixed_bfloat16" if min(capabilities) >= (8, 0) else "mixed_float16"


def _with_precision(model: Any, policy: str) -> Any:
    """A copy of `model` that computes in `policy`; variables, and so weights, stay float32."""
    from tfcompact.networks.rewrite import rewrite

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
