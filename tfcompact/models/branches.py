"""What the Inception families are made of: blocks of parallel branches, as data.

A block is a tuple of branches, a branch a tuple of steps: convolutions `C`, two of them side by side `Fork`, poolings
`Pool`. What a convolution has besides its kernel (biases, batch normalization, ReLU) is the family's `conv`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Tensor, keras
from tfcompact.models.blocks import conv, logits


class C(NamedTuple):
    """A convolution: filters, kernel (rows, columns), stride, padding."""

    filters: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "same"


class Fork(NamedTuple):
    """Two convolutions side by side on the same input, concatenated (arXiv:1512.00567, Figure 7)."""

    left: C
    right: C


class Pool(NamedTuple):
    """3x3 pooling, by its average or its maximum."""

    kind: str
    stride: int = 1
    padding: str = "same"


Branch = tuple[C | Fork | Pool, ...]
Conv = Callable[..., Tensor]
V = "valid"
AVERAGE, MAXIMUM = Pool("average"), Pool("maximum")
SHRINK = Pool("maximum", 2, V)
"""What passes by the convolutions of a reduction block, from Inception V3 on."""

slim_conv = partial(conv, act="relu", gamma=False)
"""Convolution, batch normalization without gamma, ReLU: TF-slim nets/inception_utils.py, and keras.applications."""


def mixed(x: Tensor, branches: tuple[Branch, ...], conv: Conv, *, name: str) -> Tensor:
    """A block: its branches on the same `x`, concatenated: `[n, h, w, c] -> [n, h', w', filters of all ends]`."""
    ends = [branch(x, steps, conv, name=f"{name}_{i}") for i, steps in enumerate(branches)]
    return keras.layers.Concatenate(name=name)(ends)


def branch(x: Tensor, steps: Branch, conv: Conv, *, name: str) -> Tensor:
    """The steps one after the other: `[n, h, w, c] -> [n, h', w', filters of the last]`."""
    for i, step in enumerate(steps):
        if isinstance(step, Pool):
            pooling = keras.layers.AveragePooling2D if step.kind == "average" else keras.layers.MaxPooling2D
            x = pooling(3, step.stride, step.padding, name=f"{name}_{i}_{step.kind}")(x)
        elif isinstance(step, Fork):
            ends = [_step(x, end, conv, name=f"{name}_{i}_{side}") for side, end in zip("ab", step, strict=True)]
            x = keras.layers.Concatenate(name=f"{name}_{i}_concat")(ends)
        else:
            x = _step(x, step, conv, name=f"{name}_{i}")
    return x


def stem(x: Tensor) -> Tensor:
    """The beginning of Inception V3 and Inception-ResNet V2: `[n, 299, 299, 3] -> [n, 35, 35, 192]`."""
    x = slim_conv(x, 32, 3, 2, padding=V, name="stem_0")  # 149 x 149
    x = slim_conv(x, 32, 3, padding=V, name="stem_1")
    x = slim_conv(x, 64, 3, name="stem_2")  # 147 x 147
    x = keras.layers.MaxPooling2D(3, 2, name="stem_2_maximum")(x)
    x = slim_conv(x, 80, padding=V, name="stem_3")  # 73 x 73
    x = slim_conv(x, 192, 3, padding=V, name="stem_4")
    return keras.layers.MaxPooling2D(3, 2, name="stem_4_maximum")(x)


def auxiliary(x: Tensor, classes: int) -> Tensor:
    """The side classifier from V3 on (arXiv:1512.00567, section 4): `[n, 17, 17, c] -> [n, classes]` at 299 px.

    The 5x5 windows shrink with the grid, so that it works at the smallest image the network takes.
    """
    pool = min(5, x.shape[1])
    x = keras.layers.AveragePooling2D(pool, 3, V, name="aux_average")(x)  # 5 x 5
    x = slim_conv(x, 128, name="aux_0")
    x = slim_conv(x, 768, min(5, x.shape[1]), padding=V, name="aux_1")  # 1 x 1
    x = keras.layers.GlobalAveragePooling2D(name="aux_pool")(x)  # a mean of one value, but for larger images
    return logits(x, classes, dropout=0.0, name="aux_logits")


def timm_branch(branches: tuple[Branch, ...], place: str) -> str:
    """timm's path of a convolution inside a block of Inception V4 and Inception-ResNet V2, from our `<branch>_<step>`
    or `<branch>_<step>_<side>`: a branch of one step has no list, one that forks has no modules below it."""
    number, step, *side = place.split("_")
    steps = branches[int(number)]
    if len(steps) == 1:
        return f"branch{number}"
    forks = any(isinstance(s, Fork) for s in steps)
    return f"branch{number}_{step}{''.join(side)}" if forks else f"branch{number}.{step}"


def _step(x: Tensor, c: C, conv: Conv, *, name: str) -> Tensor:
    """One convolution of a branch, as the family's `conv` makes it."""
    return conv(x, c.filters, c.kernel, c.stride, padding=c.padding, name=name)
