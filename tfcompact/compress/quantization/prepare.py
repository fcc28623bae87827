"""From a float network to one that is ready for its ranges: the one chain behind every 8-bit file.

The order matters. Batch normalization is folded and gates are lowered first, so that what is rounded, and trained, is
what is shipped; channels are made equal while no addition stands between them; what is left of batch normalization
becomes additions; then everything is wrapped. `calibration.calibrate` sets the ranges afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tfcompact.compress.quantization import equalization, norm_as_addition, wrapping
from tfcompact.compress.quantization.lowering import lower
from tfcompact.frameworks import Model
from tfcompact.networks.rewrite import inference


class Prepared(NamedTuple):
    """A network before rounding and after, ranges unset; for each convolution the largest factor it was equalized by.

    `parent` is float: the same function as the network that it was made of.
    """

    parent: Model
    qat: Model
    equalized: dict[str, float]


def prepare(
    model: Model,
    batches: Iterable[np.ndarray],
    *,
    equalize: bool = False,
    learn_ranges: bool = False,
) -> Prepared:
    """The inference network of `model` lowered, and the same with every layer rounded as TFLite will.

    `batches` are normalized images `[n, px, px, 3]`. `model` is not changed. Raises `UserError` for a layer that
    has no rule.
    """
    parent = lower(inference(model))
    factors: dict[str, float] = {}
    if equalize:
        parent, factors = equalization.equalized(parent)
    parent = norm_as_addition.shifted(parent, batches)
    return Prepared(parent, wrapping.quantized(parent, learn_ranges=learn_ranges), factors)
