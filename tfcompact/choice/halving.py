"""Successive halving (arXiv:1502.07943): all candidates are trained a little, the best third of them longer.

Rungs are ordinary trainings of their own, each with its whole schedule, so that a rung's accuracy is what a training
of that length gives, and every one of them is found again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

KEEP = 3  # one in so many goes on
C = TypeVar("C")


@dataclass(frozen=True)
class Result(Generic[C]):
    """What a candidate reached in a rung: validation accuracy as a share after so many epochs."""

    candidate: C
    epochs: int
    accuracy: float


def halved(
    candidates: Sequence[C],
    rungs: Sequence[int],
    train: Callable[[C, int], float | None],
    minutes: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> list[Result[C]]:
    """The results of all rungs, the last rung's best first; of every rung at least one candidate is trained.

    `train` gives None for a candidate that cannot be trained, which is left out. The time is shared equally by the
    rungs. Where a rung's share is used up, those that come later in the order of the rung before are left out.
    """
    found: list[Result[C]] = []
    going = list(candidates)
    deadline = clock()
    for rung, epochs in enumerate(rungs):
        deadline += 60 * minutes / len(rungs)
        results: list[Result[C]] = []
        for candidate in going:
            if results and clock() >= deadline:
                break
            if (accuracy := train(candidate, epochs)) is not None:
                results.append(Result(candidate, epochs, accuracy))
        results.sort(key=lambda result: -result.accuracy)
        found = [*results, *found]
        left = max(1, len(results) // KEEP) if rung + 1 < len(rungs) else 0
        going = [result.candidate for result in results[:left]]
    return found
