"""Which options of `tfcompact measure` are for which device: one command, three sets of them. No TensorFlow here."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcompact.cli import arguments
from tfcompact.errors import UserError
from tfcompact.measure import any_device, emulation, host
from tfcompact.measure.android import phone_options
from tfcompact.options import opt
from tfcompact.pipeline.target import Target
from tfcompact.records.device import DeviceKind

IMAGES = tuple(f.name for f in dataclasses.fields(Target) if f.name not in ("model", "runs"))
"""Options that say which images accuracy is judged on, which no phone is given."""
CONFIGS: dict[DeviceKind, type[host.Config] | type[phone_options.Config] | type[emulation.Config]] = {
    "host": host.Config,
    "android": phone_options.Config,
    "emulated": emulation.Config,
}

Owners = Mapping[str, tuple[DeviceKind, ...]]


def owners() -> Owners:
    """Which kinds of devices an option of `measure` is for; options that are not in it are for all."""
    found: dict[str, tuple[DeviceKind, ...]] = dict.fromkeys(IMAGES, ("host",))
    for kind, config in CONFIGS.items():
        for f in dataclasses.fields(config):
            found[f.name] = (*found.get(f.name, ()), kind)
    return found


def described(owners: Owners) -> list[tuple[str, Any, Any]]:
    """The options that are a device's own, `(name, type, field)`, each with its devices in front of its help."""
    found = {}
    for kind, config in CONFIGS.items():
        hints = typing.get_type_hints(config)
        for f in dataclasses.fields(config):
            if owners[f.name][0] == kind != "host":
                kinds = ", ".join(owners[f.name])
                found[f.name] = (f.name, hints[f.name], opt(f.default, f"{kinds}: {f.metadata['help']}"))
    return list(found.values())


def given(options: Any, words: Sequence[str]) -> set[str]:
    """The options that were typed, which a default cannot tell."""
    typed = {word.partition("=")[0] for word in words}
    return {f.name for f in dataclasses.fields(options) if _flags(f.name) & typed}


def refuse_foreign(device: DeviceKind, given: set[str], owners: Owners) -> None:
    """Raises `UserError` for an option of another device."""
    for option in sorted(given & set(owners)):
        if device not in owners[option]:
            of = " or ".join(owners[option])
            raise UserError(f"--{option.replace('_', '-')} is an option of --device {of}, not of {device}")


def config(options: Any) -> any_device.Config:
    """How the device that was chosen is measured. Raises `UserError` for options that it cannot meet."""
    found: any_device.Config = arguments.part(options, CONFIGS[options.device])
    return found


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
