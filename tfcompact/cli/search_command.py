"""`tfcompact search`: an architecture that fits a budget, found by training candidates for a short time each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from tfcompact.cli import arguments, opened
from tfcompact.pipeline.target import Target
from tfcompact.search import search_files
from tfcompact.search.one_shot import BELIEVED
from tfcompact.search.search_options import Config
from tfcompact.search.searching import Search

SHOWN = 10


def run(name: str, words: Sequence[str], help: str) -> None:
    """Searches, prints the best, and writes what was found."""
    options = arguments.parse(arguments.command(Target, Config, without=["model"]), name, words, help)
    config, target = arguments.part(options, Config), arguments.part(options, Target)
    console = opened.console()
    search = Search(config, target, console)
    found = search.run()
    unit = search.prices.table.setting.unit
    title = f"{config.space} at {search.space.px[0]} px, {len(found)} candidates by {config.controller}"
    written = search_files.write(found, unit, config.target_cost, title, search.folder)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for head in ("candidate", "accuracy, %", unit, "reward", "seeds"):
        table.add_column(head, justify="left" if head == "candidate" else "right")
    for row in found[:SHOWN]:
        accuracy = f"{100 * row.accuracy:.1f}"
        table.add_row(row.name, accuracy, f"{row.cost:.4g}", f"{row.reward:.4f}", str(row.seeds))
    console.print(f"\n{title}\n", highlight=False, markup=False)
    console.print(table)
    if (order := search.order()) is not None:
        tau, count = order
        warning = "" if tau >= BELIEVED else "; too little to believe the order above: search with --trainer alone"
        console.print(
            f"\nKendall's tau of shared weights and of {count} networks trained alone: {tau:.2f}{warning}",
            highlight=False,
            markup=False,
        )
    console.print(
        f"\ntrain the best: tfcompact train --model {written[-1]} --px {search.space.px[0]}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for path in written:
        print(path)
