"""A network of inverted residuals as data: rows of blocks, between a stem and a head.

The blocks are those of MobileNetV2 (arXiv:1801.04381, Table 1) with what MnasNet and MobileNetV3 added: plain
convolutions, larger kernels, squeeze-and-excite, h-swish, other ways past a block (arXiv:1807.11626, Figure 4;
arXiv:1905.02244, Figure 4). MnasNet-A1 and B1, MobileNetV2 and V3 are such networks. No TensorFlow is imported before
`build`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import (
    activation,
    biased,
    classifier,
    conv,
    depthwise,
    logits,
    round_channels,
    squeeze_excite,
)
from tfcompact.options import require
from tfcompact.records.record import Record

ACTS = ("relu", "relu6", "h_swish")
OPS = ("mbconv", "conv")
SKIPS = ("identity", "none", "pool")
SQUEEZES = (False, True, "input")


@dataclass(frozen=True)
class Row(Record):
    """A chosen row: `repeats` blocks of `out` channels (at width 1), the first with `stride`.

    `op` is an inverted residual or one convolution with `kernel`. `squeeze` is True for a gate squeezed to a quarter
    of the expanded channels with an h-sigmoid (MobileNetV3), `input` for a quarter of the block's input with a
    sigmoid (MnasNet). `skip` is what joins input and output where they are of one size: the input itself, nothing, or
    the input's average over 3x3 positions, which halves it where the block does.
    """

    out: int
    stride: int
    repeats: int
    expansion: float
    kernel: int
    squeeze: bool | str
    act: str
    op: str = "mbconv"
    skip: str = "identity"

    def __post_init__(self) -> None:
        for name in ("out", "repeats"):
            require(is_whole(getattr(self, name)), name, getattr(self, name), "a whole number of at least 1")
        number = isinstance(self.expansion, int | float) and not isinstance(self.expansion, bool)
        require(number and self.expansion >= 1, "expansion", self.expansion, "a number of at least 1")
        require(self.stride in (1, 2), "stride", self.stride, "1 or 2")
        require(self.kernel in (3, 5, 7), "kernel", self.kernel, "3, 5 or 7")
        known = any(self.squeeze is one or self.squeeze == one == "input" for one in SQUEEZES)
        require(known, "squeeze", self.squeeze, "true, false or input")
        for name, choices in (("act", ACTS), ("op", OPS), ("skip", SKIPS)):
            require(getattr(self, name) in choices, name, getattr(self, name), f"one of {', '.join(choices)}")


@dataclass(frozen=True)
class Architecture(Record):
    """One network. It round-trips through JSON (`to_json`, `from_json`), where what is usual is left out.

    `outer_act` is the nonlinearity of stem, head, and of the layer of `features` channels behind the pooling, which
    is not there with 0. `width` scales all channels but `features`.
    """

    px: int
    width: float
    classes: int
    stem: int
    head: int
    rows: tuple[Row, ...]
    outer_act: str = "relu6"
    features: int = 0

    def __post_init__(self) -> None:
        for name in ("px", "classes", "stem", "head"):
            require(is_whole(getattr(self, name)), name, getattr(self, name), "a whole number of at least 1")
        require(isinstance(self.width, int | float) and self.width > 0, "width", self.width, "a positive number")
        require(len(self.rows) > 0, "rows", self.rows, "one or more")
        require(self.outer_act in ACTS, "outer_act", self.outer_act, f"one of {', '.join(ACTS)}")
        features = self.features == 0 or is_whole(self.features)
        require(features and not isinstance(self.features, bool), "features", self.features, "a whole number")

    def to_json(self) -> dict[str, Any]:
        """The architecture as plain dicts: a network has one name, whatever else a row may hold by now."""
        found = _without_defaults(self, super().to_json())
        found["rows"] = [_without_defaults(row, row.to_json()) for row in self.rows]
        return found

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        return tuple(Row.from_json(row) for row in value) if name == "rows" else super()._decode(name, value)


def _without_defaults(record: Any, content: dict[str, Any]) -> dict[str, Any]:
    usual = {field.name: field.default for field in dataclasses.fields(record)}
    return {name: value for name, value in content.items() if usual[name] != value}


def build(architecture: Architecture, name: str = "candidate") -> Model:
    """A new Keras model with random weights: `[n, px, px, 3]` normalized float32 -> logits `[n, classes]`."""

    def scaled(channels: int) -> int:
        return round_channels(channels * architecture.width)

    act = architecture.outer_act
    inputs = keras.layers.Input((architecture.px, architecture.px, 3), name="image")
    x = conv(inputs, scaled(architecture.stem), 3, 2, act=act, name="stem")
    for i, row in enumerate(architecture.rows):
        for j in range(row.repeats):
            x = _block(x, row, row.stride if j == 0 else 1, scaled(row.out), name=f"block{i}_{j}")
    x = conv(x, scaled(architecture.head), act=act, name="head")
    if not architecture.features:
        return keras.Model(inputs, classifier(x, architecture.classes, dropout=0.2), name=name)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = activation(biased(x, architecture.features, name="last"), act, "last")
    return keras.Model(inputs, logits(x, architecture.classes, dropout=0.2), name=name)


def _block(x: Tensor, row: Row, stride: int, out: int, *, name: str) -> Tensor:
    """One block: `[n, h, w, k] -> [n, h/stride, w/stride, out]`."""
    k = x.shape[-1]
    if row.op == "conv":
        y = conv(x, out, row.kernel, stride, act=row.act, name=f"{name}_conv")
        y = _gated(y, row, k, name=name)
    else:
        y = conv(x, round_channels(k * row.expansion), act=row.act, name=f"{name}_expand") if row.expansion > 1 else x
        y = depthwise(y, row.kernel, stride, act=row.act, name=f"{name}_depthwise")
        y = _gated(y, row, k, name=name)
        y = conv(y, out, act=None, name=f"{name}_project")
    if k != out or row.skip == "none" or (stride > 1 and row.skip == "identity"):
        return y
    if row.skip == "pool":
        x = keras.layers.AveragePooling2D(3, stride, "same", name=f"{name}_pool")(x)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def _gated(y: Tensor, row: Row, k: int, *, name: str) -> Tensor:
    """`y` with the row's gate, if it has one; the block's input has `k` channels."""
    if row.squeeze is False:
        return y
    if row.squeeze == "input":
        return squeeze_excite(y, max(1, k // 4), gate="sigmoid", name=f"{name}_se")
    return squeeze_excite(y, round_channels(y.shape[-1] / 4), gate="h_sigmoid", name=f"{name}_se")


def is_whole(value: object) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
