"""Inception V2, which is BN-Inception: GoogLeNet with batch normalization and two 3x3 convolutions for each 5x5.

Paper: Ioffe and Szegedy 2015, arXiv:1502.03167, Figure 5. Two networks are in use. TF-slim's (nets/inception_v2.py,
whose block names these are) has batch normalization without gamma, and begins with a separable convolution that is
not normalized, or with a plain one. Caffe's (Cadene/pretrained-models.pytorch bninception.py) has biases before batch
normalization, and 128 instead of 96 filters behind the pooling of two blocks. `se_inception` is the latter without
biases and with squeeze-and-excite after every block (Hu et al. 2017, arXiv:1709.01507; hujie-frank/SENet
models/SE-BN-Inception.prototxt). Averages leave the padding out, as TF-slim's do; Caffe's count it.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models import blocks
from tfcompact.models.branches import AVERAGE, MAXIMUM, Branch, C, Conv, Pool, mixed, slim_conv
from tfcompact.models.spec import ModelSpec, Params


class Row(NamedTuple):
    """One line of Figure 5. Without `ones` and `pooled` it halves the grid, and its maximum passes through."""

    ones: int
    threes: tuple[int, int]  # 1x1, 3x3
    doubled: tuple[int, int]  # 1x1; two 3x3
    pool: Pool
    pooled: int


HALF = Pool("maximum", 2)


def rows(wide: int) -> dict[str, Row]:
    """Figure 5; `wide` filters behind the pooling of 4d and 4e: the paper prints both 128 and a sum that takes 96."""
    # fmt: off
    return {                                                              # output at 224 px
        "mixed_3b": Row( 64, ( 64,  64), ( 64,  96), AVERAGE,   32),      # 28 x 28 x 256
        "mixed_3c": Row( 64, ( 64,  96), ( 64,  96), AVERAGE,   64),      # 28 x 28 x 320
        "mixed_4a": Row(  0, (128, 160), ( 64,  96), HALF,       0),      # 14 x 14 x 576
        "mixed_4b": Row(224, ( 64,  96), ( 96, 128), AVERAGE,  128),
        "mixed_4c": Row(192, ( 96, 128), ( 96, 128), AVERAGE,  128),
        "mixed_4d": Row(160, (128, 160), (128, 160), AVERAGE, wide),      # 14 x 14 x 576 (608)
        "mixed_4e": Row( 96, (128, 192), (160, 192), AVERAGE, wide),
        "mixed_5a": Row(  0, (128, 192), (192, 256), HALF,       0),      #  7 x  7 x 1024 (1056)
        "mixed_5b": Row(352, (192, 320), (160, 224), AVERAGE,  128),      #  7 x  7 x 1024
        "mixed_5c": Row(352, (192, 320), (192, 224), MAXIMUM,  128),
    }
    # fmt: on


def module(row: Row) -> tuple[Branch, ...]:
    """The branches of a block; the last convolutions of one that halves the grid have a stride of 2."""
    three, stride = (3, 3), row.pool.stride
    (a, b), (c, d) = row.threes, row.doubled
    return (
        *(((C(row.ones),),) if row.ones else ()),
        (C(a), C(b, three, stride)),
        (C(c), C(d, three), C(d, three, stride)),
        (row.pool, C(row.pooled)) if row.pooled else (row.pool,),
    )


def inception_v2(
    shape: tuple[int, int, int],
    classes: int,
    *,
    conv: Conv,
    separable: bool,
    wide: int,
    gates: bool,
    name: str,
) -> Model:
    """Builds the network; with `gates`, squeeze-and-excite with a ratio of 16 after every block."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = separable_stem(inputs) if separable else conv(inputs, 64, 7, 2, name="stem_0")  # 112 x 112
    x = keras.layers.MaxPooling2D(3, 2, "same", name="stem_0_maximum")(x)  # 56 x 56
    x = conv(x, 64, name="stem_1")
    x = conv(x, 192, 3, name="stem_2")
    x = keras.layers.MaxPooling2D(3, 2, "same", name="stem_2_maximum")(x)  # 28 x 28
    for block, row in rows(wide).items():
        x = mixed(x, module(row), conv, name=block)
        if gates:
            x = blocks.squeeze_excite(x, x.shape[-1] // 16, gate="sigmoid", name=f"{block}_se")
    return keras.Model(inputs, blocks.classifier(x, classes, dropout=0.2), name=name)


def separable_stem(x: Tensor) -> Tensor:
    """8 filters on each colour, mixed to 64: `[n, h, w, 3] -> [n, h/2, w/2, 64]`.

    TF-slim's `inception_arg_scope` normalizes `conv2d` only, so this one has a bias instead.
    """
    x = blocks.filtered(x, 7, 2, multiplier=8, name="stem_0_depthwise")
    return blocks.biased(x, 64, act="relu", name="stem_0")


caffe_conv = partial(blocks.conv, act="relu", epsilon=1e-5)


def _spec(
    name: str,
    trainable: int,
    statistics: int,
    macs: int,
    top1: float | None,
    accuracy: str,
    *,
    conv: Conv = slim_conv,
    separable: bool = False,
    wide: int = 96,
    gates: bool = False,
) -> ModelSpec:
    return ModelSpec(
        name=name,
        family="inception_v2",
        build=partial(inception_v2, conv=conv, separable=separable, wide=wide, gates=gates, name=name),
        image_px=224,
        min_px=32,
        params=Params(trainable, statistics),
        macs=macs,
        top1=top1,
        source=f"arXiv:1502.03167, Figure 5; accuracy: {accuracy}",
    )


# fmt: off
SPECS = (
    _spec("inception_v2", 11_178_336, 19_776, 1_934_857_216, 73.9,
          "TF-slim README.md", separable=True),
    _spec("inception_v2_plain_stem", 11_185_032, 19_904, 2_018_851_840, None,
          "none published"),
    _spec("bn_inception", 11_295_240, 20_032, 2_032_600_064, 74.6,
          "arXiv:1709.01507, Table 2", conv=partial(caffe_conv, bias=True), wide=128),
    _spec("se_inception", 11_931_622, 20_032, 2_033_239_424, 75.8,
          "arXiv:1709.01507, Table 2", conv=caffe_conv, wide=128, gates=True),
)
# fmt: on
