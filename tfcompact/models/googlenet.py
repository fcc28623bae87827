"""GoogLeNet (Inception V1): 1x1 convolutions make room for parallel 3x3 and 5x5 ones.

Paper: Szegedy et al. 2014, arXiv:1409.4842. `BLOCKS` is its Table 1, row for row. Three networks carry the name:
`googlenet` is the paper's, with biases and local response normalization, no batch normalization (BVLC/caffe
models/bvlc_googlenet); `googlenet_bn` has batch normalization in their place; `googlenet_bn_3x3` is torchvision's
(models/googlenet.py), which has a 3x3 convolution where the paper has 5x5, and a last pooling of 2x2.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models import blocks
from tfcompact.models.branches import MAXIMUM, Branch, C, Conv, mixed
from tfcompact.models.spec import HALVES, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import split


class Row(NamedTuple):
    """One line of Table 1: filters of an inception module (Figure 2b)."""

    ones: int
    reduce3: int  # 1x1, before the 3x3
    threes: int
    reduce5: int  # 1x1, before the 5x5
    fives: int
    pooled: int  # 1x1, after the maximum


# fmt: off
BLOCKS = {                                     # output at 224 px
    "3a": Row( 64,  96, 128, 16,  32,  32),    # 28 x 28 x 256
    "3b": Row(128, 128, 192, 32,  96,  64),    # 28 x 28 x 480
    "4a": Row(192,  96, 208, 16,  48,  64),    # 14 x 14 x 512
    "4b": Row(160, 112, 224, 24,  64,  64),
    "4c": Row(128, 128, 256, 24,  64,  64),
    "4d": Row(112, 144, 288, 32,  64,  64),    # 14 x 14 x 528
    "4e": Row(256, 160, 320, 32, 128, 128),    # 14 x 14 x 832
    "5a": Row(256, 160, 320, 32, 128, 128),    #  7 x  7 x 832
    "5b": Row(384, 192, 384, 48, 128, 128),    #  7 x  7 x 1024
}
# fmt: on
SIDES = {"4a": "aux1", "4d": "aux2"}
"""The modules that an auxiliary classifier reads (section 5)."""


def module(row: Row, wide: int) -> tuple[Branch, ...]:
    """The four branches of an inception module; `wide` is the kernel of the third, 5 in the paper."""
    return (
        (C(row.ones),),
        (C(row.reduce3), C(row.threes, (3, 3))),
        (C(row.reduce5), C(row.fives, (wide, wide))),
        (MAXIMUM, C(row.pooled)),
    )


def googlenet(
    shape: tuple[int, int, int],
    classes: int,
    *,
    normalized: bool,
    wide: int,
    last_pool: int,
    name: str,
    aux: bool = False,
) -> Model:
    """Builds the network, with batch normalization or, as published, with local response normalization and biases.

    With `aux` its second and third output are the auxiliary classifiers' logits `[n, classes]`.
    """
    conv = partial(blocks.conv, act="relu") if normalized else partial(blocks.biased, act="relu", fan="fan_in")
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, 64, 7, 2, name="stem_0")  # 112 x 112
    x = maximum(x, 3, name="stem_0_maximum")  # 56 x 56
    x = x if normalized else response_norm(x, name="stem_0_lrn")
    x = conv(x, 64, name="stem_1")
    x = conv(x, 192, 3, name="stem_2")
    x = x if normalized else response_norm(x, name="stem_2_lrn")
    x = maximum(x, 3, name="stem_2_maximum")  # 28 x 28 x 192
    sides = []
    for block, row in BLOCKS.items():
        if block in ("4a", "5a"):
            x = maximum(x, last_pool if block == "5a" else 3, name=f"mixed_{block}_maximum")
        x = mixed(x, module(row, wide), conv, name=f"mixed_{block}")
        if aux and block in SIDES:
            sides.append(auxiliary(x, classes, conv, name=SIDES[block]))
    outputs = [blocks.classifier(x, classes, dropout=0.4), *sides]
    return keras.Model(inputs, outputs if aux else outputs[0], name=name)


def maximum(x: Tensor, size: int, *, name: str) -> Tensor:
    """Max pooling with stride 2: `[n, h, w, c] -> [n, h/2, w/2, c]`."""
    return keras.layers.MaxPooling2D(size, 2, "same", name=name)(x)


def response_norm(x: Tensor, *, name: str) -> Tensor:
    """Local response normalization; shape kept. It has no int8 operator: `googlenet_bn` is for phones."""
    from tfcompact.models.layers import LocalResponseNorm

    return LocalResponseNorm(name=name)(x)


def auxiliary(x: Tensor, classes: int, conv: Conv, *, name: str) -> Tensor:
    """A side classifier (section 5): `[n, 14, 14, c] -> [n, classes]` at 224 px.

    The 5x5 windows shrink with the grid, so that it works at the smallest image the network takes. The dense layer
    reads every position, so that its parameters, which are not shipped, depend on the size of the image.
    """
    x = keras.layers.AveragePooling2D(min(5, x.shape[1]), 3, "valid", name=f"{name}_average")(x)  # 4 x 4
    x = conv(x, 128, name=f"{name}_0")
    x = keras.layers.Flatten(name=f"{name}_flatten")(x)  # [n, 2048]
    x = keras.layers.Dense(1024, name=f"{name}_dense")(x)
    x = blocks.activation(x, "relu", f"{name}_dense")
    return blocks.logits(x, classes, dropout=0.7, name=f"{name}_logits")


def torchvision(layer: str) -> str:
    """torchvision's module path of one of our layers.

    Its auxiliary classifiers average to 4x4 with windows of another size and stride, so ours have no weights there.
    """
    conv, is_norm = split(layer)
    part = "bn" if is_norm else "conv"
    kind, *place = conv.split("_")
    if kind == "stem":
        return f"conv{int(place[0]) + 1}.{part}"
    if kind != "mixed":
        return "fc" if kind == "logits" else f"none.{layer}"
    block, branch, step = place[0], int(place[1]), place[2]
    return f"inception{block}.branch{branch + 1}.{f'{step}.' if branch else ''}{part}"


def _spec(
    name: str,
    trainable: int,
    statistics: int,
    macs: int,
    top1: float | None,
    source: str,
    *,
    normalized: bool,
    wide: int = 5,
    last_pool: int = 3,
    torch: tuple[TorchWeights, ...] = (),
) -> ModelSpec:
    return ModelSpec(
        name=name,
        family="googlenet",
        build=partial(googlenet, normalized=normalized, wide=wide, last_pool=last_pool, name=name),
        image_px=224,
        min_px=32,
        params=Params(trainable, statistics),
        macs=macs,
        top1=top1,
        source=source,
        aux_weight=0.3,
        torch=torch,
        float_only=None if normalized else LRN_STAYS_FLOAT,
    )


# torchvision's file wants pixels in [-1, 1]: it undoes its usual normalization inside the network.
TORCH = TorchWeights("torchvision", "googlenet", torchvision, HALVES, epsilon=1e-3, ceil=True)
PAPER = "arXiv:1409.4842, Table 1"
LRN_STAYS_FLOAT = "has local response normalization, which TFLite computes in float only; for int8 take googlenet_bn"

# fmt: off
SPECS = (
    _spec("googlenet", 6_998_552, 0, 1_582_671_872, 68.7,
          f"{PAPER}; accuracy: BVLC/caffe models/bvlc_googlenet/readme.md", normalized=False),
    _spec("googlenet_bn", 7_005_832, 14_560, 1_582_671_872, None,
          f"{PAPER}; nobody has published this one's accuracy", normalized=True),
    _spec("googlenet_bn_3x3", 6_624_904, 14_560, 1_498_376_192, 69.8,
          f"{PAPER}; torchvision models/googlenet.py", torch=(TORCH,), normalized=True, wide=3, last_pool=2),
)
# fmt: on
