"""Random search: what every other way is compared with (arXiv:1902.07638)."""

from __future__ import annotations

from collections.abc import Sequence

from tfcompact.search.controller import Choices, Told, drawn, generator


class RandomSearch:
    """Each option of each decision is as likely as the others."""

    def __init__(self, counts: Sequence[int], seed: int = 0) -> None:
        self.counts, self.seed = tuple(counts), seed

    def ask(self, number: int) -> Choices:
        """An architecture at random."""
        return drawn(generator(self.seed, number), self.counts)

    def tell(self, told: Told) -> None:
        """Nothing is learnt."""
