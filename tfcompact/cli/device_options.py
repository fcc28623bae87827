"""Which options of `tfcompact measure` are for which device: one command, three sets of them. No TensorFlow here."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcompact.cli import arguments
from tfcompact.errors import UserError
from tfcompact.measure import host
from tfcompact.measure.android import fleet
from tfcompact.options import opt


def owners() -> dict[str, tuple[str, ...]]:
    """Which devices an option of `measure` is for; options that are not in it are for all."""
    emulated = ("backend", "cpu", "delegates", "formats")
    found: dict[str, tuple[str, ...]] = {
        name: ("host",) for name in ("data", "px", "seed", "cache", "skip_unreadable")
    }
    for f in dataclasses.fields(host.Config):
        found[f.name] = ("host",)
    for f in dataclasses.fields(fleet.Config):
        found[f.name] = (*found.get(f.name, ()), *(("android",) if f.name != "cpu" else ()))
    for option in emulated:
        found[option] = (*found[option], "emulated")
    return found


def described(owners: dict[str, tuple[str, ...]]) -> list[tuple[str, Any, Any]]:
    """The options that are a device's own, `(name, type, field)`, each with the device in front of its help."""
    hints = typing.get_type_hints(fleet.Config)
    return [
        (f.name, hints[f.name], opt(f.default, f"{owners[f.name][0]}: {f.metadata['help']}"))
        for f in dataclasses.fields(fleet.Config)
        if "host" not in owners[f.name]
    ]


def given(options: Any, words: Sequence[str]) -> set[str]:
    """The options that were typed, which a default cannot tell."""
    typed = {word.partition("=")[0] for word in words}
    return {f.name for f in dataclasses.fields(options) if _flags(f.name) & typed}


def refuse_foreign(device: str, given: set[str], owners: dict[str, tuple[str, ...]]) -> None:
    """Raises `UserError` for an option of another device."""
    for option in sorted(given & set(owners)):
        if device not in owners[option]:
            of = " or ".join(owners[option])
            raise UserError(f"--{option.replace('_', '-')} is an option of --device {of}, not of {device}")


def android_config(options: Any, backend_given: bool) -> Any:
    """The `Config` for phones, or for the emulated one, whose back end is the only one without a phone."""
    if options.device == "emulated" and not backend_given:
        options = dataclasses.replace(options, backend=fleet.PROXY)
    config = arguments.part(options, fleet.Config)
    if config.emulated != (options.device == "emulated"):
        there = "emulated" if config.emulated else "android"
        raise UserError(f"--backend {config.backend} is for --device {there}, not for {options.device}")
    return config


def with_run(options: Any, given: set[str]) -> Any:
    """The options with model, parent and runs directory taken from the run's own directory, where that was given."""
    if options.run is None:
        return options
    for option in ("model", "parent", "runs"):
        if option in given:
            raise UserError(f"give {options.run} or --{option}, not both")
    path = options.run.resolve()
    if not (path / "artifacts.json").is_file():
        raise UserError(f"{options.run} is no directory of an export run; tfcompact runs lists them")
    root = path.parents[1]
    here = Path.cwd()
    return dataclasses.replace(
        options,
        model=path.parent.name,
        parent=path.name,
        runs=root.relative_to(here) if root.is_relative_to(here) else root,
    )


def _flags(option: str) -> set[str]:
    """How an option may be written: the parser takes `_` for `-`, and `--no-` before a switch."""
    dashed = option.replace("_", "-")
    return {f"{prefix}{name}" for prefix in ("--", "--no-") for name in (option, dashed)}
