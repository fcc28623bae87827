"""The 8-bit grids that are known before any image is seen: the pixels', and a sigmoid's. No TensorFlow here."""

from __future__ import annotations

import math

from tfcompact.errors import UserError
from tfcompact.records.artifact import Normalization

INPUT = "image_quantized"
"""The name of the layer that rounds the image, in a quantization-aware network."""
SIGMOID = (0.0, 255 / 256)
"""The range of a sigmoid's output, a step of 1/256 (TFLite 8-bit specification, LOGISTIC)."""


def grid(normalization: Normalization) -> tuple[int, float]:
    """Zero point and step at which a quantized input is the uint8 pixel. Raises `UserError` where there is none."""
    if not normalization.uniform or normalization.mean[0] != round(normalization.mean[0]):
        raise UserError(
            f"a uint8 input needs one whole-numbered mean and one std for all channels, not {normalization}; "
            "use pixel_grid.on_grid(normalization)"
        )
    return round(normalization.mean[0]), 1 / normalization.std[0]


def image_range(normalization: Normalization) -> tuple[float, float]:
    """What the pixels 0 and 255 are, normalized. Raises `UserError` where pixels are not exact in 8 bits."""
    zero_point, step = grid(normalization)
    return (0 - zero_point) * step, (255 - zero_point) * step


def on_grid(normalization: Normalization) -> Normalization:
    """`normalization` with its mean moved to a whole pixel value (127.5 -> 128), so that pixels are exact in 8 bits.

    The network is fine-tuned with it; the shift, at most half of one pixel value, is what a uint8 file has anyway.
    An 8-bit input has one scale for all channels: where channels differ it is (pixel - 128) / 127.5, and the network
    must be made to fit (`lowering.renormalized`).
    """
    if not normalization.uniform:
        return Normalization((128.0,), (127.5,))
    mean = float(math.floor(normalization.mean[0] + 0.5))
    return Normalization((mean,), normalization.std[:1], normalization.channel_order)
