"""`tfcompact runs`: every run under a directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfcompact.cli import arguments, opened
from tfcompact.options import opt
from tfcompact.report import terminal
from tfcompact.runs.store import ROOT


@dataclass(frozen=True)
class Runs:
    """Options of `runs`."""

    model: str | None = opt(None, "only this architecture")
    runs: Path = opt(ROOT, "directory of all runs")


def run(name: str, words: Sequence[str], help: str) -> None:
    """Prints the table of runs."""
    options: Runs = arguments.parse(Runs, name, words, help)
    opened.check_network(options.model, options.runs)
    terminal.print_runs(opened.console(), options.runs, options.model)
