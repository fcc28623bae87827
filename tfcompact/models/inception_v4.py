"""Inception V4: V3's blocks made uniform, and a stem that already has branches.

Paper: Szegedy et al. 2016, arXiv:1602.07261, Figures 3 to 9. Batch normalization without gamma and block names are
those of TF-slim nets/inception_v4.py, as is the auxiliary classifier on the last 17x17 block, whose loss counts 0.4.
"""

from __future__ import annotations

from functools import partial

from tfcompact.frameworks import Model, keras
from tfcompact.models.blocks import classifier
from tfcompact.models.branches import AVERAGE, SHRINK, Branch, C, Fork, V, auxiliary, mixed, slim_conv, timm_branch
from tfcompact.models.spec import HALVES, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import split

_GRID35: tuple[Branch, ...] = (  # Figure 4
    (C(96),),
    (C(64), C(96, (3, 3))),
    (C(64), C(96, (3, 3)), C(96, (3, 3))),
    (AVERAGE, C(96)),
)
_GRID17: tuple[Branch, ...] = (  # Figure 5
    (C(384),),
    (C(192), C(224, (1, 7)), C(256, (7, 1))),
    (C(192), C(192, (7, 1)), C(224, (1, 7)), C(224, (7, 1)), C(256, (1, 7))),
    (AVERAGE, C(128)),
)
_GRID8: tuple[Branch, ...] = (  # Figure 6
    (C(256),),
    (C(384), Fork(C(256, (1, 3)), C(256, (3, 1)))),
    (C(384), C(448, (3, 1)), C(512, (1, 3)), Fork(C(256, (1, 3)), C(256, (3, 1)))),
    (AVERAGE, C(256)),
)

BLOCKS: dict[str, tuple[Branch, ...]] = {  # output at 299 px
    "mixed_3a": ((SHRINK,), (C(96, (3, 3), 2, V),)),  # 73 x 73 x 160
    "mixed_4a": (
        (C(64), C(96, (3, 3), 1, V)),
        (C(64), C(64, (1, 7)), C(64, (7, 1)), C(96, (3, 3), 1, V)),
    ),  # 71 x 71 x 192
    "mixed_5a": ((C(192, (3, 3), 2, V),), (SHRINK,)),  # 35 x 35 x 384
    **{f"mixed_5{i}": _GRID35 for i in "bcde"},
    "mixed_6a": (  # Figure 7
        (C(384, (3, 3), 2, V),),
        (C(192), C(224, (3, 3)), C(256, (3, 3), 2, V)),
        (SHRINK,),
    ),  # 17 x 17 x 1024
    **{f"mixed_6{i}": _GRID17 for i in "bcdefgh"},
    "mixed_7a": (  # Figure 8
        (C(192), C(192, (3, 3), 2, V)),
        (C(256), C(256, (1, 7)), C(320, (7, 1)), C(320, (3, 3), 2, V)),
        (SHRINK,),
    ),  # 8 x 8 x 1536
    **{f"mixed_7{i}": _GRID8 for i in "bcd"},
}


def inception_v4(shape: tuple[int, int, int], classes: int, *, name: str, aux: bool = False) -> Model:
    """Builds the network; with `aux` its second output is the auxiliary classifier's logits `[n, classes]`."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = slim_conv(inputs, 32, 3, 2, padding=V, name="stem_0")  # 149 x 149
    x = slim_conv(x, 32, 3, padding=V, name="stem_1")
    x = slim_conv(x, 64, 3, name="stem_2")  # 147 x 147
    side = x
    for block, branches in BLOCKS.items():
        x = mixed(x, branches, slim_conv, name=block)
        if block == "mixed_6h":
            side = x
    outputs = [classifier(x, classes, dropout=0.2)]
    if aux:
        outputs.append(auxiliary(side, classes))
    return keras.Model(inputs, outputs if aux else outputs[0], name=name)


def timm(layer: str) -> str:
    """timm's module path of one of our layers; it has no auxiliary classifier."""
    conv, is_norm = split(layer)
    kind, *place = conv.split("_", 2)
    part = "bn" if is_norm else "conv"
    if kind == "stem":
        return f"features.{place[0]}.{part}"
    if kind != "mixed":
        return "last_linear" if kind == "logits" else f"none.{layer}"
    block = f"mixed_{place[0]}"
    inside = "conv" if block in ("mixed_3a", "mixed_5a") else timm_branch(BLOCKS[block], place[1])
    return f"features.{3 + list(BLOCKS).index(block)}.{inside}.{part}"


SPECS = (
    ModelSpec(
        name="inception_v4",
        family="inception_v4",
        build=partial(inception_v4, name="inception_v4"),
        image_px=299,
        min_px=75,
        params=Params(42_648_232, 63_168),
        macs=12_253_974_624,
        top1=80.0,
        source="arXiv:1602.07261, Figures 3 to 9; accuracy: Table 2",
        aux_weight=0.4,
        torch=(TorchWeights("timm", "inception_v4", timm, HALVES, epsilon=1e-3),),
    ),
)
