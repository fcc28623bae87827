"""A search space of networks of inverted residuals: rows with choices. What is chosen is an `Architecture`.

A space is a TOML file, say

    px = [64, 96]
    width = [0.5, 1.0]
    classes = 10
    stem = 16
    head = 960

    [[rows]]
    out = [16, 24, 32]
    stride = 2
    repeats = [1, 2, 3]
    expansion = [3, 6]
    kernel = [3, 5]
    squeeze = [false, true]
    act = ["relu", "h_swish"]

All repeats of a row are alike. Those of `models/spaces` have names: `mnasnet` (arXiv:1807.11626, Figure 4),
`mobilenet_v3_small` and `mobilenet_v3_large` (around the tables of arXiv:1905.02244). No TensorFlow here.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tfcompact.errors import UnknownName, UserError
from tfcompact.models.architecture import Architecture, Row
from tfcompact.options import require
from tfcompact.records.record import Record

FILES = Path(__file__).with_name("spaces")
KINDS = ("expansion", "kernel", "squeeze", "act", "op", "skip")
"""What may be chosen of a block besides its channels."""
CHOSEN = ("out", "repeats", *KINDS)


class Decision(NamedTuple):
    """One choice of a space that has more than one option, `rows.3.kernel` of 3 and 5 for example."""

    name: str
    options: tuple[Any, ...]


@dataclass(frozen=True)
class Choices(Record):
    """A row of a space: a tuple for everything that may be chosen; `out` may be one number."""

    out: int | tuple[int, ...]
    stride: int
    repeats: tuple[int, ...] = (1,)
    expansion: tuple[float, ...] = (6,)
    kernel: tuple[int, ...] = (3,)
    squeeze: tuple[bool | str, ...] = (False,)
    act: tuple[str, ...] = ("relu6",)
    op: tuple[str, ...] = ("mbconv",)
    skip: tuple[str, ...] = ("identity",)

    def __post_init__(self) -> None:
        for name in CHOSEN[1:] if isinstance(self.out, int) else CHOSEN:
            value = getattr(self, name)
            require(isinstance(value, tuple) and len(value) > 0, name, value, "a list of one or more")
            require(len(set(map(repr, value))) == len(value), name, value, "a list without doubles")
        for out in self.outs:
            self.kinds(out)  # tells a value that is not allowed

    @property
    def outs(self) -> tuple[int, ...]:
        """The numbers of channels that it may write."""
        return self.out if isinstance(self.out, tuple) else (self.out,)

    def options(self, name: str) -> tuple[Any, ...]:
        """What may be chosen of that name."""
        return self.outs if name == "out" else tuple(getattr(self, name))

    def kinds(self, out: int) -> list[Row]:
        """Every kind of block that writes `out` channels, repeated as often as it may be.

        A plain convolution expands nothing: with it the first expansion stands for all.
        """
        found = {
            row: None
            for kind in itertools.product(*(self.options(name) for name in KINDS))
            for row in (self.row(out, max(self.repeats), *kind),)
        }
        return list(found)

    def row(self, out: int, repeats: int, *kind: Any) -> Row:
        """The chosen row; `kind` has a value for each of `KINDS`."""
        chosen = dict(zip(KINDS, kind, strict=True))
        if chosen["op"] == "conv":
            chosen["expansion"] = self.expansion[0]
        return Row(out=out, stride=self.stride, repeats=repeats, **chosen)


@dataclass(frozen=True)
class Space(Record):
    """Every architecture that is one choice of each. `size` counts the choices."""

    px: tuple[int, ...]
    classes: int
    stem: int
    head: int
    rows: tuple[Choices, ...]
    width: tuple[float, ...] = (1.0,)
    outer_act: tuple[str, ...] = ("relu6",)
    features: int = 0

    def __post_init__(self) -> None:
        for name in ("px", "width", "rows", "outer_act"):
            value = getattr(self, name)
            require(isinstance(value, tuple) and len(value) > 0, name, value, "a list of one or more")
        rows = tuple(row.kinds(row.outs[0])[0] for row in self.rows)
        for px, width, act in itertools.product(self.px, self.width, self.outer_act):
            self._made(px, width, act, rows)  # tells a value that is not allowed

    def at(self, px: int | None, classes: int | None) -> Space:
        """The same space for images of `px` px and that many classes, where they are given."""
        return dataclasses.replace(
            self, px=self.px if px is None else (px,), classes=self.classes if classes is None else classes
        )

    def drawn(self, count: int) -> list[Architecture]:
        """So many members, no two alike where there are as many: most forms of layers of a large space are in few."""
        rng = random.Random(0)
        found: dict[Architecture, None] = {}
        for _ in range(20 * count):
            if len(found) < count:
                found[self.sample(rng)] = None
        return list(found)

    @property
    def size(self) -> int:
        """The number of choices; those that differ in the expansion of a plain convolution are one architecture."""
        return math.prod(len(options) for _, options in self._all())

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What there is to choose, in order, without what has one option."""
        return tuple(Decision(name, options) for name, options in self._all() if len(options) > 1)

    def _all(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        for name in ("px", "width", "outer_act"):
            yield name, tuple(getattr(self, name))
        for i, row in enumerate(self.rows):
            for name in CHOSEN:
                yield f"rows.{i}.{name}", row.options(name)

    def architecture(self, choices: Sequence[int]) -> Architecture:
        """The architecture of these options, a place among the options of each of `decisions`.

        Raises `UserError` where there is no such option.
        """
        decisions = self.decisions
        require(len(choices) == len(decisions), "choices", list(choices), f"{len(decisions)} numbers")
        chosen = {name: options[0] for name, options in self._all()}
        for choice, (name, options) in zip(choices, decisions, strict=True):
            require(0 <= choice < len(options), name, choice, f"a number from 0 to {len(options) - 1}")
            chosen[name] = options[choice]
        rows = tuple(row.row(*(chosen[f"rows.{i}.{name}"] for name in CHOSEN)) for i, row in enumerate(self.rows))
        return self._made(chosen["px"], chosen["width"], chosen["outer_act"], rows)

    def choices(self, architecture: Architecture) -> tuple[int, ...]:
        """The options that give the architecture: for each of `decisions` a place among its options.

        Raises `UserError` that says what of it the space does not have.
        """
        fixed = (self.classes, self.stem, self.head, self.features, len(self.rows))
        names = ("classes", "stem", "head", "features", "rows")
        its = (*(getattr(architecture, name) for name in names[:-1]), len(architecture.rows))
        for name, mine, own in zip(names, fixed, its, strict=True):
            require(mine == own, name, own, f"{mine}, as the space has it")
        has = {name: getattr(architecture, name) for name in ("px", "width", "outer_act")}
        for i, (row, own_row) in enumerate(zip(self.rows, architecture.rows, strict=True)):
            require(row.stride == own_row.stride, f"rows.{i}.stride", own_row.stride, f"{row.stride}")
            has |= {f"rows.{i}.{name}": getattr(own_row, name) for name in CHOSEN}
        places = {}
        for name, options in self._all():
            known = [repr(option) if isinstance(option, bool) else option for option in options]
            value = repr(has[name]) if isinstance(has[name], bool) else has[name]
            require(value in known, name, has[name], f"one of {', '.join(map(str, options))}")
            places[name] = known.index(value)
        return tuple(places[name] for name, _ in self.decisions)

    def sample(self, rng: random.Random) -> Architecture:
        """One architecture, each choice drawn by itself."""
        rows = []
        for row in self.rows:
            first = [rng.choice(getattr(row, name)) for name in ("repeats", "expansion", "kernel", "squeeze", "act")]
            out, op, skip = (_drawn(rng, row.options(name)) for name in ("out", "op", "skip"))
            rows.append(row.row(out, *first, op, skip))
        px, width = rng.choice(self.px), rng.choice(self.width)
        return self._made(px, width, _drawn(rng, self.outer_act), tuple(rows))

    def covering(self) -> list[Architecture]:
        """Few architectures that have every layer of every architecture of the space.

        A block's layers depend on its own choices, on size and width, and on the channels before it: so every pair of
        channels read and written occurs with every kind of block, in networks that are as deep as may be. Each of
        them takes the way through the rows on which most of what is missing lies.
        """
        missing: list[dict[tuple[int, int], list[Row]]] = []
        before: tuple[int, ...] = (self.stem,)
        for row in self.rows:
            missing.append({(k, out): row.kinds(out) for k in before for out in row.outs})
            before = row.outs
        ways = []
        while any(kinds for pairs in missing for kinds in pairs.values()):
            outs = self._way(missing)
            chosen = []
            for row, pairs, pair in zip(self.rows, missing, itertools.pairwise((self.stem, *outs)), strict=True):
                chosen.append(pairs[pair].pop(0) if pairs[pair] else row.kinds(pair[1])[0])
            ways.append(tuple(chosen))
        return [
            self._made(px, width, act, rows)
            for px in self.px
            for width in self.width
            for act in self.outer_act
            for rows in ways
        ]

    def _way(self, missing: Sequence[dict[tuple[int, int], list[Row]]]) -> tuple[int, ...]:
        """The channels after each row on the way with most pairs of which a kind of block is missing."""
        best: dict[int, tuple[int, tuple[int, ...]]] = {self.stem: (0, ())}
        for row, pairs in zip(self.rows, missing, strict=True):
            best = {
                out: max(
                    ((count + bool(pairs[k, out]), (*way, out)) for k, (count, way) in best.items()),
                    key=lambda found: found[0],
                )
                for out in row.outs
            }
        return max(best.values(), key=lambda found: found[0])[1]

    def _made(self, px: int, width: float, act: str, rows: tuple[Row, ...]) -> Architecture:
        """The architecture of these choices."""
        return Architecture(px, width, self.classes, self.stem, self.head, rows, act, self.features)

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        return tuple(Choices.from_json(row) for row in value) if name == "rows" else super()._decode(name, value)

    @classmethod
    def named(cls, name: str) -> Space:
        """The space of that name, or of the TOML or JSON file. Raises `UserError` where there is none."""
        if name.endswith((".toml", ".json")):
            return cls.load(Path(name))
        known = sorted(path.stem for path in FILES.glob("*.toml"))
        if name not in known:
            raise UnknownName("search space", name, known)
        return cls.load(FILES / f"{name}.toml")

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


def _drawn(rng: random.Random, options: Sequence[Any]) -> Any:
    """One of the options, without a drawing where there is one."""
    return rng.choice(options) if len(options) > 1 else options[0]
