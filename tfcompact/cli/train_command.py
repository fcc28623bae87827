"""`tfcompact train`: a whole recipe, then the report of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfcompact.cli import arguments, opened
from tfcompact.options import opt
from tfcompact.pipeline.starting import AUTO
from tfcompact.pipeline.target import Target
from tfcompact.report import report_files, terminal


@dataclass(frozen=True)
class Train(Target):
    """Options of `train`."""

    recipe: str = opt(
        AUTO,
        "a file of tfcompact/pipeline/recipes without .toml, or a .toml file of your own; auto: finetune for "
        "photographs where ImageNet's weights can be had, else default",
    )
    weights: str | None = opt(
        None, "what to start from: imagenet, a run's directory, a file, or none; the recipe's unless given"
    )
    epochs: int | None = opt(None, "epochs of the recipe's first step; the recipe's own unless given")
    set: tuple[str, ...] = opt((), "any step's option, by its id: fit.learning_rate=0.001 quantize.epochs=5")


def run(name: str, words: Sequence[str], help: str) -> None:
    """Runs the recipe, prints the table of its files, and writes the report."""
    options: Train = arguments.parse(Train, name, words, help)
    pipeline = opened.pipeline(options)
    first = {"epochs": options.epochs, "weights": options.weights}
    given = {option: value for option, value in first.items() if value is not None}
    made = pipeline.train(options.recipe, overrides(options), given)
    if not made.artifacts:  # a worker that is not the chief
        print(made.path)
        return
    rows = [row for row in report_files.rows(options.runs, made.model) if row.run == made.name]
    terminal.print_table(pipeline.console, rows, options.runs)
    report_files.write(options.runs)
    print(
        f"\nthe file for an app: {made.path / made.artifacts[0].path}\nreport: {options.runs / 'report'}\n{made.path}"
    )


def overrides(options: Train) -> Mapping[str, Mapping[str, Any]]:
    """The options of steps, by the steps' ids. Raises `UserError` for a `--set` that names no step and option."""
    found: dict[str, dict[str, Any]] = {}
    for item in options.set:
        arguments.add_override(found, item)
    return found
