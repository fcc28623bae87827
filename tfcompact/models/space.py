"""A search space of networks of inverted residuals: rows with choices. An architecture is plain data.

A space is a TOML file, say

    px = [64, 96]
    width = [0.5, 1.0]
    classes = 10
    stem = 16
    head = 960

    [[rows]]
    out = 24
    stride = 2
    repeats = [1, 2, 3]
    expansion = [3, 6]
    kernel = [3, 5]
    squeeze = [false, true]
    act = ["relu", "h_swish"]

whose blocks are those of MobileNetV2 (arXiv:1801.04381, Table 1) with what MnasNet and MobileNetV3 added: larger
kernels, squeeze-and-excite, h-swish (arXiv:1807.11626, Figure 4; arXiv:1905.02244, Figure 4). All repeats of a row
are alike. No TensorFlow is imported before `build`.
"""

from __future__ import annotations

import itertools
import json
import random
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.errors import UserError
from tfcompact.frameworks import Model, Tensor, keras
from tfcompact.models.blocks import classifier, conv, depthwise, round_channels, squeeze_excite
from tfcompact.options import require
from tfcompact.records.record import Record

ACTS = ("relu", "relu6", "h_swish")


@dataclass(frozen=True)
class Row(Record):
    """A chosen row: `repeats` blocks of `out` channels (at width 1), the first with `stride`."""

    out: int
    stride: int
    repeats: int
    expansion: int
    kernel: int
    squeeze: bool
    act: str

    def __post_init__(self) -> None:
        for name in ("out", "repeats", "expansion"):
            require(_whole(getattr(self, name)), name, getattr(self, name), "a whole number of at least 1")
        require(self.stride in (1, 2), "stride", self.stride, "1 or 2")
        require(self.kernel in (3, 5, 7), "kernel", self.kernel, "3, 5 or 7")
        require(isinstance(self.squeeze, bool), "squeeze", self.squeeze, "true or false")
        require(self.act in ACTS, "act", self.act, f"one of {', '.join(ACTS)}")


@dataclass(frozen=True)
class Architecture(Record):
    """One network of a space. It round-trips through JSON (`to_json`, `from_json`)."""

    px: int
    width: float
    classes: int
    stem: int
    head: int
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        for name in ("px", "classes", "stem", "head"):
            require(_whole(getattr(self, name)), name, getattr(self, name), "a whole number of at least 1")
        require(isinstance(self.width, int | float) and self.width > 0, "width", self.width, "a positive number")
        require(len(self.rows) > 0, "rows", self.rows, "one or more")

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        return tuple(Row.from_json(row) for row in value) if name == "rows" else super()._decode(name, value)


@dataclass(frozen=True)
class Choices(Record):
    """A row of a space: a tuple for everything that may be chosen."""

    out: int
    stride: int
    repeats: tuple[int, ...] = (1,)
    expansion: tuple[int, ...] = (6,)
    kernel: tuple[int, ...] = (3,)
    squeeze: tuple[bool, ...] = (False,)
    act: tuple[str, ...] = ("relu6",)

    def __post_init__(self) -> None:
        for name in ("repeats", "expansion", "kernel", "squeeze", "act"):
            value = getattr(self, name)
            require(isinstance(value, tuple) and len(value) > 0, name, value, "a list of one or more")
        self.blocks()  # tells a value that is not allowed

    def blocks(self) -> list[Row]:
        """Every kind of block, repeated as often as it may be."""
        kinds = itertools.product(self.expansion, self.kernel, self.squeeze, self.act)
        return [Row(self.out, self.stride, most, *kind) for most in (max(self.repeats),) for kind in kinds]


@dataclass(frozen=True)
class Space(Record):
    """Every architecture that is one choice of each. `size` counts them."""

    px: tuple[int, ...]
    classes: int
    stem: int
    head: int
    rows: tuple[Choices, ...]
    width: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name in ("px", "width", "rows"):
            value = getattr(self, name)
            require(isinstance(value, tuple) and len(value) > 0, name, value, "a list of one or more")
        self.covering()  # tells a value that is not allowed

    @property
    def size(self) -> int:
        """The number of architectures."""
        total = len(self.px) * len(self.width)
        for row in self.rows:
            total *= len(row.blocks()) * len(row.repeats)
        return total

    def sample(self, rng: random.Random) -> Architecture:
        """One architecture, each choice drawn by itself."""
        rows = (
            Row(
                row.out,
                row.stride,
                rng.choice(row.repeats),
                rng.choice(row.expansion),
                rng.choice(row.kernel),
                rng.choice(row.squeeze),
                rng.choice(row.act),
            )
            for row in self.rows
        )
        return self._made(rng.choice(self.px), rng.choice(self.width), tuple(rows))

    def covering(self) -> list[Architecture]:
        """Few architectures that have every layer of every architecture of the space.

        A block's layers depend on its own choices, on size and width, and on the channels before it, which are not
        chosen: so for each size and width as many networks do as the row with most kinds of blocks has, each as deep
        as may be.
        """
        blocks = [row.blocks() for row in self.rows]
        return [
            self._made(px, width, tuple(kinds[i % len(kinds)] for kinds in blocks))
            for px in self.px
            for width in self.width
            for i in range(max(map(len, blocks)))
        ]

    def _made(self, px: int, width: float, rows: tuple[Row, ...]) -> Architecture:
        """The architecture of these choices."""
        return Architecture(px, width, self.classes, self.stem, self.head, rows)

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        return tuple(Choices.from_json(row) for row in value) if name == "rows" else super()._decode(name, value)

    @classmethod
    def load(cls, path: Path) -> Space:
        """The space that a TOML or JSON file describes. Raises `UserError` that names file and key."""
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
            return cls.from_json(content)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); give the file of a space") from None
        except ValueError as error:
            raise UserError(f"{path} cannot be read as {path.suffix.removeprefix('.') or 'TOML'} ({error})") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def build(architecture: Architecture, name: str = "candidate") -> Model:
    """A new Keras model with random weights: `[n, px, px, 3]` normalized float32 -> logits `[n, classes]`."""

    def scaled(channels: int) -> int:
        return round_channels(channels * architecture.width)

    def block(x: Tensor, row: Row, stride: int, out: int, name: str) -> Tensor:
        k = x.shape[-1]
        y = conv(x, k * row.expansion, act=row.act, name=f"{name}_expand") if row.expansion > 1 else x
        y = depthwise(y, row.kernel, stride, act=row.act, name=f"{name}_depthwise")
        if row.squeeze:
            y = squeeze_excite(y, round_channels(y.shape[-1] / 4), gate="h_sigmoid", name=f"{name}_se")
        y = conv(y, out, act=None, name=f"{name}_project")
        return keras.layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and k == out else y

    inputs = keras.layers.Input((architecture.px, architecture.px, 3), name="image")
    x = conv(inputs, scaled(architecture.stem), 3, 2, name="stem")
    for i, row in enumerate(architecture.rows):
        for j in range(row.repeats):
            x = block(x, row, row.stride if j == 0 else 1, scaled(row.out), f"block{i}_{j}")
    x = conv(x, scaled(architecture.head), name="head")
    return keras.Model(inputs, classifier(x, architecture.classes, dropout=0.2), name=name)


def _whole(value: object) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
