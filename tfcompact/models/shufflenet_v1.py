"""ShuffleNet: 1x1 convolutions in groups, and a shuffle of channels so that groups hear of each other.

Paper: Zhang et al. 2017, arXiv:1707.01083. Widths and stages are its Table 1. What it leaves open is taken from the
authors' code (megvii-model/ShuffleNet-Series, ShuffleNetV1): the first convolution's width at each scale, and that
the bottleneck is a quarter of the output. At widths 0.5 and 1.5 a quarter does not divide into 2 or 4 groups; it is
rounded up there, which is our choice.
"""

from __future__ import annotations

from functools import partial
from math import ceil

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import activation, classifier, conv, depthwise
from tfcompact.models.spec import ModelSpec, Params

# fmt: off
STAGE2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Output channels of stage 2 at width 1 for each number of groups; every further stage has twice as many."""
STAGES = {              # name -> units, of which the first has a stride of 2; at 224 px and width 1 with 3 groups:
    "stage2": 4,        # 56 x 56 x  24 -> 28 x 28 x 240
    "stage3": 8,        # 28 x 28 x 240 -> 14 x 14 x 480
    "stage4": 4,        # 14 x 14 x 480 ->  7 x  7 x 960
}
STEM = {0.5: 12, 1.0: 24, 1.5: 24, 2.0: 48}
"""The first convolution's channels for each width; 16 at width 0.5 with 8 groups, for the difference to divide."""
# fmt: on


def unit(x: Tensor, c: int, stride: int, groups: int, first: int, *, name: str) -> Tensor:
    """A ShuffleNet unit (Figure 2 b, c): `[n, h, w, k] -> [n, h/stride, w/stride, c]`.

    Reduce in `first` groups, shuffle, filter, expand in `groups`. With a stride of 2 the input's averages are not
    added but stand beside the result, so that only `c - k` channels are computed.
    """
    from tfcompact.models.layers import ChannelShuffle

    mid = ceil(c / 4 / groups) * groups
    y = conv(x, mid, act="relu", groups=first, name=f"{name}_reduce")
    y = ChannelShuffle(groups, name=f"{name}_shuffle")(y) if groups > 1 else y
    y = depthwise(y, 3, stride, act=None, name=f"{name}_depthwise")
    if stride == 1:
        y = conv(y, c, act=None, groups=groups, name=f"{name}_expand")
        return activation(keras.layers.Add(name=f"{name}_add")([x, y]), "relu", name)
    # The figure's ReLU follows the concatenation; the averages are positive already.
    y = conv(y, c - x.shape[-1], act="relu", groups=groups, name=f"{name}_expand")
    averages = keras.layers.AveragePooling2D(3, 2, "same", name=f"{name}_average")(x)
    return keras.layers.Concatenate(name=name)([averages, y])


def shufflenet_v1(shape: tuple[int, int, int], classes: int, *, groups: int, width: float, name: str) -> Model:
    """Builds the network with its 1x1 convolutions in `groups`; `width` scales every layer (section 4.1)."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, 16 if (groups, width) == (8, 0.5) else STEM[width], 3, 2, act="relu", name="stem")  # 112 x 112
    x = keras.layers.MaxPooling2D(3, 2, "same", name="maximum")(x)
    for i, (stage, units) in enumerate(STAGES.items()):
        for j in range(units):
            # The very first has too few input channels to be grouped (section 3.2).
            first = 1 if i == j == 0 else groups
            x = unit(x, int(STAGE2[groups] * width) * 2**i, 2 if j == 0 else 1, groups, first, name=f"{stage}_{j}")
    return keras.Model(inputs, classifier(x, classes, dropout=0.0), name=name)


def _spec(
    groups: int,
    width: float,
    trainable: int,
    statistics: int,
    macs: int,
    top1: float | None,
    accuracy: str = "Table 2",
) -> ModelSpec:
    name = f"shufflenet_v1_g{groups}" + ("" if width == 1.0 else f"_{width}")
    return ModelSpec(
        name=name,
        family="shufflenet_v1",
        build=partial(shufflenet_v1, groups=groups, width=width, name=name),
        image_px=224,
        min_px=32,
        params=Params(trainable, statistics),
        macs=macs,
        top1=top1,
        source="arXiv:1707.01083, Table 1" + (f"; accuracy: {accuracy}" if top1 else ""),
    )


MEGVII = "megvii-model/ShuffleNet-Series README.md"

SPECS = (
    _spec(1, 0.5, trainable=534_484, statistics=7_344, macs=38_517_408, top1=54.9),
    _spec(1, 1.0, trainable=1_531_936, statistics=14_688, macs=143_078_976, top1=66.4),
    _spec(1, 1.5, trainable=2_993_032, statistics=22_032, macs=308_096_352, top1=None),
    _spec(1, 2.0, trainable=4_918_744, statistics=29_376, macs=550_334_592, top1=None),
    _spec(2, 0.5, trainable=643_932, statistics=10_216, macs=38_570_608, top1=55.6),
    _spec(2, 1.0, trainable=1_733_848, statistics=20_400, macs=140_836_512, top1=67.3),
    _spec(2, 1.5, trainable=3_272_312, statistics=30_616, macs=302_187_792, top1=None),
    _spec(2, 2.0, trainable=5_257_896, statistics=40_800, macs=539_138_624, top1=None),
    _spec(3, 0.5, trainable=718_324, statistics=12_240, macs=37_589_856, top1=56.8),
    _spec(3, 1.0, trainable=1_865_728, statistics=24_480, macs=137_460_672, top1=67.4),
    _spec(3, 1.5, trainable=3_442_168, statistics=36_720, macs=292_443_552, top1=71.5, accuracy="Table 5"),
    _spec(3, 2.0, trainable=5_450_776, statistics=48_960, macs=524_045_184, top1=73.7, accuracy="Table 5"),
    _spec(4, 0.5, trainable=778_040, statistics=13_904, macs=37_468_832, top1=58.4),
    _spec(4, 1.0, trainable=1_968_344, statistics=27_744, macs=134_339_776, top1=67.2),
    _spec(4, 1.5, trainable=3_574_032, statistics=41_648, macs=285_767_712, top1=None),
    _spec(4, 2.0, trainable=5_593_528, statistics=55_488, macs=510_289_536, top1=None),
    _spec(8, 0.5, trainable=1_011_448, statistics=19_584, macs=40_469_760, top1=57.7),
    _spec(8, 1.0, trainable=2_434_768, statistics=39_168, macs=138_365_952, top1=67.6),
    _spec(8, 1.5, trainable=4_269_952, statistics=58_752, macs=290_188_800, top1=71.0, accuracy=MEGVII),
    _spec(8, 2.0, trainable=6_522_232, statistics=78_336, macs=521_942_016, top1=72.9, accuracy=MEGVII),
)
