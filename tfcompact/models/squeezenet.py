"""SqueezeNet: fire modules, which squeeze to a few channels before they expand to many.

Paper: Iandola et al. 2016, arXiv:1602.07360, Table 1. The two networks are the authors' (forresti/SqueezeNet,
SqueezeNet_v1.0 and SqueezeNet_v1.1, train_val.prototxt). There is no batch normalization and no dense layer: the last
convolution gives one map for each class, and the maps' means after a ReLU are the logits, which are never negative.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import activation, biased, drop
from tfcompact.models.spec import CAFFE, IMAGENET, ModelSpec, PackagedWeights, Params, TorchWeights


class Stem(NamedTuple):
    """The first convolution, with a stride of 2 and no padding."""

    filters: int
    kernel: int


class Fire(NamedTuple):
    """A fire module: 1x1 convolutions to `squeeze` channels, then as many 1x1 as 3x3 ones to `expand` each."""

    squeeze: int
    expand: int


POOL = "maximum"

# fmt: off
VERSION_1_0 = (         # input at 224 px
    Stem(96, 7),        # 224 x 224 x   3
    POOL,               # 109 x 109 x  96
    Fire(16,  64),      #  54 x  54 x  96
    Fire(16,  64),      #  54 x  54 x 128
    Fire(32, 128),
    POOL,               #  54 x  54 x 256
    Fire(32, 128),      #  27 x  27 x 256
    Fire(48, 192),
    Fire(48, 192),      #  27 x  27 x 384
    Fire(64, 256),
    POOL,               #  27 x  27 x 512
    Fire(64, 256),      #  13 x  13 x 512
)
VERSION_1_1 = (         # input at 224 px
    Stem(64, 3),        # 224 x 224 x   3
    POOL,               # 111 x 111 x  64
    Fire(16,  64),      #  55 x  55 x  64
    Fire(16,  64),
    POOL,               #  55 x  55 x 128
    Fire(32, 128),      #  27 x  27 x 128
    Fire(32, 128),
    POOL,               #  27 x  27 x 256
    Fire(48, 192),      #  13 x  13 x 256
    Fire(48, 192),
    Fire(64, 256),      #  13 x  13 x 384
    Fire(64, 256),      #  13 x  13 x 512
)
# fmt: on

FIRST_FIRE = 2
"""The number of the first fire module; the authors count the first convolution as layer 1."""


def fire(x: Tensor, row: Fire, *, name: str) -> Tensor:
    """Squeeze, expand two ways, concatenate (section 3.2): `[n, h, w, c] -> [n, h, w, 2 * expand]`."""
    squeezed = relu_conv(x, row.squeeze, name=f"{name}_squeeze")
    ends = [relu_conv(squeezed, row.expand, k, name=f"{name}_expand{k}x{k}") for k in (1, 3)]
    return keras.layers.Concatenate(name=name)(ends)


def relu_conv(
    x: Tensor, filters: int, kernel: int = 1, stride: int = 1, *, padding: str = "same", name: str
) -> Tensor:
    """Convolution and ReLU. Without batch normalization it is the first weights that keep the signal's size."""
    return biased(x, filters, kernel, stride, "relu", padding=padding, fan="fan_in", name=name)


def pool(x: Tensor, *, name: str) -> Tensor:
    """Maxima of 3x3 with stride 2, rounded up as Caffe does: `[n, h, w, c] -> [n, ceil((h-1)/2), ceil((w-1)/2), c]`.

    The windows start at the corner and the last one may hang over: VALID where the side is odd; where it is even that
    is SAME, which adds one row at the end.
    """
    return keras.layers.MaxPooling2D(3, 2, "valid" if x.shape[1] % 2 else "same", name=name)(x)


def squeezenet(shape: tuple[int, int, int], classes: int, *, rows: tuple[Stem | Fire | str, ...], name: str) -> Model:
    """Builds the network of the table `rows`."""
    x = inputs = keras.layers.Input(shape, name="image")  # [n, px, px, 3], normalized
    pools = fires = 0
    for row in rows:
        if isinstance(row, Stem):
            x = relu_conv(x, row.filters, row.kernel, 2, padding="valid", name="stem")
        elif isinstance(row, Fire):
            x = fire(x, row, name=f"fire{FIRST_FIRE + fires}")
            fires += 1
        else:
            x = pool(x, name=f"maximum{pools}")
            pools += 1
    x = drop(x, 0.5, name="dropout")
    # Small kernels: training begins at the loss of not knowing. A bias of 1, where the authors have 0, moves all
    # logits alike, so it changes no probability, but it keeps them above the ReLU until there are features to tell
    # classes by. From 0, the first steps push whole classes below it for good: their logits have no gradient then.
    start = {"kernel_initializer": keras.initializers.RandomNormal(0, 0.01), "bias_initializer": "ones"}
    x = keras.layers.Conv2D(classes, 1, **start, name="logits")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(activation(x, "relu", "logits"))
    return keras.Model(inputs, x, name=name)


def torchvision(layer: str, *, rows: tuple[Stem | Fire | str, ...]) -> str:
    """torchvision's module path of one of our layers."""
    outside = {"stem": "features.0", "logits": "classifier.1"}
    if layer in outside:
        return outside[layer]
    number, part = layer.removeprefix("fire").split("_")
    fires = [i for i, row in enumerate(rows) if isinstance(row, Fire)]
    # Its list has the stem's ReLU as a member of its own.
    return f"features.{1 + fires[int(number) - FIRST_FIRE]}.{part}"


def caffe(layer: str) -> str:
    """The authors' name of one of our layers."""
    return {"stem": "conv1", "logits": "conv10"}.get(layer, layer.replace("_", "/").replace("squeeze", "squeeze1x1"))


PACKAGED = PackagedWeights(
    "ndf",
    "0.1.4",
    "ndf/example_models/weights/squeezenet_weights.pkl",
    "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1",
    TorchWeights("ndf", "SqueezeNet 1.1", caffe, CAFFE, symmetric=False, bgr=True),
)
"""The authors' weights of version 1.1, as the Python package ndf has them."""


def _spec(
    version: str, rows: tuple[Stem | Fire | str, ...], min_px: int, trainable: int, macs: int, top1: float
) -> ModelSpec:
    name, theirs = f"squeezenet_{version}", f"squeezenet{version.replace('.', '_')}"
    return ModelSpec(
        name=name,
        family="squeezenet",
        build=partial(squeezenet, rows=rows, name=name),
        image_px=224,
        min_px=min_px,
        params=Params(trainable, 0),
        macs=macs,
        top1=top1,
        source=f"arXiv:1602.07360, forresti/SqueezeNet v{version}; accuracy: torchvision {theirs}",
        # Its pools pad the end alone, as ours do.
        torch=(TorchWeights("torchvision", theirs, partial(torchvision, rows=rows), IMAGENET, symmetric=False),),
        packaged=PACKAGED if version == "1.1" else None,
    )


SPECS = (
    _spec("1.0", VERSION_1_0, min_px=21, trainable=1_248_424, macs=818_924_576, top1=58.1),
    _spec("1.1", VERSION_1_1, min_px=17, trainable=1_235_496, macs=349_151_936, top1=58.2),
)
