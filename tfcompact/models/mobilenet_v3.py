"""MobileNetV3: inverted residuals with squeeze-and-excite and h-swish, found by search.

Paper: Howard et al. 2019, arXiv:1905.02244. `LARGE` and `SMALL` are its Tables 1 and 2 as in the released code
(TF-slim mobilenet_v3.py): where the first arXiv versions print a last width of 1280 for Small and an SE tick on its
last convolution, code and checkpoints have 1024 and none.

Of the networks called 0.75 this is the one with published checkpoints (keras.applications, timm, TF-slim's
"finegrain"): the layer before the logits keeps its width, and expansions follow the scaled input. torchvision's
`width_mult` scales that layer, and the table's expansions themselves. "Minimalistic" is in TF-slim's README, not in
the paper: the same widths without what is slow on some hardware.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import activation, biased, conv, depthwise, logits, round_channels, squeeze_excite
from tfcompact.models.spec import HALVES, IMAGENET, KerasWeights, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import split, timm_blocks, timm_separable


class Row(NamedTuple):
    """One bottleneck: kernel, expanded and output channels at width 1, squeeze-and-excite, nonlinearity, stride."""

    k: int
    exp: int
    out: int
    se: bool
    nl: str
    s: int


# fmt: off
LARGE = (                                                       # input at 224 px
    Row(k=3, exp= 16, out= 16, se=False, nl="relu",    s=1),    # 112 x 112 x  16
    Row(k=3, exp= 64, out= 24, se=False, nl="relu",    s=2),    # 112 x 112 x  16
    Row(k=3, exp= 72, out= 24, se=False, nl="relu",    s=1),    #  56 x  56 x  24
    Row(k=5, exp= 72, out= 40, se=True,  nl="relu",    s=2),    #  56 x  56 x  24
    Row(k=5, exp=120, out= 40, se=True,  nl="relu",    s=1),    #  28 x  28 x  40
    Row(k=5, exp=120, out= 40, se=True,  nl="relu",    s=1),
    Row(k=3, exp=240, out= 80, se=False, nl="h_swish", s=2),    #  28 x  28 x  40
    Row(k=3, exp=200, out= 80, se=False, nl="h_swish", s=1),    #  14 x  14 x  80
    Row(k=3, exp=184, out= 80, se=False, nl="h_swish", s=1),
    Row(k=3, exp=184, out= 80, se=False, nl="h_swish", s=1),
    Row(k=3, exp=480, out=112, se=True,  nl="h_swish", s=1),    #  14 x  14 x  80
    Row(k=3, exp=672, out=112, se=True,  nl="h_swish", s=1),    #  14 x  14 x 112
    Row(k=5, exp=672, out=160, se=True,  nl="h_swish", s=2),
    Row(k=5, exp=960, out=160, se=True,  nl="h_swish", s=1),    #   7 x   7 x 160
    Row(k=5, exp=960, out=160, se=True,  nl="h_swish", s=1),
)

SMALL = (                                                       # input at 224 px
    Row(k=3, exp= 16, out=16, se=True,  nl="relu",    s=2),     # 112 x 112 x 16
    Row(k=3, exp= 72, out=24, se=False, nl="relu",    s=2),     #  56 x  56 x 16
    Row(k=3, exp= 88, out=24, se=False, nl="relu",    s=1),     #  28 x  28 x 24
    Row(k=5, exp= 96, out=40, se=True,  nl="h_swish", s=2),     #  28 x  28 x 24
    Row(k=5, exp=240, out=40, se=True,  nl="h_swish", s=1),     #  14 x  14 x 40
    Row(k=5, exp=240, out=40, se=True,  nl="h_swish", s=1),
    Row(k=5, exp=120, out=48, se=True,  nl="h_swish", s=1),
    Row(k=5, exp=144, out=48, se=True,  nl="h_swish", s=1),     #  14 x  14 x 48
    Row(k=5, exp=288, out=96, se=True,  nl="h_swish", s=2),
    Row(k=5, exp=576, out=96, se=True,  nl="h_swish", s=1),     #   7 x   7 x 96
    Row(k=5, exp=576, out=96, se=True,  nl="h_swish", s=1),
)
# fmt: on


def minimalistic(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The same widths with 3x3 kernels and ReLU only, no squeeze-and-excite (TF-slim, mobilenet/README.md)."""
    return tuple(row._replace(k=3, se=False, nl="relu") for row in rows)


def bottleneck(x: Tensor, row: Row, exp: int, out: int, *, name: str) -> Tensor:
    """Expand, filter, weigh channels, project (Figure 4): `[n, h, w, k] -> [n, h/s, w/s, out]`."""
    k = x.shape[-1]
    y = conv(x, exp, act=row.nl, name=f"{name}_expand") if exp != k else x
    y = depthwise(y, row.k, row.s, act=row.nl, name=f"{name}_depthwise")
    if row.se:
        y = squeeze_excite(y, round_channels(exp / 4), gate="h_sigmoid", name=f"{name}_se")
    y = conv(y, out, act=None, name=f"{name}_project")
    return keras.layers.Add(name=f"{name}_add")([x, y]) if row.s == 1 and k == out else y


def mobilenet_v3(
    shape: tuple[int, int, int],
    classes: int,
    *,
    rows: tuple[Row, ...],
    last: int,
    width: float = 1.0,
    act: str = "h_swish",
    name: str,
) -> Model:
    """Builds the network; `last` is the width of the layer before the logits, which `width` does not scale.

    `act` is the nonlinearity of the stem and of the two layers after the blocks.
    """
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, 16, 3, 2, act=act, name="stem")
    for i, row in enumerate(rows):
        # The expansion follows the scaled input, so that its ratio is the table's (TF-slim, expand_input_by_factor).
        table_in = rows[i - 1].out if i else 16
        exp = round_channels(x.shape[-1] * (row.exp / table_in))
        x = bottleneck(x, row, exp, round_channels(row.out * width), name=f"block{i}")
    x = conv(x, round_channels(6 * x.shape[-1]), act=act, name="head")
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)  # [n, 1, 1, c]
    x = activation(biased(x, last, name="last"), act, "last")
    return keras.Model(inputs, logits(x, classes, dropout=0.2), name=name)


def torchvision(layer: str, rows: tuple[Row, ...]) -> str:
    """torchvision's module path of one of our layers."""
    conv, is_norm = split(layer)
    outside = {
        "stem": f"features.0.{is_norm:d}",
        "head": f"features.{len(rows) + 1}.{is_norm:d}",
        "last": "classifier.0",
        "logits": "classifier.3",
    }
    if conv in outside:
        return outside[conv]
    block, part, *inside = conv.removeprefix("block").split("_")
    parts = ["depthwise", *(["se"] if rows[int(block)].se else []), "project"]
    if int(block) > 0:  # the first alone expands nothing
        parts.insert(0, "expand")
    end = {"reduce": "fc1", "expand": "fc2"}[inside[0]] if inside else f"{is_norm:d}"
    return f"features.{int(block) + 1}.block.{parts.index(part)}.{end}"


def timm(layer: str, rows: tuple[Row, ...]) -> str:
    """timm's module path of one of our layers. Its stages are runs of blocks with the same output."""
    conv, is_norm = split(layer)
    outputs = [row.out for row in rows]  # they never fall
    stages = sorted(set(outputs))
    if conv in ("head", "last"):
        return "conv_head" if conv == "last" else f"blocks.{len(stages)}.0.{('conv', 'bn1')[is_norm]}"
    if not conv.startswith("block"):
        return timm_blocks(layer)
    block, _, part = layer.removeprefix("block").partition("_")
    stage, repeat = stages.index(outputs[int(block)]), outputs[: int(block)].count(outputs[int(block)])
    return (timm_blocks if stage else timm_separable)(f"block{stage}_{repeat}_{part}")


TIMM = {"large": (1.0,), "small": (0.75, 1.0)}
"""The widths that timm has weights for of its own training, beside those converted from TF-slim."""


def _spec(
    size: str,
    kind: float | str,
    trainable: int,
    statistics: int,
    macs: int,
    top1: float,
    accuracy: str = "arXiv:1905.02244, Table 3",
) -> ModelSpec:
    """`kind` is the width, or "minimalistic"."""
    name = f"mobilenet_v3_{size}" if kind == 1.0 else f"mobilenet_v3_{size}_{kind}"
    plain = kind == "minimalistic"
    width = 1.0 if plain else float(kind)
    table = {"large": LARGE, "small": SMALL}[size]
    rows = minimalistic(table) if plain else table
    last = {"large": 1280, "small": 1024}[size]
    path = f"{size}{'_minimal' if plain else ''}_{100 * width:03.0f}"
    names = partial(timm, rows=rows)
    torch = [TorchWeights("timm", f"tf_mobilenetv3_{path}", names, HALVES, epsilon=1e-3, symmetric=False)]
    if kind in TIMM[size]:
        torch.append(TorchWeights("timm", f"mobilenetv3_{path}", names, IMAGENET))
    if kind == 1.0:
        theirs = partial(torchvision, rows=rows)
        torch.append(TorchWeights("torchvision", f"mobilenet_v3_{size}", theirs, IMAGENET, epsilon=1e-3))
    options = {"alpha": width, "minimalistic": plain, "include_preprocessing": False}
    act = "relu" if plain else "h_swish"
    return ModelSpec(
        name=name,
        family="mobilenet_v3",
        build=partial(mobilenet_v3, rows=rows, last=last, width=width, act=act, name=name),
        image_px=224,
        min_px=32,
        params=Params(trainable, statistics),
        macs=macs,
        top1=top1,
        source=f"arXiv:1905.02244, Tables 1 and 2; TF-slim mobilenet_v3.py; accuracy: {accuracy}",
        keras=KerasWeights(f"MobileNetV3{size.title()}", HALVES, options),
        torch=tuple(torch),
    )


README = "TF-slim mobilenet/README.md"

SPECS = (
    _spec("large", 0.75, trainable=3_993_528, statistics=19_088, macs=154_560_624, top1=73.3),
    _spec("large", 1.0, trainable=5_483_032, statistics=24_400, macs=216_589_760, top1=75.2),
    _spec("large", "minimalistic", 3_924_288, 24_400, macs=209_136_704, top1=72.3, accuracy=README),
    _spec("small", 0.75, trainable=2_041_872, statistics=9_680, macs=43_399_344, top1=65.4),
    _spec("small", 1.0, trainable=2_542_856, statistics=12_112, macs=56_510_400, top1=67.4),
    _spec("small", "minimalistic", 2_044_736, 12_112, macs=52_288_448, top1=61.9, accuracy=README),
)
