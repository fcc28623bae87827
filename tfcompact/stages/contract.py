"""What a stage is. The pipeline, the command line, recipes, reports and the app know stages by this and nothing else.

A stage is one file in `tfcompact/stages/`, which defines `STAGE`, and one line of `stages.STAGES`. Its command, its
options, its help and its make target follow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from tfcompact.records.network import Kind

if TYPE_CHECKING:
    from tfcompact.frameworks import Model
    from tfcompact.records.artifact import Normalization
    from tfcompact.training.context import Context

C = TypeVar("C")
Notes = dict[str, Any]
"""What a stage says of its result, as JSON: it becomes the run's `notes.json`."""


class Entry(NamedTuple):
    """One line of the table of stages. `module` defines `STAGE`; it is imported when the stage is asked for."""

    name: str
    help: str  # what `tfcompact --help` says of it: one sentence in the imperative, without a full stop
    module: str


def _as_it_comes(normalization: Normalization) -> Normalization:
    return normalization


def _no_weights(config: object) -> str | None:
    return None


def _no_prices(config: object) -> bool:
    return False


def _no_runs(config: object) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Stage(Generic[C]):
    """What a stage does with a network, and what the pipeline must know of it.

    `run(model, config, context)` gives a new model and notes, and never changes the model it is given; its only way
    outward is the context. `config` is its frozen dataclass of options. `version` counts changes of the algorithm
    that change results: it is part of a run's identity, so that new code never hands out an old run as its own.

    `takes` are the kinds of network that it starts from: by default the newest run that gives one and that this stage
    did not make itself. With `starts_new` it starts from a freshly built network unless a parent is named, and
    `weights(config)` says which published weights that one gets, if any. `gives` is the kind of its result.
    `normalization` turns what the parent saw of a pixel into what the result sees. `loads(config)` are other finished
    runs that it will ask `context.load` for, a teacher's for example; `prices(config)` says whether it will ask
    `context.price`. `summary(config)` is one line for the model card.
    """

    config: type[C]
    run: Callable[[Model, C, Context], tuple[Model, Notes]]
    version: int
    takes: tuple[Kind, ...]
    gives: Kind
    starts_new: bool = False
    prices: Callable[[C], bool] = _no_prices
    normalization: Callable[[Normalization], Normalization] = _as_it_comes
    weights: Callable[[C], str | None] = _no_weights
    loads: Callable[[C], tuple[str, ...]] = _no_runs
    summary: Callable[[C], str] = lambda config: changed_options(config)


def changed_options(config: Any) -> str:
    """The options of a config that differ from their defaults, `epochs 3, batch 64`; `defaults` where none does."""
    plain = type(config)()
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    changed = [f"{name} {_text(value)}" for name, value in values.items() if value != getattr(plain, name)]
    return ", ".join(changed) or "defaults"


def _text(value: object) -> str:
    if dataclasses.is_dataclass(value):
        return f"({changed_options(value)})"
    if isinstance(value, Mapping | tuple | list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
