"""`tfcompact report`: all measurements as tables and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfcompact.cli import arguments, opened
from tfcompact.options import opt
from tfcompact.report import report_files, terminal
from tfcompact.runs.store import ROOT


@dataclass(frozen=True)
class Report:
    """Options of `report`."""

    model: str | None = opt(None, "only this architecture")
    runs: Path = opt(ROOT, "directory of all runs")
    out: Path | None = opt(None, "directory for report.md, report.csv and pareto.png; <runs>/report unless given")


def run(name: str, words: Sequence[str], help: str) -> None:
    """Writes the report, prints the tables, and the paths of the files."""
    options: Report = arguments.parse(Report, name, words, help)
    opened.check_network(options.model, options.runs)
    written = report_files.write(options.runs, options.model, options.out)  # tells where nothing was measured yet
    terminal.print_table(opened.console(), report_files.rows(options.runs, options.model), options.runs)
    for path in written:
        print(path)
