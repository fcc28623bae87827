"""MnasNet: inverted residuals whose kernels, expansions and depths a search chose row by row, by latency on a phone.

Paper: Tan et al. 2019, arXiv:1807.11626. The tables are those of tensorflow/tpu,
models/official/mnasnet/mnasnet_models.py: A1 with squeeze-and-excite, B1 without it, small for the lowest latency.
`width` scales all but the last layer's 1280 channels. What torchvision calls `mnasnet` is B1; timm's `mnasnet` is B1
and its `semnasnet` A1.

`mnasnet_small` has two readings. In tensorflow/tpu its first block adds no shortcut, since the table writes 16
channels of input where the stem gives 8. timm goes by what comes in, and joins 8 to 8: `mnasnet_small_joined`, with
the same parameters and multiply-adds, and the one whose weights can be had.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import classifier, conv, depthwise, round_channels, squeeze_excite
from tfcompact.models.spec import IMAGENET, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import split, timm_blocks, timm_separable


class Row(NamedTuple):
    """`n` inverted residuals, the first with stride `s`."""

    t: int  # expansion factor
    k: int  # kernel of the depthwise convolution
    c: int  # output channels at width 1
    n: int
    s: int
    se: bool = False


# fmt: off
A1 = (                                    # input at 224 px and width 1
    Row(t=1, k=3, c= 16, n=1, s=1),           # 112 x 112 x  32
    Row(t=6, k=3, c= 24, n=2, s=2),           # 112 x 112 x  16
    Row(t=3, k=5, c= 40, n=3, s=2, se=True),  #  56 x  56 x  24
    Row(t=6, k=3, c= 80, n=4, s=2),           #  28 x  28 x  40
    Row(t=6, k=3, c=112, n=2, s=1, se=True),  #  14 x  14 x  80
    Row(t=6, k=5, c=160, n=3, s=2, se=True),  #  14 x  14 x 112
    Row(t=6, k=3, c=320, n=1, s=1),           #   7 x   7 x 160
)

B1 = (
    Row(t=1, k=3, c= 16, n=1, s=1),           # 112 x 112 x  32
    Row(t=3, k=3, c= 24, n=3, s=2),           # 112 x 112 x  16
    Row(t=3, k=5, c= 40, n=3, s=2),           #  56 x  56 x  24
    Row(t=6, k=5, c= 80, n=3, s=2),           #  28 x  28 x  40
    Row(t=6, k=3, c= 96, n=2, s=1),           #  14 x  14 x  80
    Row(t=6, k=5, c=192, n=4, s=2),           #  14 x  14 x  96
    Row(t=6, k=3, c=320, n=1, s=1),           #   7 x   7 x 192
)

SMALL = (
    Row(t=1, k=3, c=  8, n=1, s=1),           # 112 x 112 x   8
    Row(t=3, k=3, c= 16, n=1, s=2),           # 112 x 112 x   8
    Row(t=6, k=3, c= 16, n=2, s=2),           #  56 x  56 x  16
    Row(t=6, k=5, c= 32, n=4, s=2, se=True),  #  28 x  28 x  16
    Row(t=6, k=3, c= 32, n=3, s=1, se=True),  #  14 x  14 x  32
    Row(t=6, k=5, c= 88, n=3, s=2, se=True),  #  14 x  14 x  32
    Row(t=6, k=3, c=144, n=1, s=1),           #   7 x   7 x  88
)
# fmt: on


def block(x: Tensor, row: Row, c: int, stride: int, *, joined: bool, name: str) -> Tensor:
    """Expand, filter, weigh channels, project: `[n, h, w, k] -> [n, h/stride, w/stride, c]`.

    The gate is squeezed to a quarter of the block's input, not of what it weighs.
    """
    k = x.shape[-1]
    y = conv(x, row.t * k, act="relu", name=f"{name}_expand") if row.t > 1 else x
    y = depthwise(y, row.k, stride, act="relu", name=f"{name}_depthwise")
    if row.se:
        y = squeeze_excite(y, max(1, k // 4), gate="sigmoid", name=f"{name}_se")
    y = conv(y, c, act=None, name=f"{name}_project")
    return keras.layers.Add(name=f"{name}_add")([x, y]) if joined and stride == 1 and k == c else y


def mnasnet(
    shape: tuple[int, int, int],
    classes: int,
    *,
    rows: tuple[Row, ...],
    stem: int,
    dropout: float,
    width: float,
    joined: bool,
    name: str,
) -> Model:
    """Builds the network. `joined` gives the first block a shortcut too, where its widths are equal."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, round_channels(stem * width), 3, 2, act="relu", name="stem")
    for i, row in enumerate(rows):
        for j in range(row.n):
            stride = row.s if j == 0 else 1
            x = block(x, row, round_channels(row.c * width), stride, joined=joined or i > 0, name=f"block{i}_{j}")
    x = conv(x, 1280, act="relu", name="head")
    return keras.Model(inputs, classifier(x, classes, dropout=dropout), name=name)


def torchvision(layer: str) -> str:
    """torchvision's module path of one of our layers of B1."""
    conv, is_norm = split(layer)
    outside = {"stem": 0, "block0_0_depthwise": 3, "block0_0_project": 6, "head": 14}
    if conv == "logits":
        return "classifier.1"
    if conv in outside:
        return f"layers.{outside[conv] + is_norm}"
    row, repeat, part = conv.removeprefix("block").split("_")
    place = {"expand": 0, "depthwise": 3, "project": 6}[part]
    return f"layers.{int(row) + 7}.{repeat}.layers.{place + is_norm}"


def timm(layer: str) -> str:
    """timm's module path of one of our layers."""
    return timm_separable(layer) if layer.startswith("block0_") else timm_blocks(layer)


TORCHVISION = {0.5: "mnasnet0_5", 0.75: "mnasnet0_75", 1.0: "mnasnet1_0", 1.3: "mnasnet1_3"}
"""torchvision's networks by their width; all are B1."""
TIMM = {
    "mnasnet_a1_0.75": "semnasnet_075",
    "mnasnet_a1": "semnasnet_100",
    "mnasnet_b1": "mnasnet_100",
    "mnasnet_small_joined": "mnasnet_small",
}
"""Those of timm's networks that have weights, by our names."""
README = "tensorflow/tpu mnasnet README"
NOWHERE = "none found"


def _spec(
    kind: str, width: float, trainable: int, statistics: int, macs: int, top1: float | None, accuracy: str
) -> ModelSpec:
    name = f"mnasnet_{kind}" if width == 1.0 else f"mnasnet_{kind}_{width}"
    joined = kind == "small_joined"
    small = kind.startswith("small")
    rows = SMALL if small else {"a1": A1, "b1": B1}[kind]
    stem, dropout = (8, 0.0) if small else (32, 0.2)
    torch = []
    if kind == "b1" and width in TORCHVISION:
        torch.append(TorchWeights("torchvision", TORCHVISION[width], torchvision, IMAGENET))
    if name in TIMM:
        torch.append(TorchWeights("timm", TIMM[name], timm, IMAGENET))
    return ModelSpec(
        name=name,
        family="mnasnet",
        build=partial(mnasnet, rows=rows, stem=stem, dropout=dropout, width=width, joined=joined, name=name),
        image_px=224,
        min_px=32,
        params=Params(trainable, statistics),
        macs=macs,
        top1=top1,
        source=f"arXiv:1807.11626; tensorflow/tpu mnasnet_models.py; accuracy: {accuracy}",
        torch=tuple(torch),
    )


# fmt: off
SPECS = (
    _spec("a1", 0.35, 1_747_018, 14_016, macs= 61_681_920, top1=64.1, accuracy=README),
    _spec("a1", 0.5,  2_082_006, 18_400, macs=103_162_992, top1=68.9, accuracy=README),
    _spec("a1", 0.75, 2_912_278, 26_832, macs=223_448_480, top1=73.3, accuracy=README),
    _spec("a1", 1.0,  3_887_038, 33_488, macs=311_579_072, top1=75.2, accuracy="arXiv:1807.11626, Table 1"),
    _spec("a1", 1.3,  5_468_486, 43_008, macs=525_980_736, top1=None, accuracy=NOWHERE),
    _spec("a1", 1.4,  6_105_992, 46_016, macs=586_317_952, top1=77.2, accuracy=README),
    _spec("b1", 0.35, 1_788_232, 14_976, macs= 58_878_912, top1=None, accuracy=NOWHERE),
    _spec("b1", 0.5,  2_218_512, 20_624, macs=104_455_968, top1=67.73, accuracy="torchvision's weights"),
    _spec("b1", 0.75, 3_170_208, 29_808, macs=215_493_104, top1=71.18, accuracy="torchvision's weights"),
    _spec("b1", 1.0,  4_383_312, 37_920, macs=314_415_872, top1=73.46, accuracy="torchvision's weights"),
    _spec("b1", 1.3,  6_282_256, 48_816, macs=526_362_432, top1=76.51, accuracy="torchvision's weights"),
    _spec("b1", 1.4,  7_115_728, 52_448, macs=588_799_408, top1=None, accuracy=NOWHERE),
    _spec("small", 1.0, 2_030_264, 16_928, macs=68_339_184, top1=64.9, accuracy="arXiv:1905.02244, Table 3"),
    _spec("small_joined", 1.0, 2_030_264, 16_928, macs=68_339_184, top1=66.2, accuracy="timm results-imagenet.csv"),
)
# fmt: on
