"""`tfcompact models`: all architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfcompact.cli import arguments, opened
from tfcompact.options import opt
from tfcompact.report import architectures


@dataclass(frozen=True)
class Models:
    """Options of `models`."""

    family: str | None = opt(None, "only this family")
    sort: str = opt("family", "family, name, parameters, macs or accuracy")


def run(name: str, words: Sequence[str], help: str) -> None:
    """Prints the table of architectures."""
    options: Models = arguments.parse(Models, name, words, help)
    console = opened.console()
    table, legend = architectures.models_table(options.family, options.sort, console.width)
    console.print(table)
    console.print(f"\n{legend}", highlight=False, markup=False)
