"""A network taken through every stage that makes it smaller, to an int8 file, with a few images or with more."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tfcompact import models
from tfcompact.errors import UserError
from tfcompact.networks import rewrite
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.runs import store

TEACHER = "mobilenet_v1_0.25"
BRIEF = {"epoch_images": 64, "validation_images": 32, "norm_batches": 1}
CHAIN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("distill", {"epochs": 1, "hint": 0.1}),
    ("channels", {"keep": 0.7, "multiple": 8, "epochs": 0}),
    ("decompose", {"keep": 0.9, "multiple": 8, "epochs": 0, "moment_images": 16}),
    ("zeros", {"structure": "energy", "sparsity": 0.5, "keep": 0.97, "fit_images": 16, "epochs": 0}),
    ("quantize", {"epochs": 0, "calibration_images": 32, "sqnr_images": 0}),
    ("cluster", {"clusters": 16, "epochs": 1}),
)
STAGES = {"channels": "prune", "zeros": "prune"}
EXPORT = {"formats": ["int8"], "images": 32, "largest_loss": 100, "least_agreement": 0, "samples": 0}


def through_every_stage(
    name: str,
    runs: Path,
    data: str = "digits",
    *,
    px: int = 64,
    budget: Mapping[str, int] = BRIEF,
    epochs: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What each stage left of the network: multiply-adds and parameters, zeros, values of a kernel, and the file.

    `budget` are options of every training, `epochs` those of steps of the chain, and of `fit`, the teacher's. A stage
    that refuses the network is left out of its chain, and `refused` says why.
    """
    px, longer = max(px, models.spec(name).min_px), epochs or {}
    teacher = _pipeline(TEACHER, data, px, runs).run(configured("fit", {"epochs": longer.get("fit", 1), **budget}))
    pipeline = _pipeline(name, data, px, runs)
    found: dict[str, Any] = {"network": name, "family": models.spec(name).family, "px": px, "refused": ""}
    run: store.Run | None = None
    for step, options in CHAIN:
        stage = STAGES.get(step, step)
        given = {**options, **budget} | ({"epochs": longer[step]} if step in longer else {})
        given |= {"teacher": f"{TEACHER}/{teacher.name}"} if stage == "distill" else {}
        try:
            run = pipeline.run(configured(stage, given), run.name if run else None)
        except UserError as error:
            found["refused"] += f"{step}: {error} "
            continue
        if stage in ("distill", "prune", "decompose"):
            cost = rewrite.cost(rewrite.inference(pipeline.load(run)))
            found[f"{step}_macs"], found[f"{step}_parameters"] = cost.macs, cost.trainable
        found[f"{step}_accuracy"] = run.notes["validation_accuracy"]
        if step == "zeros":
            found["zeros"] = run.notes["zeros"]
        if step == "cluster":
            found["values"] = max(row["values"][1] for row in run.notes["clusters"].values())
            found["seconds"] = sum(made.provenance["seconds"] for made in run.chain)
    assert run is not None
    found["runs"] = (teacher, *run.chain)
    if run.stage == "cluster":
        exported = pipeline.export(configured("export", {**EXPORT, "images": budget["validation_images"]}), run.name)
        found["runs"] += (exported,)
        (artifact,) = exported.artifacts
        content = (exported.path / artifact.path).read_bytes()
        found["file_accuracy"] = artifact.checks["accuracy"]
        found |= {"bytes": len(content), "zipped_bytes": len(zlib.compress(content, 9))}
    return found


def _pipeline(name: str, data: str, px: int, runs: Path) -> Pipeline:
    return Pipeline(Target(name, data=data, px=px, runs=runs), Console(quiet=True))
