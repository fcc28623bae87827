"""EfficientNet: a small network found by search, B0, and seven more by scaling width, depth and image together.

Paper: Tan & Le 2019, arXiv:1905.11946. `BLOCKS` is its Table 1, row for row. The scales are those of the released
code (tensorflow/tpu, efficientnet_builder.py), as are squeeze-and-excite, reduced to a quarter of the block's input
rather than of its expansion, and the rates at which blocks are left out in training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import classifier, conv, depthwise, drop, round_channels, squeeze_excite
from tfcompact.models.spec import IMAGENET, KerasWeights, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import flat_index, timm_blocks, timm_separable, torchvision_blocks


class Row(NamedTuple):
    """One line of Table 1: `n` blocks, the first with stride `s`."""

    k: int  # kernel of the depthwise convolution
    t: int  # expansion factor
    c: int  # output channels at width 1
    n: int  # blocks at depth 1
    s: int


# fmt: off
BLOCKS = (                           # input of B0, at 224 px
    Row(k=3, t=1, c= 16, n=1, s=1),  # 112 x 112 x  32
    Row(k=3, t=6, c= 24, n=2, s=2),  # 112 x 112 x  16
    Row(k=5, t=6, c= 40, n=2, s=2),  #  56 x  56 x  24
    Row(k=3, t=6, c= 80, n=3, s=2),  #  28 x  28 x  40
    Row(k=5, t=6, c=112, n=3, s=1),  #  14 x  14 x  80
    Row(k=5, t=6, c=192, n=4, s=2),  #  14 x  14 x 112
    Row(k=3, t=6, c=320, n=1, s=1),  #   7 x   7 x 192
)
# fmt: on

LEFT_OUT = 0.2
"""The rate at which the last block is left out in training: 1 - survival_prob of tensorflow/tpu."""


def mbconv(
    x: Tensor, k: int, t: int, c: int, stride: int, *, act: str = "swish", se: bool, left_out: float, name: str
) -> Tensor:
    """Expand, filter, weigh channels, project (section 4): `[n, h, w, m] -> [n, h/stride, w/stride, c]`."""
    m = x.shape[-1]
    y = conv(x, t * m, act=act, name=f"{name}_expand") if t > 1 else x
    y = depthwise(y, k, stride, act=act, name=f"{name}_depthwise")
    if se:
        y = squeeze_excite(y, m // 4, gate="sigmoid", act=act, name=f"{name}_se")
    y = conv(y, c, act=None, name=f"{name}_project")
    return residual(x, y, left_out, name=name) if stride == 1 and m == c else y


def residual(x: Tensor, y: Tensor, left_out: float, *, name: str) -> Tensor:
    """`x` plus the branch `y`, which in training is left out for a share of the images; shape kept."""
    y = drop(y, left_out, whole=True, name=f"{name}_drop") if left_out else y
    return keras.layers.Add(name=f"{name}_add")([x, y])


def places(repeats: Sequence[int]) -> Iterator[tuple[int, int, float]]:
    """Row, repetition and rate of every block: the rate at which it is left out grows linearly, from 0 on."""
    for i, n in enumerate(repeats):
        for j in range(n):
            yield i, j, LEFT_OUT * flat_index(repeats, i, j) / sum(repeats)


def efficientnet(
    shape: tuple[int, int, int], classes: int, *, width: float, depth: float, dropout: float, name: str
) -> Model:
    """Builds the network. `width` scales the channels of every layer, `depth` the blocks of every row."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, round_channels(32 * width), 3, 2, act="swish", name="stem")
    for i, j, left_out in places([math.ceil(row.n * depth) for row in BLOCKS]):
        k, t, c, _, s = BLOCKS[i]
        c, s = round_channels(c * width), s if j == 0 else 1
        x = mbconv(x, k, t, c, s, se=True, left_out=left_out, name=f"block{i}_{j}")
    x = conv(x, round_channels(1280 * width), act="swish", name="head")
    return keras.Model(inputs, classifier(x, classes, dropout=dropout), name=name)


PARTS = ("expand", "depthwise", "se", "project")
"""A block's modules in torchvision, without the first where nothing is expanded."""


def timm(layer: str) -> str:
    """timm's module path of one of our layers."""
    return timm_separable(layer) if layer.startswith("block0_") else timm_blocks(layer)


def _spec(
    variant: str,
    px: int,
    width: float,
    depth: float,
    dropout: float,
    *,
    params: tuple[int, int],
    macs: int,
    top1: float,
    epsilon: float = 1e-5,
) -> ModelSpec:
    """A variant; `epsilon` is torchvision's."""
    name = f"efficientnet_{variant}"
    torchvision = partial(torchvision_blocks, rows=[PARTS[row.t == 1 :] for row in BLOCKS])
    return ModelSpec(
        name=name,
        family="efficientnet",
        build=partial(efficientnet, width=width, depth=depth, dropout=dropout, name=name),
        image_px=px,
        min_px=32,
        params=Params(*params),
        macs=macs,
        top1=top1,
        source="arXiv:1905.11946, Tables 1 and 2; tensorflow/tpu, efficientnet_builder.py",
        # The last of its layers before the stem divides by the deviation a second time, by its root twice: IMAGENET.
        keras=KerasWeights(f"EfficientNet{variant.upper()}", IMAGENET),
        torch=(
            TorchWeights("torchvision", name, torchvision, IMAGENET, epsilon),
            TorchWeights("timm", f"tf_{name}", timm, IMAGENET, epsilon=1e-3, symmetric=False),
        ),
    )


# fmt: off
SPECS = (  # px, width, depth, dropout
    _spec("b0", 224, 1.0, 1.0, 0.2, params=(5_288_548, 42_016), macs=385_814_752, top1=77.1),
    _spec("b1", 240, 1.0, 1.1, 0.2, params=(7_794_184, 62_048), macs=686_802_832, top1=79.1),
    _spec("b2", 260, 1.1, 1.2, 0.3, params=(9_109_994, 67_568), macs=993_561_872, top1=80.1),
    _spec("b3", 300, 1.2, 1.4, 0.3, params=(12_233_232, 87_296), macs=1_827_141_392, top1=81.6),
    _spec("b4", 380, 1.4, 1.8, 0.4, params=(19_341_616, 125_200), macs=4_393_771_024, top1=82.9),
    _spec("b5", 456, 1.6, 2.2, 0.4, params=(30_389_784, 172_736), macs=10_266_384_752, top1=83.6, epsilon=1e-3),
    _spec("b6", 528, 1.8, 2.6, 0.5, params=(43_040_704, 224_432), macs=19_067_593_536, top1=84.0, epsilon=1e-3),
    _spec("b7", 600, 2.0, 3.1, 0.5, params=(66_347_960, 310_720), macs=37_745_884_192, top1=84.3, epsilon=1e-3),
)
# fmt: on
