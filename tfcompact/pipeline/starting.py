"""Where `train` starts from when nobody says so: ImageNet's weights for photographs, where they can be had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tfcompact.data.bundled import SETS
from tfcompact.errors import UserError
from tfcompact.models import Spec
from tfcompact.runs import store

AUTO, NONE, IMAGENET = "auto", "none", "imagenet"
FROM_SCRATCH, FROM_WEIGHTS = "default", "finetune"
"""The recipe of each way."""


@dataclass(frozen=True)
class Start:
    """A recipe, the weights that its first step starts from (None: random), why, and what would change it."""

    recipe: str
    weights: str | None
    why: str
    other: str

    @property
    def line(self) -> str:
        """What the user is told."""
        way = "from scratch" if self.weights is None else f"from {self.weights}'s weights, recipe {self.recipe}"
        return f"trains {way}: {self.why}; {self.other}"

    @property
    def facts(self) -> dict[str, Any]:
        """What the run records of it."""
        return asdict(self)


def decided(spec: Spec, source: str, weights: str | None, find: Callable[[Spec, str], Any]) -> Start:
    """How to train the network on the images of that source.

    `weights` is what was asked for: None to decide here, `none`, or what `find` finds. `find(spec, "imagenet")`
    raises `UserError` where there are none, with the reason.
    """
    if weights == NONE:
        return Start(FROM_SCRATCH, None, "as asked", "leave --weights away to have it decided")
    if weights is not None:
        return Start(FROM_WEIGHTS, weights, "as asked", "--weights none is from scratch")
    if source in SETS:
        return Start(FROM_SCRATCH, None, f"{source} is no folder of photographs", "--weights imagenet does not")
    try:
        found = find(spec, IMAGENET)
    except UserError as error:
        return Start(FROM_SCRATCH, None, str(error).partition("; ")[0], str(error).partition("; ")[2])
    return Start(FROM_WEIGHTS, IMAGENET, f"{found.label} has them", "--weights none is from scratch")


def otherwise(runs: Sequence[store.Run], start: Start, digest: str) -> str | None:
    """The line about the last run of the same command on the same images, where it started otherwise; else None."""
    for run in reversed(runs):
        facts = run.provenance.get("start")
        if facts and run.provenance["inputs"]["data"] == digest:
            if (facts["recipe"], facts["weights"]) == (start.recipe, start.weights):
                return None
            before = Start(**facts)
            return f"{run.name}, which the same command made before, started otherwise: {before.line}"
    return None
