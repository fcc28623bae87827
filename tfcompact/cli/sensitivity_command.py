"""`tfcompact sensitivity`: what rounding each layer costs a quantized run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tfcompact.cli import arguments, opened
from tfcompact.options import opt
from tfcompact.sensitivity import study


@dataclass(frozen=True)
class Run:
    """Which run."""

    run: Annotated[
        Path, arguments.positional(), arguments.shown_as("RUN", "directory of a finished run of a quantized network")
    ]


@dataclass(frozen=True)
class Images:
    """Where its images are."""

    data: str | None = opt(None, "the run's images, where they are elsewhere now")
    cache: Path | None = opt(None, "directory of decoded images; <runs>/cache unless given")
    skip_unreadable: bool = opt(False, "leave out images that cannot be read, and list them")


def run(name: str, words: Sequence[str], help: str) -> None:
    """Prints the ranking of layers, and writes what was asked for."""
    options = arguments.parse(arguments.command(Run, study.Config, Images), name, words, help)
    config, console = arguments.part(options, study.Config), opened.console()
    found = study.finished(options.run)
    data = study.open_data(found, options.data, options.cache, options.skip_unreadable, console)
    study.sensitivity(found, config, data, console)
