"""MobileNet V1: every convolution split into one per channel and one across channels.

Paper: Howard et al. 2017, arXiv:1704.04861. `BLOCKS` is its Table 1, runs of equal lines in one row. Checkpoints are
published for four widths at four image sizes each: `PUBLISHED`. The parameters depend on the width alone, so a size
is no variant here, but what `--px` says.

All strides pad as TF-slim's SAME does. `keras.applications` pads the end of every map by one instead, which is the
same on even maps only: at sizes that are no multiple of 32 its logits differ.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import conv, depthwise, logits
from tfcompact.models.spec import HALVES, KerasWeights, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import timm_separable


class Row(NamedTuple):
    """`n` depthwise-separable convolutions, the first with stride `s`."""

    c: int  # output channels at width 1
    n: int
    s: int


# fmt: off
BLOCKS = (                  # input at 224 px and width 1
    Row(c=  64, n=1, s=1),  # 112 x 112 x  32
    Row(c= 128, n=2, s=2),  # 112 x 112 x  64
    Row(c= 256, n=2, s=2),  #  56 x  56 x 128
    Row(c= 512, n=6, s=2),  #  28 x  28 x 256
    Row(c=1024, n=2, s=2),  #  14 x  14 x 512
)

PUBLISHED = (  # width, px, top-1 accuracy in percent: TF-slim, mobilenet_v1.md
    (1.0,  224, 70.9), (1.0,  192, 70.0), (1.0,  160, 68.0), (1.0,  128, 65.2),
    (0.75, 224, 68.4), (0.75, 192, 67.2), (0.75, 160, 65.3), (0.75, 128, 62.1),
    (0.5,  224, 63.3), (0.5,  192, 61.7), (0.5,  160, 59.1), (0.5,  128, 56.3),
    (0.25, 224, 49.8), (0.25, 192, 47.7), (0.25, 160, 45.5), (0.25, 128, 41.5),
)
"""The 16 checkpoints, each trained at its own size."""
# fmt: on


def separable(x: Tensor, c: int, stride: int, *, name: str) -> Tensor:
    """Filter each channel, then mix them (Figure 3, right): `[n, h, w, k] -> [n, h/stride, w/stride, c]`.

    For d x d kernels it costs h*w*k*(d*d + c) multiply-adds instead of h*w*k*c*d*d (section 3.1).
    """
    x = depthwise(x, 3, stride, name=f"{name}_depthwise")
    return conv(x, c, name=f"{name}_pointwise")


def mobilenet_v1(shape: tuple[int, int, int], classes: int, *, width: float, name: str) -> Model:
    """Builds the network. `width` scales every layer (section 3.3)."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, int(32 * width), 3, 2, name="stem")
    for i, (c, n, s) in enumerate(BLOCKS):
        for j in range(n):
            x = separable(x, int(c * width), s if j == 0 else 1, name=f"block{i}_{j}")
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)  # [n, 1, 1, c]
    return keras.Model(inputs, logits(x, classes, dropout=0.001), name=name)


def timm(layer: str) -> str:
    """timm's module path of one of our layers."""
    return timm_separable(layer.replace("_pointwise", "_project"))


def _spec(width: float, trainable: int, statistics: int, macs: int) -> ModelSpec:
    name = "mobilenet_v1" if width == 1.0 else f"mobilenet_v1_{width}"
    return ModelSpec(
        name=name,
        family="mobilenet_v1",
        build=partial(mobilenet_v1, width=width, name=name),
        image_px=224,
        min_px=32,
        params=Params(trainable, statistics),
        macs=macs,
        top1=next(top1 for w, px, top1 in PUBLISHED if (w, px) == (width, 224)),
        source="arXiv:1704.04861, Table 1; accuracy: TF-slim mobilenet_v1.md",
        keras=KerasWeights("MobileNet", HALVES, {"alpha": width}),
        torch=(TorchWeights("timm", "mobilenetv1_100", timm, HALVES),) if width == 1.0 else (),
    )


SPECS = (
    _spec(0.25, trainable=470_072, statistics=5_472, macs=41_030_272),
    _spec(0.5, trainable=1_331_592, statistics=10_944, macs=149_497_088),
    _spec(0.75, trainable=2_585_560, statistics=16_416, macs=325_400_448),
    _spec(1.0, trainable=4_231_976, statistics=21_888, macs=568_740_352),
)
