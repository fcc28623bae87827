"""MobileNetV2: inverted residuals and linear bottlenecks.

Paper: Sandler et al. 2018, arXiv:1801.04381. `BLOCKS` is its Table 2, row for row. Widths below 1 keep the last
layer's 1280 channels, as the released checkpoints do (TF-slim, mobilenet/README.md).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import classifier, conv, depthwise, round_channels
from tfcompact.models.spec import HALVES, IMAGENET, KerasWeights, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import flat_index, split, timm_blocks, timm_separable


class Row(NamedTuple):
    """One line of Table 2: `n` bottlenecks, the first with stride `s`."""

    t: int  # expansion factor
    c: int  # output channels at width 1
    n: int
    s: int


# fmt: off
BLOCKS = (                      # input at 224 px and width 1
    Row(t=1, c= 16, n=1, s=1),  # 112 x 112 x  32
    Row(t=6, c= 24, n=2, s=2),  # 112 x 112 x  16
    Row(t=6, c= 32, n=3, s=2),  #  56 x  56 x  24
    Row(t=6, c= 64, n=4, s=2),  #  28 x  28 x  32
    Row(t=6, c= 96, n=3, s=1),  #  14 x  14 x  64
    Row(t=6, c=160, n=3, s=2),  #  14 x  14 x  96
    Row(t=6, c=320, n=1, s=1),  #   7 x   7 x 160
)
# fmt: on


def bottleneck(x: Tensor, t: int, c: int, stride: int, *, name: str) -> Tensor:
    """Expand, filter, project (Table 1): `[n, h, w, k] -> [n, h/stride, w/stride, c]`.

    The projection is linear, and the shortcut joins the narrow ends (section 3.3).
    """
    k = x.shape[-1]
    y = conv(x, t * k, name=f"{name}_expand") if t > 1 else x
    y = depthwise(y, 3, stride, name=f"{name}_depthwise")
    y = conv(y, c, act=None, name=f"{name}_project")
    return keras.layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and k == c else y


def mobilenet_v2(shape: tuple[int, int, int], classes: int, *, width: float, name: str) -> Model:
    """Builds the network. `width` scales every layer but a last one it would shrink (section 4.1)."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, round_channels(32 * width), 3, 2, name="stem")
    for i, (t, c, n, s) in enumerate(BLOCKS):
        for j in range(n):
            x = bottleneck(x, t, round_channels(c * width), s if j == 0 else 1, name=f"block{i}_{j}")
    x = conv(x, round_channels(1280 * max(1.0, width)), name="head")
    return keras.Model(inputs, classifier(x, classes, dropout=0.2), name=name)


def torchvision(layer: str) -> str:
    """torchvision's module path of one of our layers."""
    conv, is_norm = split(layer)
    outside = {"stem": f"features.0.{is_norm:d}", "head": f"features.18.{is_norm:d}", "logits": "classifier.1"}
    if conv in outside:
        return outside[conv]
    row, repeat, part = conv.removeprefix("block").split("_")
    block = 1 + flat_index([r.n for r in BLOCKS], int(row), int(repeat))
    place = ("expand", "depthwise", "project").index(part) - (BLOCKS[int(row)].t == 1)
    inner = f"{place + is_norm}" if part == "project" else f"{place}.{is_norm:d}"
    return f"features.{block}.conv.{inner}"


def timm(layer: str) -> str:
    """timm's module path of one of our layers."""
    return timm_separable(layer) if layer.startswith("block0_") else timm_blocks(layer)


TIMM = {0.5: "mobilenetv2_050", 1.0: "mobilenetv2_100", 1.4: "mobilenetv2_140"}
"""The widths that timm has weights for."""


def _spec(width: float, trainable: int, statistics: int, macs: int, top1: float) -> ModelSpec:
    name = "mobilenet_v2" if width == 1.0 else f"mobilenet_v2_{width}"
    return ModelSpec(
        name=name,
        family="mobilenet_v2",
        build=partial(mobilenet_v2, width=width, name=name),
        image_px=224,
        min_px=32,
        params=Params(trainable, statistics),
        macs=macs,
        top1=top1,
        source="arXiv:1801.04381, Table 2; accuracy: TF-slim mobilenet/README.md",
        keras=KerasWeights("MobileNetV2", HALVES, {"alpha": width}),
        torch=(
            *((TorchWeights("torchvision", "mobilenet_v2", torchvision, IMAGENET),) if width == 1.0 else ()),
            *((TorchWeights("timm", TIMM[width], timm, IMAGENET),) if width in TIMM else ()),
        ),
    )


SPECS = (
    _spec(0.35, trainable=1_677_128, statistics=14_080, macs=59_285_808, top1=60.3),
    _spec(0.5, trainable=1_968_680, statistics=18_544, macs=97_131_840, top1=65.4),
    _spec(0.75, trainable=2_636_424, statistics=26_640, macs=209_069_792, top1=69.8),
    _spec(1.0, trainable=3_504_872, statistics=34_112, macs=300_774_272, top1=71.8),
    _spec(1.3, trainable=5_386_792, statistics=44_256, macs=509_374_560, top1=74.4),
    _spec(1.4, trainable=6_108_776, statistics=47_936, macs=582_195_824, top1=75.0),
)
