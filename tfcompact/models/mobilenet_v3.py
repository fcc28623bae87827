"""MobileNetV3: inverted residuals with squeeze-and-excite and h-swish, found by search.

Paper: Howard et al. 2019, arXiv:1905.02244. `SMALL` is its Table 2 as in the released code (TF-slim mobilenet_v3.py):
where the first arXiv versions print a last width of 1280 and an SE tick on the last convolution, code and
checkpoints have 1024 and none.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.backend import keras
from tfcompact.models.blocks import (
    activation,
    biased,
    conv,
    depthwise,
    logits,
    round_channels,
    squeeze_excite,
)
from tfcompact.models.spec import ModelSpec, Params


class Row(NamedTuple):
    """One bottleneck: kernel, expanded and output channels at width 1, squeeze-and-excite, nonlinearity, stride."""

    k: int
    exp: int
    out: int
    se: bool
    nl: str
    s: int


# fmt: off
SMALL = (                                                       # input at 224 px
    Row(k=3, exp= 16, out=16, se=True,  nl="relu",    s=2),     # 112 x 112 x 16
    Row(k=3, exp= 72, out=24, se=False, nl="relu",    s=2),     #  56 x  56 x 16
    Row(k=3, exp= 88, out=24, se=False, nl="relu",    s=1),     #  28 x  28 x 24
    Row(k=5, exp= 96, out=40, se=True,  nl="h_swish", s=2),     #  28 x  28 x 24
    Row(k=5, exp=240, out=40, se=True,  nl="h_swish", s=1),     #  14 x  14 x 40
    Row(k=5, exp=240, out=40, se=True,  nl="h_swish", s=1),
    Row(k=5, exp=120, out=48, se=True,  nl="h_swish", s=1),
    Row(k=5, exp=144, out=48, se=True,  nl="h_swish", s=1),     #  14 x  14 x 48
    Row(k=5, exp=288, out=96, se=True,  nl="h_swish", s=2),
    Row(k=5, exp=576, out=96, se=True,  nl="h_swish", s=1),     #   7 x   7 x 96
    Row(k=5, exp=576, out=96, se=True,  nl="h_swish", s=1),
)
# fmt: on


def bottleneck(x, row: Row, exp: int, out: int, *, name: str):
    """Expand, filter, weigh channels, project (Figure 4): `[n, h, w, k] -> [n, h/s, w/s, out]`."""
    k = x.shape[-1]
    y = conv(x, exp, act=row.nl, name=f"{name}_expand") if exp != k else x
    y = depthwise(y, row.k, row.s, act=row.nl, name=f"{name}_depthwise")
    if row.se:
        y = squeeze_excite(y, round_channels(exp / 4), gate="h_sigmoid", name=f"{name}_se")
    y = conv(y, out, act=None, name=f"{name}_project")
    return keras.layers.Add(name=f"{name}_add")([x, y]) if row.s == 1 and k == out else y


def mobilenet_v3(
    shape: tuple[int, int, int], classes: int, *, rows: tuple[Row, ...], last: int, width: float, name: str
):
    """Builds the network; `last` is the width of the layer before the logits, which `width` does not scale."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, 16, 3, 2, act="h_swish", name="stem")
    for i, row in enumerate(rows):
        # The expansion follows the scaled input, so that its ratio is the table's (TF-slim, expand_input_by_factor).
        table_in = rows[i - 1].out if i else 16
        exp = round_channels(x.shape[-1] * (row.exp / table_in))
        x = bottleneck(x, row, exp, round_channels(row.out * width), name=f"block{i}")
    x = conv(x, round_channels(6 * x.shape[-1]), act="h_swish", name="head")
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)  # [n, 1, 1, c]
    x = activation(biased(x, last, name="last"), "h_swish", "last")
    return keras.Model(inputs, logits(x, classes, dropout=0.2), name=name)


SPECS = (
    ModelSpec(
        name="mobilenet_v3_small",
        family="mobilenet_v3",
        build=partial(mobilenet_v3, rows=SMALL, last=1024, width=1.0, name="mobilenet_v3_small"),
        image_px=224,
        min_px=32,
        params=Params(2_542_856, 12_112),
        macs=56_510_400,
        top1=67.4,
        source="arXiv:1905.02244, Tables 2 and 3; TF-slim mobilenet_v3.py",
    ),
)
