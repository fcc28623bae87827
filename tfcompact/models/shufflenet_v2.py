"""ShuffleNetV2: half of the channels pass each unit untouched, and a shuffle mixes the halves.

Paper: Ma et al. 2018, arXiv:1807.11164. `WIDTHS` is its Table 5. In units of stride 2 both branches give half of the
output's channels, as in torchvision, whose weights fit. The authors' own code (megvii-model/ShuffleNet-Series) keeps
the left branch as wide as its input and gives the right one the rest, for up to 1.3 % more multiply-adds.
"""

from __future__ import annotations

from functools import partial

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import classifier, conv, depthwise
from tfcompact.models.spec import IMAGENET, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import split

# fmt: off
STAGES = {              # name -> units, of which the first has a stride of 2; at 224 px and width 1:
    "stage2": 4,        # 56 x 56 x  24 -> 28 x 28 x 116
    "stage3": 8,        # 28 x 28 x 116 -> 14 x 14 x 232
    "stage4": 4,        # 14 x 14 x 232 ->  7 x  7 x 464
}
WIDTHS = {              # output channels of the three stages, and of the last convolution
    0.5: ( 48,  96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
# fmt: on


def unit(x: Tensor, c: int, *, name: str) -> Tensor:
    """A unit of stride 1 (Figure 3 c): `[n, h, w, c] -> [n, h, w, c]`, the first half untouched but for its place."""
    from tfcompact.models.layers import ChannelShuffle, ChannelSlice

    left = ChannelSlice(0, c // 2, name=f"{name}_left")(x)
    right = ChannelSlice(c // 2, c // 2, name=f"{name}_right")(x)
    right = branch(right, c // 2, 1, name=f"{name}_right")
    x = keras.layers.Concatenate(name=f"{name}_concat")([left, right])
    return ChannelShuffle(2, name=f"{name}_shuffle")(x)


def reduction(x: Tensor, c: int, *, name: str) -> Tensor:
    """A unit of stride 2 (Figure 3 d): `[n, h, w, k] -> [n, h/2, w/2, c]`; both branches read all of the input."""
    from tfcompact.models.layers import ChannelShuffle

    left = depthwise(x, 3, 2, act=None, name=f"{name}_left_depthwise")
    left = conv(left, c // 2, act="relu", name=f"{name}_left_expand")
    right = branch(x, c // 2, 2, name=f"{name}_right")
    x = keras.layers.Concatenate(name=f"{name}_concat")([left, right])
    return ChannelShuffle(2, name=f"{name}_shuffle")(x)


def branch(x: Tensor, c: int, stride: int, *, name: str) -> Tensor:
    """1x1, depthwise and 1x1 convolution, all of `c` channels: `[n, h, w, k] -> [n, h/stride, w/stride, c]`."""
    x = conv(x, c, act="relu", name=f"{name}_reduce")
    x = depthwise(x, 3, stride, act=None, name=f"{name}_depthwise")
    return conv(x, c, act="relu", name=f"{name}_expand")


def shufflenet_v2(shape: tuple[int, int, int], classes: int, *, width: float, name: str) -> Model:
    """Builds the network. The first convolution has 24 channels at every width."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, 24, 3, 2, act="relu", name="stem")  # 112 x 112
    x = keras.layers.MaxPooling2D(3, 2, "same", name="maximum")(x)
    *widths, last = WIDTHS[width]
    for (stage, units), c in zip(STAGES.items(), widths, strict=True):
        x = reduction(x, c, name=f"{stage}_0")
        for i in range(1, units):
            x = unit(x, c, name=f"{stage}_{i}")
    x = conv(x, last, act="relu", name="head")
    # Dropout at the largest width alone: ShuffleNet-Series, ShuffleNetV2/network.py.
    return keras.Model(inputs, classifier(x, classes, dropout=0.2 if width == 2.0 else 0.0), name=name)


def torchvision(layer: str) -> str:
    """torchvision's module path of one of our layers."""
    conv, is_norm = split(layer)
    outside = {"stem": f"conv1.{is_norm:d}", "head": f"conv5.{is_norm:d}", "logits": "fc"}
    if conv in outside:
        return outside[conv]
    stage, i, side, part = conv.split("_")
    # Its ReLUs are members of the list: one after each 1x1 convolution's batch normalization.
    place = {"left": {"depthwise": 0, "expand": 2}, "right": {"reduce": 0, "depthwise": 3, "expand": 5}}[side][part]
    return f"{stage}.{i}.branch{1 if side == 'left' else 2}.{place + is_norm}"


def _spec(width: float, trainable: int, statistics: int, macs: int, top1: float) -> ModelSpec:
    name = "shufflenet_v2" if width == 1.0 else f"shufflenet_v2_{width}"
    theirs = f"shufflenet_v2_x{width}".replace(".", "_")
    return ModelSpec(
        name=name,
        family="shufflenet_v2",
        build=partial(shufflenet_v2, width=width, name=name),
        image_px=224,
        min_px=32,
        params=Params(trainable, statistics),
        macs=macs,
        top1=top1,
        source="arXiv:1807.11164, Table 5; accuracy: megvii-model/ShuffleNet-Series README.md",
        torch=(TorchWeights("torchvision", theirs, torchvision, IMAGENET),),
    )


SPECS = (
    _spec(0.5, trainable=1_366_792, statistics=7_952, macs=40_476_448, top1=61.1),
    _spec(1.0, trainable=2_278_604, statistics=16_180, macs=144_907_992, top1=69.4),
    _spec(1.5, trainable=3_503_624, statistics=23_440, macs=295_759_392, top1=72.6),
    _spec(2.0, trainable=7_393_996, statistics=33_716, macs=583_253_464, top1=75.0),
)
