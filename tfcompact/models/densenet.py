"""DenseNet: every layer reads all layers before it, so each adds only a few channels.

Paper: Huang et al. 2016, arXiv:1608.06993. `IMAGENET_NETS` is its Table 1, with DenseNet-161 as the authors released
it (github.com/liuzhuang13/DenseNet, 48 new channels a layer); `CIFAR_NETS` are the rows of its Table 2. Batch
normalization and ReLU come before each convolution (section 3), and are named after the convolution they feed.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import activation, bare, classifier, conv, norm
from tfcompact.models.spec import IMAGENET, KerasWeights, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import split

EPSILON = 1.001e-5  # keras.applications; torch has 1e-5


class Net(NamedTuple):
    """A network: `blocks[i]` layers in dense block i, each adding `k` channels (the growth rate)."""

    k: int
    blocks: tuple[int, ...]
    stem: int  # channels
    bottleneck: bool = True  # a 1x1 convolution to 4k channels before each 3x3 (the paper's B)
    theta: float = 0.5  # share of channels that a transition keeps (the paper's C)


IMAGENET_NETS = {  # at 224 px the blocks run at 56 x 56, 28 x 28, 14 x 14 and 7 x 7
    121: Net(k=32, blocks=(6, 12, 24, 16), stem=64),
    161: Net(k=48, blocks=(6, 12, 36, 24), stem=96),
    169: Net(k=32, blocks=(6, 12, 32, 32), stem=64),
    201: Net(k=32, blocks=(6, 12, 48, 32), stem=64),
}


def cifar(depth: int, k: int) -> Net:
    """A plain network of Table 2: three equal blocks at 32, 16 and 8 px; `depth` counts 4 layers outside them."""
    return Net(k, ((depth - 4) // 3,) * 3, stem=16, bottleneck=False, theta=1.0)


def cifar_bc(depth: int, k: int) -> Net:
    """A network with bottlenecks and compression: half as many layers, of two convolutions each."""
    return Net(k, ((depth - 4) // 6,) * 3, stem=2 * k)


def preactivated(x: Tensor, filters: int, kernel: int = 1, *, name: str) -> Tensor:
    """Batch normalization, ReLU, convolution: `[n, h, w, c] -> [n, h, w, filters]`."""
    x = activation(norm(x, epsilon=EPSILON, name=f"{name}_bn"), "relu", name)
    return bare(x, filters, kernel, name=name)


def dense_layer(x: Tensor, k: int, *, bottleneck: bool, name: str) -> Tensor:
    """`k` new channels out of all there are, put behind them: `[n, h, w, c] -> [n, h, w, c + k]`."""
    y = preactivated(x, 4 * k, name=f"{name}_reduce") if bottleneck else x
    y = preactivated(y, k, 3, name=f"{name}_grow")
    return keras.layers.Concatenate(name=f"{name}_concat")([x, y])


def transition(x: Tensor, theta: float, *, name: str) -> Tensor:
    """Fewer channels at half the size: `[n, h, w, c] -> [n, h/2, w/2, theta * c]`; an odd last row is left out."""
    x = preactivated(x, int(theta * x.shape[-1]), name=name)
    return keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def densenet(shape: tuple[int, int, int], classes: int, *, net: Net, photographs: bool, name: str) -> Model:
    """Builds the network; for `photographs` the stem divides the size by four, otherwise it keeps it."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    if photographs:
        x = keras.layers.ZeroPadding2D(3, name="stem_pad")(inputs)  # both ends alike, as all implementations do
        x = conv(x, net.stem, 7, 2, "relu", padding="valid", epsilon=EPSILON, name="stem")  # 112 x 112
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)  # 56 x 56
    else:
        x = bare(inputs, net.stem, 3, name="stem")
    for i, layers in enumerate(net.blocks):
        x = transition(x, net.theta, name=f"transition{i}") if i else x
        for j in range(layers):
            x = dense_layer(x, net.k, bottleneck=net.bottleneck, name=f"block{i}_{j}")
    x = activation(norm(x, epsilon=EPSILON, name="last_bn"), "relu", "last")
    return keras.Model(inputs, classifier(x, classes, dropout=0.0), name=name)


def torch(layer: str) -> str:
    """torchvision's and timm's module path of one of our layers; they count from one."""
    conv, is_norm = split(layer)
    kind = "norm" if is_norm else "conv"
    outside = {"stem": f"features.{kind}0", "last": "features.norm5", "logits": "classifier"}
    if conv in outside:
        return outside[conv]
    if conv.startswith("transition"):
        return f"features.{conv}.{kind}"  # theirs, too, has the number of the block before it
    block, place, part = conv.removeprefix("block").split("_")
    second = 2 if part == "grow" else 1
    return f"features.denseblock{int(block) + 1}.denselayer{int(place) + 1}.{kind}{second}"


def _spec(depth: int, trainable: int, statistics: int, macs: int, top1: float, source: str = "Table 3") -> ModelSpec:
    name = f"densenet_{depth}"
    libraries = ("torchvision", "timm")
    return ModelSpec(
        name=name,
        family="densenet",
        build=partial(densenet, net=IMAGENET_NETS[depth], photographs=True, name=name),
        image_px=224,
        min_px=29,  # the smallest that leaves one position after the last transition
        params=Params(trainable, statistics),
        macs=macs,
        top1=top1,
        source=f"arXiv:1608.06993, Table 1; accuracy: {source}",
        keras=None if depth == 161 else KerasWeights(f"DenseNet{depth}", IMAGENET),
        torch=tuple(TorchWeights(library, f"densenet{depth}", torch, IMAGENET) for library in libraries),
    )


def _small(name: str, net: Net, trainable: int, statistics: int, macs: int, top1: float | None) -> ModelSpec:
    """A variant for CIFAR."""
    return ModelSpec(
        name=name,
        family="densenet",
        build=partial(densenet, net=net, photographs=False, name=name),
        image_px=32,
        min_px=4,
        params=Params(trainable, statistics),
        macs=macs,
        top1=top1,
        source="arXiv:1608.06993, Table 2, column C10+",
        classes=10,
    )


# fmt: off
SPECS = (
    _spec(121, trainable=7_978_856, statistics=83_648, macs=2_834_161_664, top1=74.98),
    _spec(161, trainable=28_681_000, statistics=219_936, macs=7_727_907_072, top1=77.138,
          source="torchvision, weights IMAGENET1K_V1"),
    _spec(169, trainable=14_149_480, statistics=158_400, macs=3_359_843_328, top1=76.2),
    _spec(201, trainable=20_013_928, statistics=229_056, macs=4_291_365_888, top1=77.42),
    _small("densenet_cifar_40_12", cifar(40, 12), 1_019_722, 18_096, 264_812_928, top1=94.76),
    _small("densenet_cifar_100_12", cifar(100, 12), 6_979_642, 117_216, 1_769_516_448, top1=95.9),
    _small("densenet_cifar_100_24", cifar(100, 24), 27_249_082, 231_264, 6_889_347_744, top1=96.26),
    _small("densenet_bc_40_12", cifar_bc(40, 12), 176_122, 5_088, 72_365_352, top1=None),
    _small("densenet_bc_100_12", cifar_bc(100, 12), 769_162, 23_988, 287_929_692, top1=95.49),
    _small("densenet_bc_250_24", cifar_bc(250, 24), 15_324_406, 257_976, 5_418_785_724, top1=96.38),
    _small("densenet_bc_190_40", cifar_bc(190, 40), 25_624_430, 256_960, 9_301_945_740, top1=96.54),
)
# fmt: on
