"""What decides a run's name; the same request finds the finished run. No TensorFlow here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console

from tfcompact.data import absolute
from tfcompact.data.imageset import ImageSet
from tfcompact.models import Spec
from tfcompact.runs import store
from tfcompact.training import strategy


def inputs_of(
    stage: str, version: int, config: Any, parent: store.Run | None, data: ImageSet, px: int, seed: int
) -> dict[str, Any]:
    """Everything that determines a result: two requests with equal inputs are one run."""
    return {
        "parent": parent.name if parent else None,
        "stage": stage,
        "version": version,
        "config": dataclasses.asdict(config),
        "data": data.digest,
        "px": px,
        "seed": seed,
    }


def recorded(
    root: Path,
    spec: Spec,
    inputs: Mapping[str, Any],
    facts: Mapping[str, Any],
    make: Callable[[Path], None],
    console: Console,
    *,
    alone: bool = False,
) -> store.Run:
    """The finished run of these inputs: found, or made now by `make`, which fills the directory it is given.

    All workers of a training make it together, and the chief's directory is kept; with `alone` no other worker is
    asked.
    """
    inputs = json.loads(json.dumps(inputs))
    path = root / spec.name / f"{inputs['stage']}-{store.key(inputs)}"
    there = (path / "provenance.json").is_file()
    if there if alone else strategy.agreed(inputs, there):
        console.print(f"already there: {path}", highlight=False)
        if strategy.workers().chief:
            store.tidy(path)
        return store.Run(path)
    told = {"network": spec.record.to_json()} | dict(facts)

    def recording() -> AbstractContextManager[Path]:
        return store.recording(root, spec.name, inputs["stage"], inputs, told)

    with recording() if alone else strategy.recorded(recording) as directory:
        make(directory)
    return store.Run(path)


def about(data: ImageSet, source: str) -> dict[str, Any]:
    """What a run records of its images besides their digest."""
    return {
        "source": absolute(source),
        "name": data.name,
        "classes": list(data.classes),
        "sizes": dict(data.sizes),
    }
