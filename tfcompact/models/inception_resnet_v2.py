"""Inception-ResNet V2: thin Inception blocks whose outcome is projected, scaled down and added to their input.

Paper: Szegedy et al. 2016, arXiv:1602.07261, section 3.2 and 3.3. The released network (TF-slim
nets/inception_resnet_v2.py, keras.applications) is followed, which begins with V3's stem instead of V4's: batch
normalization without gamma, an auxiliary classifier on the last 17x17 block whose loss counts 0.4.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import activation, biased, classifier
from tfcompact.models.branches import AVERAGE, SHRINK, Branch, C, V, auxiliary, mixed, slim_conv, stem, timm_branch
from tfcompact.models.spec import HALVES, KerasWeights, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import split

Branches = tuple[Branch, ...]


class Residual(NamedTuple):
    """`n` blocks whose branches are projected to their input's channels, times `scale`, and added to it."""

    n: int
    scale: float  # TF-slim's; without it training breaks down at this width (section 3.3)
    branches: Branches


BLOCKS: dict[str, Branches | Residual] = {  # output at 299 px
    "mixed_5b": (
        (C(96),),
        (C(48), C(64, (5, 5))),
        (C(64), C(96, (3, 3)), C(96, (3, 3))),
        (AVERAGE, C(64)),
    ),  # 35 x 35 x 320
    "block35": Residual(
        10, 0.17, ((C(32),), (C(32), C(32, (3, 3))), (C(32), C(48, (3, 3)), C(64, (3, 3))))
    ),  # Figure 16
    "mixed_6a": (
        (C(384, (3, 3), 2, V),),
        (C(256), C(256, (3, 3)), C(384, (3, 3), 2, V)),
        (SHRINK,),
    ),  # 17 x 17 x 1088
    "block17": Residual(20, 0.10, ((C(192),), (C(128), C(160, (1, 7)), C(192, (7, 1))))),  # Figure 17
    "mixed_7a": (
        (C(256), C(384, (3, 3), 2, V)),
        (C(256), C(288, (3, 3), 2, V)),
        (C(256), C(288, (3, 3)), C(320, (3, 3), 2, V)),
        (SHRINK,),
    ),  # 8 x 8 x 2080, Figure 18
    "block8": Residual(10, 0.20, ((C(192),), (C(192), C(224, (1, 3)), C(256, (3, 1))))),  # Figure 19
}


def residual(x: Tensor, branches: Branches, scale: float, act: str | None, *, name: str) -> Tensor:
    """The branches side by side, projected, scaled, added: shape kept."""
    from tfcompact.models.layers import Scale

    y = mixed(x, branches, slim_conv, name=name)
    y = biased(y, x.shape[-1], name=f"{name}_project")
    y = y if scale == 1 else Scale(scale, name=f"{name}_scale")(y)
    return activation(keras.layers.Add(name=f"{name}_add")([x, y]), act, name)


def inception_resnet_v2(shape: tuple[int, int, int], classes: int, *, name: str, aux: bool = False) -> Model:
    """Builds the network; with `aux` its second output is the auxiliary classifier's logits `[n, classes]`.

    The last residual block is neither scaled nor followed by a ReLU, as released.
    """
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = stem(inputs)  # 35 x 35 x 192
    side = x
    for block, row in BLOCKS.items():
        if isinstance(row, Residual):
            for i in range(row.n):
                last = (block, i) == ("block8", row.n - 1)
                scale, act = (1.0, None) if last else (row.scale, "relu")
                x = residual(x, row.branches, scale, act, name=f"{block}_{i}")
        else:
            x = mixed(x, row, slim_conv, name=block)
        if block == "block17":
            side = x
    x = slim_conv(x, 1536, name="head")
    outputs = [classifier(x, classes, dropout=0.2)]
    if aux:
        outputs.append(auxiliary(side, classes))
    return keras.Model(inputs, outputs if aux else outputs[0], name=name)


STEM = ("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a")
REPEATS = {"block35": "repeat", "block17": "repeat_1", "block8": "repeat_2"}


def timm(layer: str) -> str:
    """timm's module path of one of our layers; it has no auxiliary classifier."""
    conv, is_norm = split(layer)
    part = "bn" if is_norm else "conv"
    kind, place, rest = (*conv.split("_", 2), "", "")[:3]
    if kind in ("head", "stem"):
        return f"{'conv2d_7b' if kind == 'head' else STEM[int(place)]}.{part}"
    row = BLOCKS.get(f"mixed_{place}" if kind == "mixed" else kind)
    if row is None:
        return "classif" if kind == "logits" else f"none.{layer}"
    if not isinstance(row, Residual):
        return f"mixed_{place}.{timm_branch(row, rest)}.{part}"
    last = (kind, place) == ("block8", str(row.n - 1))  # timm keeps it apart
    path = "block8" if last else f"{REPEATS[kind]}.{place}"
    return f"{path}.conv2d" if rest == "project" else f"{path}.{timm_branch(row.branches, rest)}.{part}"


SPECS = (
    ModelSpec(
        name="inception_resnet_v2",
        family="inception_resnet_v2",
        build=partial(inception_resnet_v2, name="inception_resnet_v2"),
        image_px=299,
        min_px=75,
        params=Params(55_813_192, 60_544),
        macs=13_155_794_016,
        top1=80.1,
        source="arXiv:1602.07261, section 3; TF-slim nets/inception_resnet_v2.py; accuracy: Table 2",
        aux_weight=0.4,
        keras=KerasWeights("InceptionResNetV2", HALVES),
        torch=(TorchWeights("timm", "inception_resnet_v2", timm, HALVES, epsilon=1e-3),),
    ),
)
