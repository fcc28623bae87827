"""Optuna's samplers as controllers, which look for a front of accuracy and cost and need no reward.

NSGA-II is Deb et al. 2002, doi:10.1109/4235.996017; TPE is Bergstra et al. 2011 (NeurIPS), for two objectives Ozaki
et al. 2020, doi:10.1145/3377930.3389817.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from tfcompact.search.controller import Choices, Told, generator

POPULATION = 10
"""Small, so that budgets of some hundred networks have generations: the first one is random."""


class OptunaSampler:
    """A sampler made anew for each proposal from the seed and its number, over what is known.

    What was asked is to be told, or asked again before others are told, as it is when a search goes on.
    """

    def __init__(self, counts: Sequence[int], seed: int, make: Callable[[int], Any]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.counts, self.seed, self.make = tuple(counts), seed, make
        self.study = optuna.create_study(directions=["maximize", "minimize"], sampler=make(0))
        self.options: dict[str, Any] = {
            f"{i:03d}": optuna.distributions.CategoricalDistribution(tuple(range(count)))
            for i, count in enumerate(counts)
        }
        self.open: dict[Choices, list[Any]] = {}

    def ask(self, number: int) -> Choices:
        """What the sampler proposes."""
        self.study.sampler = self.make(int(generator(self.seed, number).integers(2**31)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self.study.ask(self.options)
        choices = tuple(int(trial.params[name]) for name in self.options)
        self.open.setdefault(choices, []).append(trial)
        return choices

    def tell(self, told: Told) -> None:
        """Adds a network to what is known."""
        import optuna

        values = [told.accuracy, told.cost]
        if self.open.get(told.choices):
            self.study.tell(self.open[told.choices].pop(0), values)
            return
        params = dict(zip(self.options, told.choices, strict=True))
        self.study.add_trial(optuna.trial.create_trial(params=params, distributions=self.options, values=values))


def nsga2(counts: Sequence[int], seed: int = 0) -> OptunaSampler:
    """NSGA-II with a population of `POPULATION`."""

    def make(seed: int) -> Any:
        import optuna

        return optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)

    return OptunaSampler(counts, seed, make)


def tpe(counts: Sequence[int], seed: int = 0) -> OptunaSampler:
    """Multi-objective TPE."""

    def make(seed: int) -> Any:
        import optuna

        return optuna.samplers.TPESampler(seed=seed)

    return OptunaSampler(counts, seed, make)
