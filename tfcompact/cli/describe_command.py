"""`tfcompact describe`: one architecture, block by block or layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tfcompact import models
from tfcompact.cli import arguments, opened
from tfcompact.networks.costs import PRECISIONS
from tfcompact.options import opt
from tfcompact.pipeline.subject import network_named
from tfcompact.report import block_table, layer_table
from tfcompact.runs.store import ROOT


@dataclass(frozen=True)
class Describe:
    """Options of `describe`."""

    model: Annotated[
        str,
        arguments.positional(),
        arguments.shown_as(
            "MODEL", "name of an architecture, as tfcompact models lists them, or a .json file of one"
        ),
    ]
    px: int | None = opt(None, "side of the images in px; the published size unless given")
    classes: int | None = opt(None, "number of classes; the published one unless given")
    bits: Literal[8, 32] = opt(8, "of a number: 8 for int8, 32 for float32")
    layers: bool = opt(False, "layer by layer instead: output shape, parameters, multiply-adds")
    runs: Path = opt(ROOT, "directory of all runs, for networks that are known from there only")


def run(name: str, words: Sequence[str], help: str) -> None:
    """Prints what the architecture is made of and what it costs."""
    options: Describe = arguments.parse(Describe, name, words, help)
    spec = network_named(options.model, options.runs)  # an unknown name is told before TensorFlow loads
    console = opened.console()
    model = models.built(spec, px=options.px, classes=options.classes)
    title = f"{spec.name}, {model.input_shape[1]} px, {model.output_shape[-1]} classes"
    if options.layers:
        console.print(title, layer_table.layers_table(model), sep="\n", highlight=False)
        return
    from tfcompact.networks.operators import profile

    costs = profile(model, PRECISIONS[options.bits])
    table, sums, legend = block_table.blocks_table(costs, console.width)
    console.print(f"{title}, {costs.precision.name}\n", table, f"\n{sums}\n", legend, sep="\n", highlight=False)
