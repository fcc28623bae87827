"""Regularised evolution (arXiv:1802.01548): the best of a few changes in one place, and the oldest dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tfcompact.options import require
from tfcompact.search.controller import Choices, Told, drawn, generator


class Evolution:
    """A population of the `population` youngest; the best of `sample` of them is the next parent.

    Where decisions have one option each there is nothing to change, and the parent is proposed again.
    """

    def __init__(self, counts: Sequence[int], seed: int = 0, *, population: int = 20, sample: int = 5) -> None:
        require(1 <= sample <= population, "sample", sample, f"from 1 to {population}, the population")
        self.counts, self.seed, self.size, self.sample = tuple(counts), seed, population, sample
        self.living: deque[Told] = deque(maxlen=population)

    def ask(self, number: int) -> Choices:
        """A child of the living, or while they are few, an architecture at random."""
        rng = generator(self.seed, number)
        if len(self.living) < self.size:
            return drawn(rng, self.counts)
        places = rng.choice(len(self.living), self.sample, replace=False)
        parent = max((self.living[int(i)] for i in places), key=lambda told: told.reward)
        child = list(parent.choices)
        free = [i for i, count in enumerate(self.counts) if count > 1]
        if free:
            place = free[int(rng.integers(len(free)))]
            others = [option for option in range(self.counts[place]) if option != child[place]]
            child[place] = others[int(rng.integers(len(others)))]
        return tuple(child)

    def tell(self, told: Told) -> None:
        """The newcomer lives, and the oldest goes."""
        self.living.append(told)
