"""Where two computations of one network part: tensor by tensor, in order of execution.

Either side is `name -> values`: what `runtime.tensor_values` saw in a file, or the outputs of Keras layers. The first
tensor that is mostly noise names the operation to look at; a difference that only grows slowly from layer to layer
is one-step rounding in a network that amplifies it, and no fault of the conversion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfcompact.errors import UserError

NOISY_DB = 10.0
"""Below, more than a tenth of the signal's energy is noise."""


def by_layer(values: Mapping[str, np.ndarray], layers: Sequence[str]) -> dict[str, np.ndarray]:
    """The values of `tensor_values` under the names of the Keras `layers` they come from, in order of execution.

    A tensor is named after the operations it unites, `net/stem_relu/Relu6;net/stem_bn/…;…`, the last one first; where
    several tensors carry one layer's name the last computed is the layer's output.
    """
    known = set(layers)
    found: dict[str, np.ndarray] = {}
    for name, value in values.items():
        layer = next((part for part in reversed(name.split(";")[0].split("/")) if part in known), None)
        if layer is not None:
            found.pop(layer, None)
            found[layer] = value
    return found


@dataclass(frozen=True)
class Agreement:
    """How near one tensor comes to its reference: signal-to-noise ratio in dB, and the largest difference."""

    name: str
    sqnr_db: float
    largest_difference: float


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """The power of `reference` over that of its difference from `other`, in dB.

    It is infinite where there is no difference, and minus infinity where all is noise.
    """
    expected = reference.astype(np.float64)
    noise, signal = float(np.sum((expected - other) ** 2)), float(np.sum(expected**2))
    return float(np.inf if noise == 0 else 10 * np.log10(signal / noise) if signal > 0 else -np.inf)


def compare(reference: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> list[Agreement]:
    """The agreement of every name and shape that both have, in the order of `reference`."""
    rows = []
    for name, expected in reference.items():
        value = other.get(name)
        if value is None or value.shape != expected.shape:
            continue
        error = np.abs(expected.astype(np.float64) - value)
        rows.append(Agreement(name, sqnr_db(expected, value), float(np.max(error, initial=0.0))))
    return rows


def first_divergence(reference: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> Agreement | None:
    """The first tensor that comes less near to its reference than `NOISY_DB`, or None.

    Raises `UserError` where the two share no name, since nothing was compared then.
    """
    rows = compare(reference, other)
    if not rows:
        raise UserError("the two share no tensor of the same name and shape; compare files of the same network")
    return next((row for row in rows if row.sqnr_db < NOISY_DB), None)
