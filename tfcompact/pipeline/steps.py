"""Networks on the way to a stage's result, as runs of their own: found again after a kill, and good to start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tfcompact import files
from tfcompact.pipeline.identity import recorded
from tfcompact.runs.lineage import ON_THE_WAY
from tfcompact.runs.store import Run
from tfcompact.training.context import Context, Kept

Make = Callable[[Context], tuple[Any, dict[str, Any]]]
"""What makes a network and what there is to say of it, in a context of its own."""


def keeper(
    root: Path,
    inputs: Mapping[str, Any],
    facts: Mapping[str, Any],
    context: Context,
    load: Callable[[Run], Any],
    save: Callable[[Any, Path], None],
) -> Callable[[Mapping[str, Any], Make], Kept]:
    """The `Context.keep` of a stage whose own run has these inputs and facts.

    A step is known by its key, which stands in the place of the stage's options: a stage that is asked to go further
    finds the steps that were made before.
    """

    def keep(key: Mapping[str, Any], make: Make) -> Kept:
        made: list[tuple[Any, dict[str, Any]]] = []

        def write(directory: Path) -> None:
            model, notes = make(dataclasses.replace(context, directory=directory))
            save(model, directory / "model.h5")
            files.write_json(directory / "notes.json", notes)
            made.append((model, notes))

        told = dict(facts) | {
            "summary": ", ".join(f"{name} {value}" for name, value in key.items() if _is_short(value))
        }
        own = {**inputs, "config": {}, ON_THE_WAY: dict(key)}
        run = recorded(root, context.spec, own, told, write, Console(quiet=True))
        model, notes = made[0] if made else (load(run), run.notes)
        return Kept(run.name, model, notes)

    return keep


def _is_short(value: object) -> bool:
    """Whether a value of a key says something in a line about a run."""
    return isinstance(value, int | float | str)
