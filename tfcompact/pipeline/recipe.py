"""What is to be run: recipes, which are stages with options, and any module's `Config` from options by name."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfcompact import stages
from tfcompact.errors import UnknownName, UserError
from tfcompact.export import gate
from tfcompact.measure import host

RECIPES = Path(__file__).parent / "recipes"
AFTER = ("export", "measure")
"""What follows the stages of every recipe; their options go by these names."""


class Step(NamedTuple):
    """A stage of a recipe with its options. `id` tells it from other steps of the same stage."""

    id: str
    stage: str
    options: Mapping[str, Any]


def load_recipe(name: str) -> list[Step]:
    """The steps of a recipe: one of tfcompact's by its name, or any `.toml` file.

    A step without an `id` is called by its stage, a second one of that stage `fit2`. Raises `UnknownName` for a
    recipe, stage or key that there is none of, and `UserError` for a malformed file.
    """
    known = sorted(path.stem for path in RECIPES.glob("*.toml"))
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        raise UnknownName("recipe", name, known)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{name} is not a recipe: {error}") from None
    for key in content:
        if key != "stage":
            raise UnknownName(f"key of {name}", key, ("stage",))
    rows = content.get("stage", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{name} is not a recipe: its stages are tables, each under [[stage]]")
    if not rows:
        raise UserError(f"{name} has no stage; give it one: [[stage]]")
    steps: list[Step] = []
    for number, row in enumerate(rows, 1):
        steps.append(_step(row, f"step {number} of {name}", name, [step.id for step in steps]))
    return steps


def _step(row: Mapping[str, Any], place: str, recipe: str, taken: Sequence[str]) -> Step:
    for key in row:
        if key not in ("name", "id", "config"):
            raise UnknownName(f"key of a step of {recipe}", key, ("name", "id", "config"))
    stage = row.get("name")
    if not isinstance(stage, str):
        raise UserError(f'{place} has no name; give it one: name = "{stages.names()[0]}"')
    stages.stage(stage)  # an unknown name is told before its options are read
    options = row.get("config", {})
    if not isinstance(options, dict):
        raise UserError(f"config of {place} must be a table, not {options!r}")
    free = (stage if n == 1 else f"{stage}{n}" for n in itertools.count(1))
    id = row.get("id") or next(each for each in free if each not in taken)
    if not isinstance(id, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", id):
        raise UserError(f"id of {place} must be letters, digits, - and _, not {id!r}")
    if id in AFTER:
        raise UserError(f"no step can be called {id!r}, which comes after all of them; give {place} another id")
    if id in taken:
        raise UserError(f"two steps of {recipe} are called {id!r}; give one of them another id")
    return Step(id, stage, options)


def configured_steps(recipe: str, overrides: Mapping[str, Mapping[str, Any]]) -> list[tuple[Step, Any]]:
    """The steps of a recipe with their configs, then `export` and `measure` with theirs.

    `overrides` are options by the steps' ids. Raises what `load_recipe` and `configured` do, and `UnknownName` for an
    override of no step.
    """
    steps = [*load_recipe(recipe), *(Step(name, name, {}) for name in AFTER)]
    for id in overrides:
        if id not in [step.id for step in steps]:
            raise UnknownName(f"step of recipe {recipe}", id, [step.id for step in steps])
    return [
        (step, configured(step.stage, merged(step.options, overrides.get(step.id, {})), step.id)) for step in steps
    ]


def merged(options: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with `overrides` in place; tables inside are merged too."""
    found = dict(options)
    for name, value in overrides.items():
        before = found.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = merged(before, value)
        found[name] = value
    return found


def configured(name: str, options: Mapping[str, Any], id: str | None = None) -> Any:
    """The `Config` of a stage, `export` or `measure`, with `options` set; `{"augment": {"flip": False}}` goes inside.

    `id` is what errors call it, unless by its name. Raises `UnknownName` for an option it does not have, and
    `UserError` for a value of another type.
    """
    others: dict[str, type[Any]] = {"export": gate.Config, "measure": host.Config}
    config = others.get(name) or stages.stage(name).config
    return _filled(config, id or name, options)


def _filled(config: Any, name: str, options: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(config)
    values = {}
    for option, value in options.items():
        if option not in hints:
            raise UnknownName(f"option of {name}", option, hints)
        kind = hints[option]
        if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            value = _filled(kind, f"{name}.{option}", value)
        elif isinstance(value, list):
            value = tuple(value)
        elif isinstance(value, int) and not isinstance(value, bool) and kind is float:
            value = float(value)
        if not _fits(value, kind):
            raise UserError(f"{name}.{option} must be {getattr(kind, '__name__', kind)}, not {value!r}")
        values[option] = value
    return config(**values)


def _fits(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return any(_fits(value, k) for k in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(v, typing.get_args(kind)[0]) for v in value)
    return isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
