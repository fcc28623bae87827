"""Inception V3: factorised and asymmetric convolutions in parallel branches.

Paper: Szegedy et al. 2015, arXiv:1512.00567. The released network (TF-slim nets/inception_v3.py, keras.applications)
is followed: batch normalization without gamma, ReLU, an auxiliary classifier on the last 17x17 block whose loss
counts 0.4. Blocks carry TF-slim's names.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.backend import keras
from tfcompact.models.blocks import conv as _conv
from tfcompact.models.blocks import logits
from tfcompact.models.spec import ModelSpec, Params

conv = partial(_conv, act="relu", gamma=False)


class C(NamedTuple):
    """A convolution: filters, kernel (rows, columns), stride, padding."""

    filters: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "same"


class Fork(NamedTuple):
    """Two convolutions side by side on the same input, concatenated (Figure 7)."""

    left: C
    right: C


class Pool(NamedTuple):
    """3x3 pooling: average with stride 1, or maximum with stride 2 and no padding."""

    kind: str


Branch = tuple[C | Fork | Pool, ...]
AVERAGE, MAXIMUM = Pool("average"), Pool("maximum")
V = "valid"


def _grid35(pooled: int) -> tuple[Branch, ...]:
    """Figure 5, with one 5x5 convolution left whole as released."""
    return (
        (C(64),),
        (C(48), C(64, (5, 5))),
        (C(64), C(96, (3, 3)), C(96, (3, 3))),
        (AVERAGE, C(pooled)),
    )


def _grid17(c: int) -> tuple[Branch, ...]:
    """Figure 6: 7x7 convolutions as 1x7 and 7x1."""
    return (
        (C(192),),
        (C(c), C(c, (1, 7)), C(192, (7, 1))),
        (C(c), C(c, (7, 1)), C(c, (1, 7)), C(c, (7, 1)), C(192, (1, 7))),
        (AVERAGE, C(192)),
    )


_GRID8: tuple[Branch, ...] = (  # Figure 7
    (C(320),),
    (C(384), Fork(C(384, (1, 3)), C(384, (3, 1)))),
    (C(448), C(384, (3, 3)), Fork(C(384, (1, 3)), C(384, (3, 1)))),
    (AVERAGE, C(192)),
)

BLOCKS: dict[str, tuple[Branch, ...]] = {  # output at 299 px
    "mixed_5b": _grid35(32),  # 35 x 35 x 256
    "mixed_5c": _grid35(64),  # 35 x 35 x 288
    "mixed_5d": _grid35(64),
    "mixed_6a": (
        (C(384, (3, 3), 2, V),),
        (C(64), C(96, (3, 3)), C(96, (3, 3), 2, V)),
        (MAXIMUM,),
    ),  # 17 x 17 x 768
    "mixed_6b": _grid17(128),
    "mixed_6c": _grid17(160),
    "mixed_6d": _grid17(160),
    "mixed_6e": _grid17(192),
    "mixed_7a": (
        (C(192), C(320, (3, 3), 2, V)),
        (C(192), C(192, (1, 7)), C(192, (7, 1)), C(192, (3, 3), 2, V)),
        (MAXIMUM,),
    ),  # 8 x 8 x 1280
    "mixed_7b": _GRID8,  # 8 x 8 x 2048
    "mixed_7c": _GRID8,
}


def branch(x, steps: Branch, *, name: str):
    """The steps one after the other: `[n, h, w, c] -> [n, h', w', filters of the last]`."""
    for i, step in enumerate(steps):
        if isinstance(step, Pool):
            x = (
                keras.layers.AveragePooling2D(3, 1, "same", name=f"{name}_{i}_average")(x)
                if step == AVERAGE
                else keras.layers.MaxPooling2D(3, 2, "valid", name=f"{name}_{i}_maximum")(x)
            )
        elif isinstance(step, Fork):
            ends = [_step(x, end, name=f"{name}_{i}_{side}") for side, end in zip("ab", step, strict=True)]
            x = keras.layers.Concatenate(name=f"{name}_{i}_concat")(ends)
        else:
            x = _step(x, step, name=f"{name}_{i}")
    return x


def inception_v3(shape: tuple[int, int, int], classes: int, *, name: str, aux: bool = False):
    """Builds the network; with `aux` its second output is the auxiliary classifier's logits `[n, classes]`."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, 32, 3, 2, padding=V, name="stem_0")  # 149 x 149
    x = conv(x, 32, 3, padding=V, name="stem_1")
    x = conv(x, 64, 3, name="stem_2")  # 147 x 147
    x = keras.layers.MaxPooling2D(3, 2, name="stem_2_maximum")(x)
    x = conv(x, 80, padding=V, name="stem_3")  # 73 x 73
    x = conv(x, 192, 3, padding=V, name="stem_4")
    x = keras.layers.MaxPooling2D(3, 2, name="stem_4_maximum")(x)  # 35 x 35 x 192
    side = None
    for block, branches in BLOCKS.items():
        ends = [branch(x, steps, name=f"{block}_{i}") for i, steps in enumerate(branches)]
        x = keras.layers.Concatenate(name=block)(ends)
        if block == "mixed_6e":
            side = x
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = [logits(x, classes, dropout=0.2)]
    if aux:
        outputs.append(auxiliary(side, classes))
    return keras.Model(inputs, outputs if aux else outputs[0], name=name)


def auxiliary(x, classes: int):
    """The side classifier (section 4, Figure 8): `[n, 17, 17, 768] -> [n, classes]` at 299 px.

    The 5x5 windows shrink with the grid, so that it works at the smallest image the network takes.
    """
    pool = min(5, x.shape[1])
    x = keras.layers.AveragePooling2D(pool, 3, "valid", name="aux_average")(x)  # 5 x 5
    x = conv(x, 128, name="aux_0")
    x = conv(x, 768, min(5, x.shape[1]), padding=V, name="aux_1")  # 1 x 1
    x = keras.layers.GlobalAveragePooling2D(name="aux_pool")(x)  # a mean of one value, but for larger images
    return logits(x, classes, dropout=0.0, name="aux_logits")


def _step(x, c: C, *, name: str):
    return conv(x, c.filters, c.kernel, c.stride, padding=c.padding, name=name)


SPECS = (
    ModelSpec(
        name="inception_v3",
        family="inception_v3",
        build=partial(inception_v3, name="inception_v3"),
        image_px=299,
        min_px=75,
        params=Params(23_817_352, 34_432),
        macs=5_713_216_096,
        top1=78.8,
        source="arXiv:1512.00567, Tables 1 and 3; TF-slim nets/inception_v3.py",
        aux_weight=0.4,
    ),
)
