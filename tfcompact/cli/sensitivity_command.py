"""`tfcompact sensitivity`: what rounding each layer costs a quantized run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.progress import track

from tfcompact import files
from tfcompact.cli import arguments, opened
from tfcompact.options import opt
from tfcompact.sensitivity import sensitivity_tables, study


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
    found = study.quantized_run(options.run)

    def log(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    data = study.open_data(found, options.data, options.cache, options.skip_unreadable, log)
    work = study.Study(found, data, config)
    ranking = work.ranking(_bar)
    table, summary, legend = sensitivity_tables.ranking_table(ranking, config.limit, console.width)
    console.print(f"{found.model} {found.name}\n", table, f"\n{summary}\n", legend, sep="\n", highlight=False)
    comparison = work.comparison(ranking) if config.keep_float else None
    if comparison is not None:
        out, table = work.write(comparison), sensitivity_tables.files_table(comparison.rows)
        console.print(f"\nkept float: {', '.join(comparison.kept)}\n", table, sep="\n", highlight=False)
        log(f"\n{sensitivity_tables.FILES_LEGEND}\n{out}")
    if config.json:
        files.write_json(config.json, study.as_json(found, ranking, comparison))


def _bar(units: Sequence[Any]) -> Iterable[Any]:
    """The units, with a bar of progress where a person is watching."""
    console = Console(stderr=True)
    return track(units, "layers", console=console, transient=True, disable=not console.is_terminal)
