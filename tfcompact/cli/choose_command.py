"""`tfcompact choose`: from images and a budget to the best int8 file within it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfcompact.choice import choice_page
from tfcompact.choice.choosing import Choice, Config
from tfcompact.cli import arguments, opened
from tfcompact.options import opt
from tfcompact.pipeline.target import Target

OUT = ("out", Path | None, opt(None, "directory of the page; <runs>/report/choose/<images>-<budget> unless given"))


def run(name: str, words: Sequence[str], help: str) -> None:
    """Chooses, prints the page, and writes it."""
    options = arguments.parse(arguments.command(Target, Config, extra=[OUT], without=["model"]), name, words, help)
    config, target = arguments.part(options, Config), arguments.part(options, Target)
    console = opened.console()
    outcome = Choice(config, target, console).run()
    place = f"{outcome.images.replace('/', '_')}-{config.budget:g}{outcome.unit}"
    out = options.out or options.runs / "report" / "choose" / place
    written = choice_page.write(outcome, out)
    console.print(f"\n{choice_page.page(outcome)}", highlight=False, markup=False, soft_wrap=True)
    for path in (*written, outcome.export.path):
        print(path)
