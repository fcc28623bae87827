"""How far each layer is split: to a share of the cost, to a share of the energy, or by what noise would explain."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np

from tfcompact.compress.decomposition.factors import Roots, evbmf_rank
from tfcompact.compress.decomposition.split_layers import Split
from tfcompact.errors import UserError


def to_cost(
    ladders: Mapping[str, Sequence[Split]], costs: Mapping[str, float], total: float, share: float
) -> dict[str, Split]:
    """The splits after which at most `share` of `total` is left; `costs` are those of the layers now.

    Greedy: the step that loses the least energy for what it saves is next. Raises `UserError` where the share cannot
    be reached, with the one that can.
    """
    at = dict.fromkeys(ladders, -1)  # the rung of each layer, -1 for the whole one
    left = total

    def step(name: str) -> tuple[float, int] | None:
        """The price of the best of the next rungs, and which it is: a rung that saves more may lose less for it."""
        rungs = ladders[name]
        now = rungs[at[name]] if at[name] >= 0 else None
        cost, error = (now.cost, now.error) if now else (costs[name], 0.0)
        prices = [
            (max(rung.error - error, 0.0) / (cost - rung.cost), i)
            for i, rung in enumerate(rungs[at[name] + 1 :], at[name] + 1)
        ]
        return min(prices) if prices else None

    waiting = [(found[0], name, found[1]) for name in ladders if (found := step(name))]
    heapq.heapify(waiting)
    while left > share * total and waiting:
        _, name, rung = heapq.heappop(waiting)
        before = ladders[name][at[name]].cost if at[name] >= 0 else costs[name]
        left -= before - ladders[name][rung].cost
        at[name] = rung
        if found := step(name):
            heapq.heappush(waiting, (found[0], name, found[1]))
    if left > share * total:
        raise UserError(
            f"{share:.0%} of the cost cannot be reached by splitting alone: {left / total:.0%} are left with every "
            "layer at its smallest ranks; give a larger --keep or a smaller --multiple, or prune first"
        )
    return {name: ladders[name][rung] for name, rung in at.items() if rung >= 0}


def to_energy(ladders: Mapping[str, Sequence[Split]], energy: float) -> dict[str, Split]:
    """The cheapest split of each layer that keeps a share of its output's energy; layers without one stay whole."""
    found = {}
    for name, rungs in ladders.items():
        if fit := [rung for rung in rungs if 1 - rung.error >= energy]:
            found[name] = fit[-1]
    return found


def by_noise(
    ladders: Mapping[str, Sequence[Split]], kernels: Mapping[str, np.ndarray], roots: Mapping[str, Roots]
) -> dict[str, Split]:
    """The split of each layer nearest to the ranks that noise leaves (`evbmf_rank`), not below; else it stays whole.

    On trained 1x1 kernels it often finds next to nothing, so the least rank is the ladder's last.
    """
    found = {}
    for name, rungs in ladders.items():
        turned = roots[name].turned(kernels[name])
        rank = evbmf_rank(np.moveaxis(turned, 2, 0).reshape(turned.shape[2], -1))
        if fit := [rung for rung in rungs if rung.ranks[0] >= rank]:
            found[name] = fit[-1]
    return found
