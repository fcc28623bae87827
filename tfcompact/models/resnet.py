"""ResNet-50, and SE-ResNet: residual bottlenecks, plain and with squeeze-and-excitation.

Papers: He et al. 2015, arXiv:1512.03385, whose Table 1 is `STAGES`; Hu et al. 2017, arXiv:1709.01507. Three ways of
writing the same bottleneck are in use, and each has a name:

| name | halves the map in | convolutions' biases | like |
|---|---|---|---|
| `resnet_50` | the first 1x1 | yes | keras.applications |
| `resnet_50_v1.5` | the 3x3 | no | torchvision |
| `se_resnet_50`, `_101`, `_152` | the first 1x1 | no | the authors' Caffe networks |
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import activation, classifier, squeeze_excite
from tfcompact.models.blocks import conv as _conv
from tfcompact.models.spec import CAFFE, IMAGENET, KerasWeights, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import split

EPSILON = 1.001e-5  # keras.applications; torch and Caffe have 1e-5
conv = partial(_conv, epsilon=EPSILON)

WIDTHS = (64, 128, 256, 512)  # of the 3x3 convolutions, at 56 x 56, 28 x 28, 14 x 14 and 7 x 7 for 224 px
STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # bottlenecks of each width


class Style(NamedTuple):
    """What implementations disagree about."""

    strided: str  # the convolution that halves the map: "reduce" or "spatial"
    bias: bool = False  # of convolutions before batch normalization
    reduction: int | None = None  # channels per channel of the squeezed vector; None: no squeeze-and-excitation
    ceil: bool = False  # the stem's maxima begin at the first pixel instead of before it


KERAS, TORCH, CAFFE_SE = Style("reduce", bias=True), Style("spatial"), Style("reduce", reduction=16, ceil=True)


def bottleneck(x: Tensor, c: int, stride: int, style: Style, *, project: bool, name: str) -> Tensor:
    """1x1, 3x3, 1x1 beside a shortcut: `[n, h, w, k] -> [n, h/stride, w/stride, 4c]`; k is 4c unless `project`."""
    strides = {"reduce": 1, "spatial": 1, style.strided: stride}
    shortcut = conv(x, 4 * c, 1, stride, None, bias=style.bias, name=f"{name}_shortcut") if project else x
    y = conv(x, c, 1, strides["reduce"], "relu", bias=style.bias, name=f"{name}_reduce")
    padding = "same"
    if strides["spatial"] > 1:
        y, padding = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(y), "valid"  # both ends alike, as torch
    y = conv(y, c, 3, strides["spatial"], "relu", padding=padding, bias=style.bias, name=f"{name}_spatial")
    y = conv(y, 4 * c, act=None, bias=style.bias, name=f"{name}_expand")
    if style.reduction:
        y = squeeze_excite(y, 4 * c // style.reduction, gate="sigmoid", name=f"{name}_se")
    return activation(keras.layers.Add(name=f"{name}_add")([shortcut, y]), "relu", name)


def resnet(shape: tuple[int, int, int], classes: int, *, repeats: tuple[int, ...], style: Style, name: str) -> Model:
    """Builds the network with `repeats[i]` bottlenecks of width `WIDTHS[i]`."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = keras.layers.ZeroPadding2D(3, name="stem_pad")(inputs)
    x = conv(x, 64, 7, 2, "relu", padding="valid", bias=style.bias, name="stem")  # 112 x 112
    if style.ceil:  # at even sizes that is SAME
        x = keras.layers.MaxPooling2D(3, 2, "same", name="stem_pool")(x)
    else:
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)  # 56 x 56
    for i, (c, n) in enumerate(zip(WIDTHS, repeats, strict=True)):
        for j in range(n):
            first = j == 0
            x = bottleneck(x, c, 2 if first and i else 1, style, project=first, name=f"block{i}_{j}")
    return keras.Model(inputs, classifier(x, classes, dropout=0.0), name=name)


def torch(layer: str) -> str:
    """The module path of one of our layers in torchvision's ResNet and in timm's."""
    conv, is_norm = split(layer)
    outside = {"stem": ("conv1", "bn1"), "logits": ("fc", "")}
    if conv in outside:
        return outside[conv][is_norm]
    stage, repeat, part = conv.removeprefix("block").split("_", 2)
    place = {"shortcut": f"downsample.{is_norm:d}", "se_reduce": "se_module.fc1", "se_expand": "se_module.fc2"}
    order = ("reduce", "spatial", "expand")
    inner = place[part] if part in place else f"{'bn' if is_norm else 'conv'}{order.index(part) + 1}"
    return f"layer{int(stage) + 1}.{repeat}.{inner}"


def timm_senet(layer: str) -> str:
    """The same in timm's `legacy_seresnet` networks."""
    path = torch(layer)
    return {"conv1": "layer0.conv1", "bn1": "layer0.bn1", "fc": "last_linear"}.get(path, path)


def _plain(
    name: str,
    style: Style,
    trainable: int,
    macs: int,
    top1: float,
    source: str,
    *,
    keras: KerasWeights | None = None,
    torch: tuple[TorchWeights, ...] = (),
) -> ModelSpec:
    """A variant without squeeze-and-excitation."""
    return ModelSpec(
        name=name,
        family="resnet",
        build=partial(resnet, repeats=STAGES[50], style=style, name=name),
        image_px=224,
        min_px=32,
        params=Params(trainable, 53_120),
        macs=macs,
        top1=top1,
        source=source,
        keras=keras,
        torch=torch,
    )


def _se(depth: int, trainable: int, statistics: int, macs: int, top1: float) -> ModelSpec:
    """A variant with squeeze-and-excitation."""
    name = f"se_resnet_{depth}"
    return ModelSpec(
        name=name,
        family="resnet",
        build=partial(resnet, repeats=STAGES[depth], style=CAFFE_SE, name=name),
        image_px=224,
        min_px=32,
        params=Params(trainable, statistics),
        macs=macs,
        top1=top1,
        source="arXiv:1709.01507, Table 2; github.com/hujie-frank/SENet",
        torch=(TorchWeights("timm", f"legacy_seresnet{depth}", timm_senet, IMAGENET, ceil=True),),
    )


SPECS = (
    _plain(
        "resnet_50",
        KERAS,
        trainable=25_583_592,
        macs=3_857_973_248,
        top1=75.3,
        source="arXiv:1512.03385, Table 1; accuracy of one crop: the authors' released network",
        keras=KerasWeights("ResNet50", CAFFE, bgr=True),
    ),
    _plain(
        "resnet_50_v1.5",
        TORCH,
        trainable=25_557_032,
        macs=4_089_184_256,
        top1=76.13,
        source="torchvision models/resnet.py, weights IMAGENET1K_V1",
        torch=tuple(TorchWeights(library, "resnet50", torch, IMAGENET) for library in ("torchvision", "timm")),
    ),
    _se(50, trainable=28_088_024, statistics=53_120, macs=3_860_488_192, top1=76.71),
    _se(101, trainable=49_326_872, statistics=105_344, macs=7_574_937_600, top1=77.62),
    _se(152, trainable=66_821_848, statistics=151_424, macs=11_288_993_792, top1=78.43),
)
