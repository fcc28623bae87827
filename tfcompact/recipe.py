"""What is to be run: recipes, which are stages with options, and any module's `Config` from options by name."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcompact import export
from tfcompact.errors import UnknownName, UserError
from tfcompact.measure import host
from tfcompact.stages import STAGES, stage

RECIPES = Path(__file__).parent / "recipes"


def load_recipe(name: str) -> list[tuple[str, dict[str, Any]]]:
    """The stages of a recipe with their options. Raises `UnknownName`, and `UserError` for a malformed file."""
    known = sorted(path.stem for path in RECIPES.glob("*.toml"))
    if name not in known:
        raise UnknownName("recipe", name, known)
    content = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
    return [(row["name"], row.get("config", {})) for row in content["stage"]]


def configured(name: str, options: Mapping[str, Any]) -> Any:
    """The `Config` of a stage, `export` or `measure`, with `options` set; `{"augment": {"flip": False}}` goes inside.

    Raises `UnknownName` for an option it does not have, and `UserError` for a value of another type.
    """
    config = {"export": export, "measure": host}.get(name) or stage_named(name)
    return _filled(config.Config, name, options)


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


def stage_named(name: str) -> Any:
    """The module of the stage called `name`. Raises `UnknownName` that suggests the nearest."""
    if name not in STAGES:
        raise UnknownName("stage", name, STAGES)
    return stage(name)
