"""Xception: an Inception network whose modules are depthwise separable convolutions with shortcuts.

Paper: Chollet 2016, arXiv:1610.02357. `MODULES` and `HEAD` are its Figure 5; a separable convolution has nothing
between its two halves (section 4.7) and is followed by batch normalization. Layers stand in the order of
keras.applications.xception.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import activation, classifier, conv, separable
from tfcompact.models.spec import HALVES, KerasWeights, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import flat_index, split


class Row(NamedTuple):
    """`n` modules of separable convolutions of `widths`, their grid halved at the end if `halved`."""

    n: int
    widths: tuple[int, ...]
    halved: bool


# fmt: off
MODULES = (                                         # input at 299 px
    Row(n=1, widths=(128, 128),      halved=True),  # 147 x 147 x  64, entry flow
    Row(n=1, widths=(256, 256),      halved=True),  #  74 x  74 x 128
    Row(n=1, widths=(728, 728),      halved=True),  #  37 x  37 x 256
    Row(n=8, widths=(728, 728, 728), halved=False), #  19 x  19 x 728, middle flow
    Row(n=1, widths=(728, 1024),     halved=True),  #  19 x  19 x 728, exit flow
)
STEM = (32, 64)                                     # 299 x 299 x   3
HEAD = (1536, 2048)                                 #  10 x  10 x 1024
# fmt: on


def module(x: Tensor, widths: tuple[int, ...], halved: bool, *, rectified: bool, name: str) -> Tensor:
    """Separable convolutions and a shortcut: `[n, h, w, c] -> [n, h', w', last width]`, h' = ceil(h / 2) if `halved`.

    A ReLU comes before each convolution, but for the first where `x` has had it (`rectified`).
    """
    shortcut = conv(x, widths[-1], 1, 2, act=None, name=f"{name}_shortcut") if halved else x
    for i, c in enumerate(widths):
        x = x if rectified and i == 0 else activation(x, "relu", f"{name}_{i}")
        x = separable(x, c, 3, name=f"{name}_{i}")
    if halved:
        x = keras.layers.MaxPooling2D(3, 2, "same", name=f"{name}_maximum")(x)
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])


def xception(shape: tuple[int, int, int], classes: int, *, name: str) -> Model:
    """Builds the network."""
    x = inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    for i, c in enumerate(STEM):
        x = conv(x, c, 3, 2 if i == 0 else 1, act="relu", padding="valid", name=f"stem_{i}")
    for i, row in enumerate(MODULES):
        for j in range(row.n):
            x = module(x, row.widths, row.halved, rectified=i == 0, name=f"block{i}_{j}")
    for i, c in enumerate(HEAD):
        x = activation(separable(x, c, 3, name=f"head_{i}"), "relu", f"head_{i}")
    return keras.Model(inputs, classifier(x, classes, dropout=0.5), name=name)


def timm(layer: str) -> str:
    """The module path of one of our layers in timm's legacy_xception."""
    conv, is_norm = split(layer)
    half = "conv1" if conv.endswith("_depthwise") else "pointwise"
    match conv.removesuffix("_depthwise").split("_"):
        case ["logits"]:
            return "fc"
        case ["stem", i]:
            return f"{'bn' if is_norm else 'conv'}{1 + int(i)}"
        case ["head", i]:
            return f"bn{3 + int(i)}" if is_norm else f"conv{3 + int(i)}.{half}"
        case [row, repeat, part]:
            number = flat_index([r.n for r in MODULES], int(row.removeprefix("block")), int(repeat))
            path = f"block{1 + number}"
            if part == "shortcut":
                return f"{path}.skip{'bn' if is_norm else ''}"
            place = 3 * int(part) + (number > 0)  # its list holds ReLU, convolution, batch normalization in turn
            return f"{path}.rep.{place + 1}" if is_norm else f"{path}.rep.{place}.{half}"
    raise ValueError(f"no layer of xception: {layer}")


SPECS = (
    ModelSpec(
        name="xception",
        family="xception",
        build=partial(xception, name="xception"),
        image_px=299,
        min_px=32,
        params=Params(22_855_952, 54_528),
        macs=8_357_403_496,
        top1=79.0,
        source="arXiv:1610.02357, Figure 5; accuracy: Table 1",
        keras=KerasWeights("Xception", HALVES),
        torch=(TorchWeights("timm", "legacy_xception", timm, HALVES),),
    ),
)
