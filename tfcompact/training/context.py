"""The only door of a stage to the world around it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfcompact.errors import UserError
from tfcompact.records.artifact import Normalization

if TYPE_CHECKING:
    from rich.console import Console

    from tfcompact.frameworks import Model


@dataclass(frozen=True, eq=False)
class Loaded:
    """Another finished run's network, a teacher's for example: of any architecture, image size and normalization.

    `model` takes images `[n, px, px, 3]` under `normalization` and gives logits `[n, classes]`.
    """

    run: str
    model: Model
    px: int
    normalization: Normalization
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Kept:
    """A network on the way to a stage's result, with what there is to say of it, under the name of its run."""

    run: str
    model: Model
    notes: dict[str, Any]


def _not_kept(key: Mapping[str, Any], make: Callable[[Context], tuple[Model, dict[str, Any]]]) -> Kept:
    raise UserError("nothing can be kept here: this training has no runs directory")


def _no_width_prices(
    model: Model, falls: Sequence[Mapping[int, int]], probes: Sequence[tuple[Mapping[int, int], Model]]
) -> Callable[[Mapping[int, int]], tuple[float, float]]:
    raise UserError("there is no latency table to price networks with; give one with --table")


def _nothing_to_load(name: str) -> Loaded:
    raise UserError(f"{name} cannot be loaded here: this training has no runs directory")


def no_prices(model: Model) -> float:
    """The price of a network where there is no table: a `UserError`."""
    raise UserError("there is no latency table to price networks with; give one with --table")


@dataclass(frozen=True)
class Context:
    """A stage's only door outward.

    `spec` is what the network was built from, a row of the zoo for example; `data` is the `ImageSet`; `px` and
    `normalization` are what the network sees. `directory` is the run being made: results go there, checkpoints to
    `scratch`. `load(run)` gives another finished run's network, called `fit-3f9a10c2`, or `inception_v3/fit-3f9a10c2`
    where it is of another architecture; `price(model)` what one inference costs, in the unit of the latency table.
    `price_widths(model, falls, probes)` gives that cost, and the share of it that was interpolated, as a function of
    how many classes of channels each group has lost, from a few networks that have lost some. `step` is how many
    output channels cost the same there. `keep(key, make)` gives what `make` gave for this key, whichever process made
    it: a run of its own, which other stages can start from.
    """

    spec: Any
    data: Any
    px: int
    normalization: Normalization
    seed: int
    directory: Path
    console: Console
    load: Callable[[str], Loaded] = _nothing_to_load
    price: Callable[[Model], float] = no_prices
    price_widths: Callable[..., Callable[[Mapping[int, int]], tuple[float, float]]] = _no_width_prices
    step: int = 8
    keep: Callable[[Mapping[str, Any], Callable[[Context], tuple[Model, dict[str, Any]]]], Kept] = _not_kept
    place: tuple[str, ...] = ()  # the names of the parts that this context is of, the outermost first

    @property
    def scratch(self) -> Path:
        """The directory for checkpoints: it outlives a kill, and is removed when the run is finished."""
        root = self.directory
        for _ in self.place:
            root = root.parent.parent
        return root.joinpath("scratch", *self.place)

    def log(self, line: str) -> None:
        """Tells the user one line, after the names of the parts it is of."""
        self.console.print(": ".join([*self.place, line]), highlight=False, markup=False)

    def part(self, name: str, *, seed: int | None = None) -> Context:
        """A context for one of several networks that a stage trains, called `proposal-3` for example.

        It has its own directory, `parts/<name>` of this one, with its own log and checkpoint, so each part is resumed
        by itself. Raises `UserError` for a name that is not fit for a directory.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise UserError(f"a part's name must be letters, digits, dots, - and _, not {name!r}")
        directory = self.directory / "parts" / name
        directory.mkdir(parents=True, exist_ok=True)
        seed = self.seed if seed is None else seed
        return dataclasses.replace(self, directory=directory, seed=seed, place=(*self.place, name))
