"""What proposes architectures. One interface for all ways of searching.

A controller sees decisions, each a number of options, and nothing of networks. What it proposes is a function of its
seed, of what it was told, in order, and of the number of the proposal: so a search that was killed goes on by telling
a new controller what is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

Choices = tuple[int, ...]
"""For each decision the place of an option."""


class Told(NamedTuple):
    """What came of a proposal. `accuracy` is a share, `cost` in the unit of the search."""

    choices: Choices
    reward: float
    accuracy: float
    cost: float


class Controller(Protocol):
    """A way of searching. `counts` are the numbers of options of the decisions."""

    counts: tuple[int, ...]

    def ask(self, number: int) -> Choices:
        """The proposal of that number, from 0."""

    def tell(self, told: Told) -> None:
        """Takes note of what came of a proposal; those of other workers are told, too."""


def generator(seed: int, number: int) -> np.random.Generator:
    """The random numbers of one proposal."""
    return np.random.default_rng((seed, number))


def drawn(rng: np.random.Generator, counts: Sequence[int]) -> Choices:
    """One option of each decision, at random."""
    return tuple(int(rng.integers(count)) for count in counts)
