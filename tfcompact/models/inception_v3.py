"""Inception V3: factorised and asymmetric convolutions in parallel branches.

Paper: Szegedy et al. 2015, arXiv:1512.00567. The released network (TF-slim nets/inception_v3.py, keras.applications)
is followed: batch normalization without gamma, ReLU, an auxiliary classifier on the last 17x17 block whose loss
counts 0.4. Blocks carry TF-slim's names.
"""

from __future__ import annotations

from functools import partial

from tfcompact.frameworks import Model, keras
from tfcompact.models.blocks import classifier
from tfcompact.models.branches import AVERAGE, SHRINK, Branch, C, Fork, V, auxiliary, mixed, slim_conv, stem
from tfcompact.models.spec import HALVES, KerasWeights, ModelSpec, Params, TorchWeights
from tfcompact.models.torch_names import split


def _grid35(pooled: int) -> tuple[Branch, ...]:
    """Figure 5, with one 5x5 convolution left whole as released."""
    return (
        (C(64),),
        (C(48), C(64, (5, 5))),
        (C(64), C(96, (3, 3)), C(96, (3, 3))),
        (AVERAGE, C(pooled)),
    )


def _grid17(c: int) -> tuple[Branch, ...]:
    """Figure 6: 7x7 convolutions as 1x7 and 7x1."""
    return (
        (C(192),),
        (C(c), C(c, (1, 7)), C(192, (7, 1))),
        (C(c), C(c, (7, 1)), C(c, (1, 7)), C(c, (7, 1)), C(192, (1, 7))),
        (AVERAGE, C(192)),
    )


_GRID8: tuple[Branch, ...] = (  # Figure 7
    (C(320),),
    (C(384), Fork(C(384, (1, 3)), C(384, (3, 1)))),
    (C(448), C(384, (3, 3)), Fork(C(384, (1, 3)), C(384, (3, 1)))),
    (AVERAGE, C(192)),
)

BLOCKS: dict[str, tuple[Branch, ...]] = {  # output at 299 px
    "mixed_5b": _grid35(32),  # 35 x 35 x 256
    "mixed_5c": _grid35(64),  # 35 x 35 x 288
    "mixed_5d": _grid35(64),
    "mixed_6a": (
        (C(384, (3, 3), 2, V),),
        (C(64), C(96, (3, 3)), C(96, (3, 3), 2, V)),
        (SHRINK,),
    ),  # 17 x 17 x 768
    "mixed_6b": _grid17(128),
    "mixed_6c": _grid17(160),
    "mixed_6d": _grid17(160),
    "mixed_6e": _grid17(192),
    "mixed_7a": (
        (C(192), C(320, (3, 3), 2, V)),
        (C(192), C(192, (1, 7)), C(192, (7, 1)), C(192, (3, 3), 2, V)),
        (SHRINK,),
    ),  # 8 x 8 x 1280
    "mixed_7b": _GRID8,  # 8 x 8 x 2048
    "mixed_7c": _GRID8,
}


def inception_v3(shape: tuple[int, int, int], classes: int, *, name: str, aux: bool = False) -> Model:
    """Builds the network; with `aux` its second output is the auxiliary classifier's logits `[n, classes]`."""
    inputs = keras.layers.Input(shape, name="image")  # [n, h, w, 3], normalized
    x = stem(inputs)  # 35 x 35 x 192
    side = x
    for block, branches in BLOCKS.items():
        x = mixed(x, branches, slim_conv, name=block)
        if block == "mixed_6e":
            side = x
    outputs = [classifier(x, classes, dropout=0.2)]
    if aux:
        outputs.append(auxiliary(side, classes))
    return keras.Model(inputs, outputs if aux else outputs[0], name=name)


STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
BRANCHES = {  # of each kind of block, by the first letters of its name; those that end in _ count their steps
    "mixed_5": ("branch1x1", "branch5x5_", "branch3x3dbl_", "branch_pool"),
    "mixed_6a": ("branch3x3", "branch3x3dbl_"),
    "mixed_6": ("branch1x1", "branch7x7_", "branch7x7dbl_", "branch_pool"),
    "mixed_7a": ("branch3x3_", "branch7x7x3_"),
    "mixed_7": ("branch1x1", "branch3x3_", "branch3x3dbl_", "branch_pool"),
}


def torch_module(layer: str) -> str:
    """torchvision's and timm's module path of one of our layers."""
    conv, is_norm = split(layer)
    outside = {"logits": "fc", "aux_logits": "AuxLogits.fc"}
    if conv in outside:
        return outside[conv]
    kind, place, *rest = conv.split("_")
    if kind == "mixed":
        branch, step, *side = rest
        path = next(branches for start, branches in BRANCHES.items() if conv.startswith(start))[int(branch)]
        module = f"Mixed_{place}.{path}" + (f"{int(step) + 1}{''.join(side)}" if path.endswith("_") else "")
    else:
        module = STEM[int(place)] if kind == "stem" else f"AuxLogits.conv{place}"
    return f"{module}.{'bn' if is_norm else 'conv'}"


# Both libraries count the padding into averages. torchvision's file and timm's, but for `gluon_in1k`, want pixels in
# [-1, 1]: torchvision undoes its usual normalization inside the network.
TORCH = partial(
    TorchWeights, model="inception_v3", module=torch_module, normalization=HALVES, epsilon=1e-3, counts_padding=True
)

SPECS = (
    ModelSpec(
        name="inception_v3",
        family="inception_v3",
        build=partial(inception_v3, name="inception_v3"),
        image_px=299,
        min_px=75,
        params=Params(23_817_352, 34_432),
        macs=5_713_216_096,
        top1=78.8,
        source="arXiv:1512.00567, Tables 1 and 3; TF-slim nets/inception_v3.py",
        aux_weight=0.4,
        keras=KerasWeights("InceptionV3", HALVES),
        torch=(TORCH("torchvision"), TORCH("timm")),
    ),
)
