"""The table of controllers: a line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tfcompact.errors import UnknownName
from tfcompact.search import optuna_sampler
from tfcompact.search.controller import Controller
from tfcompact.search.evolution import Evolution
from tfcompact.search.factorised_policy import FactorisedPolicy
from tfcompact.search.random_search import RandomSearch
from tfcompact.search.recurrent_policy import RecurrentPolicy

CONTROLLERS: dict[str, Callable[[Sequence[int], int], Controller]] = {
    "random": RandomSearch,
    "evolution": Evolution,
    "factorised": FactorisedPolicy,
    "rnn": RecurrentPolicy,
    "nsga2": optuna_sampler.nsga2,
    "tpe": optuna_sampler.tpe,
}


def controller(name: str, counts: Sequence[int], seed: int) -> Controller:
    """A new controller for decisions of so many options each. Raises `UnknownName` that suggests the nearest."""
    if name not in CONTROLLERS:
        raise UnknownName("controller", name, CONTROLLERS)
    return CONTROLLERS[name](counts, seed)
