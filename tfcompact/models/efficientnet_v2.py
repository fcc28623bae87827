"""EfficientNetV2: EfficientNet searched again for training speed, with fused blocks where maps are large.

Paper: Tan & Le 2021, arXiv:2104.00298. `S` is its Table 4, row for row; `B` is the table of the smaller networks in
the authors' code (google/automl, efficientnetv2/effnetv2_configs.py), which scales it as EfficientNet does. Images
are smaller in training than in evaluation there; a spec's size is that of evaluation.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import classifier, conv
from tfcompact.models.efficientnet import PARTS, mbconv, places, residual
from tfcompact.models.spec import HALVES, IMAGENET, KerasWeights, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import split, timm_blocks, torchvision_blocks
from tfcompact.records.artifact import Normalization


class Row(NamedTuple):
    """One line of Table 4: `n` blocks with kernels of 3, the first with stride `s`."""

    fused: bool  # one full convolution in place of expansion and depthwise convolution; no squeeze-and-excite
    t: int  # expansion factor
    c: int  # output channels at width 1
    n: int  # blocks at depth 1
    s: int


# fmt: off
B = (                                        # input of B0, at 224 px
    Row(fused=True,  t=1, c= 16, n= 1, s=1),  # 112 x 112 x  32
    Row(fused=True,  t=4, c= 32, n= 2, s=2),  # 112 x 112 x  16
    Row(fused=True,  t=4, c= 48, n= 2, s=2),  #  56 x  56 x  32
    Row(fused=False, t=4, c= 96, n= 3, s=2),  #  28 x  28 x  48
    Row(fused=False, t=6, c=112, n= 5, s=1),  #  14 x  14 x  96
    Row(fused=False, t=6, c=192, n= 8, s=2),  #  14 x  14 x 112
)
S = (                                        # input at 384 px
    Row(fused=True,  t=1, c= 24, n= 2, s=1),  # 192 x 192 x  24
    Row(fused=True,  t=4, c= 48, n= 4, s=2),  # 192 x 192 x  24
    Row(fused=True,  t=4, c= 64, n= 4, s=2),  #  96 x  96 x  48
    Row(fused=False, t=4, c=128, n= 6, s=2),  #  48 x  48 x  64
    Row(fused=False, t=6, c=160, n= 9, s=1),  #  24 x  24 x 128
    Row(fused=False, t=6, c=256, n=15, s=2),  #  24 x  24 x 160
)
# fmt: on


def fused_mbconv(x: Tensor, t: int, c: int, stride: int, *, left_out: float, name: str) -> Tensor:
    """Expand and filter at once, project (Figure 2): `[n, h, w, m] -> [n, h/stride, w/stride, c]`.

    Without expansion there is nothing to project: one convolution is the block.
    """
    m = x.shape[-1]
    y = conv(x, t * m if t > 1 else c, 3, stride, act="swish", name=f"{name}_fused")
    y = conv(y, c, act=None, name=f"{name}_project") if t > 1 else y
    return residual(x, y, left_out, name=name) if stride == 1 and m == c else y


def round_width(channels: float) -> int:
    """The nearest multiple of 8, however far below (google/automl, effnetv2_model.py): B3 begins with 16, not 24."""
    return max(8, int(channels + 4) // 8 * 8)


def efficientnet_v2(
    shape: tuple[int, int, int],
    classes: int,
    *,
    rows: tuple[Row, ...],
    stem: int,
    width: float,
    depth: float,
    dropout: float,
    name: str,
) -> Model:
    """Builds the network. `width` scales the channels of every layer, `depth` the blocks of every row."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, round_width(stem * width), 3, 2, act="swish", name="stem")
    for i, j, left_out in places([math.ceil(row.n * depth) for row in rows]):
        fused, t, c, _, s = rows[i]
        c, s, place = round_width(c * width), s if j == 0 else 1, f"block{i}_{j}"
        if fused:
            x = fused_mbconv(x, t, c, s, left_out=left_out, name=place)
        else:
            x = mbconv(x, 3, t, c, s, se=True, left_out=left_out, name=place)
    x = conv(x, round_width(1280 * width), act="swish", name="head")
    return keras.Model(inputs, classifier(x, classes, dropout=dropout), name=name)


def timm(layer: str, *, rows: tuple[Row, ...]) -> str:
    """timm's module path of one of our layers: a fused row's blocks have other modules."""
    conv, is_norm = split(layer)
    if not conv.startswith("block"):
        return timm_blocks(layer)
    row, repeat, part = conv.removeprefix("block").split("_", 2)
    if not rows[int(row)].fused:
        return timm_blocks(layer)
    first = "conv" if rows[int(row)].t == 1 else "conv_exp"
    module = {"fused": (first, "bn1"), "project": ("conv_pwl", "bn2")}[part][is_norm]
    return f"blocks.{row}.{repeat}.{module}"


def _spec(
    variant: str,
    px: int,
    width: float = 1.0,
    depth: float = 1.0,
    dropout: float = 0.2,
    *,
    params: tuple[int, int],
    macs: int,
    top1: float,
) -> ModelSpec:
    name = f"efficientnet_v2_{variant}"
    rows, stem = (S, 24) if variant == "s" else (B, 32)
    parts = [("fused", "project") if row.fused else PARTS for row in rows]
    torchvision = partial(torchvision_blocks, rows=parts)
    options = {"include_preprocessing": False}
    pixels = Normalization((128.0,), (128.0,)) if variant == "s" else IMAGENET
    port = TorchWeights(
        "timm",
        f"tf_efficientnetv2_{variant}",
        partial(timm, rows=rows),
        HALVES if variant == "s" else IMAGENET,
        epsilon=1e-3,
        symmetric=False,
    )
    own = TorchWeights("torchvision", "efficientnet_v2_s", torchvision, IMAGENET, epsilon=1e-3)
    return ModelSpec(
        name=name,
        family="efficientnet_v2",
        build=partial(efficientnet_v2, rows=rows, stem=stem, width=width, depth=depth, dropout=dropout, name=name),
        image_px=px,
        min_px=32,
        params=Params(*params),
        macs=macs,
        top1=top1,
        source="arXiv:2104.00298, Table 4; google/automl, efficientnetv2 README",
        keras=KerasWeights(f"EfficientNetV2{variant.upper()}", pixels, options),
        torch=(own, port) if variant == "s" else (port,),
    )


SPECS = (  # px, width, depth, dropout
    _spec("b0", 224, 1.0, 1.0, 0.2, params=(7_139_704, 60_608), macs=718_086_176, top1=78.7),
    _spec("b1", 240, 1.0, 1.1, 0.2, params=(8_141_052, 71_072), macs=1_196_819_360, top1=79.8),
    _spec("b2", 260, 1.1, 1.2, 0.3, params=(10_096_086, 82_288), macs=1_697_542_832, top1=80.5),
    _spec("b3", 300, 1.2, 1.4, 0.3, params=(14_358_406, 109_216), macs=3_011_458_816, top1=82.1),
    _spec("s", 384, params=(21_458_488, 153_872), macs=8_365_617_152, top1=83.9),
)
