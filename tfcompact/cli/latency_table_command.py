"""`tfcompact latency-table`: what operators cost on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.cli import arguments, opened
from tfcompact.errors import UserError
from tfcompact.export import candidate
from tfcompact.latency import meters, table_making
from tfcompact.latency.meters import Config
from tfcompact.models.architecture import Architecture
from tfcompact.models.space import Space
from tfcompact.options import opt, require


@dataclass(frozen=True)
class Networks:
    """Whose operators."""

    models: tuple[str, ...] = opt((), "architectures, or .tflite files")
    space: str | None = opt(
        None, "a search space: mnasnet, mobilenet_v3_small, or a TOML file as tfcompact/models/space.py describes it"
    )
    draws: int = opt(
        0, "of a space, so many members at random instead of all layers: enough to interpolate in a large one"
    )
    px: int | None = opt(None, "side of the images in px; the published size, or the space's, unless given")
    classes: int | None = opt(None, "number of classes; the published one, or the space's, unless given")
    widths: int = opt(0, "also so many drawings of other widths of each architecture, for pruning by this table")
    out: Path = opt(Path("latency-table.json"), "the table")
    extend: bool = opt(False, "add to the table that is there")

    def __post_init__(self) -> None:
        for name in ("widths", "draws"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


def run(name: str, words: Sequence[str], help: str) -> None:
    """Measures the operators, and writes the table."""
    options = arguments.parse(arguments.command(Networks, Config), name, words, help)
    arguments.part(options, Networks)  # looks at the values
    if not options.models and options.space is None:
        raise UserError("there is nothing to measure; give --models or --space")
    console = opened.console()

    def log(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    networks = candidate.networks(
        options.models,
        _members(options),
        px=options.px,
        classes=options.classes,
        widths=options.widths,
        kept=table_making.networks_of(options.out),
    )
    with meters.meter(arguments.part(options, Config), log) as meter:
        table = table_making.make_table(networks, meter, options.out, extend=options.extend, log=log)
    console.print(
        f"{len(table.alone)} operators, kernels by {table.step} output channels: {table.setting}",
        highlight=False,
        markup=False,
    )
    print(options.out)


def _members(options: Any) -> list[Architecture]:
    """The members of a space whose operators are measured."""
    if options.space is None:
        return []
    space = Space.named(options.space).at(options.px, options.classes)
    return space.drawn(options.draws) if options.draws else space.covering()
