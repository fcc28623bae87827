"""Which classes go: the least important for what they cost, until a share of the cost is left."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfcompact.compress.channels.atoms import Channels, Group, Site, makes_channels
from tfcompact.compress.channels.importance import Scores
from tfcompact.errors import UserError
from tfcompact.frameworks import keras
from tfcompact.networks.kinds import is_convolution


@dataclass(frozen=True)
class _Term:
    """What a layer costs: `product` for each pair of channels read and written, `single` for each one written."""

    product: float
    single: float


class Costs:
    """The `macs` or `params` of a network as a function of the classes that are gone, up to date while they go."""

    def __init__(self, channels: Channels, kind: str) -> None:
        self.terms = {name: _term(site, kind) for name, site in channels.sites.items()}
        self.terms = {name: term for name, term in self.terms.items() if term.product or term.single}
        self.reads = {name: len(channels.sites[name].reads) for name in self.terms}
        self.writes = {name: len(channels.sites[name].writes) for name in self.terms}
        self._of: dict[int, dict[str, tuple[int, int]]] = {}  # class -> layer -> channels read and written
        for name in self.terms:
            site = channels.sites[name]
            for side, ids in enumerate((site.reads, site.writes)):
                for root, count in zip(*np.unique(ids, return_counts=True), strict=True):
                    pair = self._of.setdefault(int(root), {}).get(name, (0, 0))
                    self._of[int(root)][name] = (count, pair[1]) if side == 0 else (pair[0], int(count))

    @property
    def total(self) -> float:
        """The cost now."""
        return sum(self._cost(name, self.reads[name], self.writes[name]) for name in self.terms)

    def saved(self, classes: Sequence[int]) -> float:
        """What removing the classes would save now."""
        return sum(
            self._cost(name, self.reads[name], self.writes[name])
            - self._cost(name, self.reads[name] - reads, self.writes[name] - writes)
            for name, (reads, writes) in self._touched(classes).items()
        )

    def remove(self, classes: Sequence[int]) -> None:
        """Takes note that the classes are gone."""
        for name, (reads, writes) in self._touched(classes).items():
            self.reads[name] -= reads
            self.writes[name] -= writes

    def _cost(self, name: str, reads: int, writes: int) -> float:
        term = self.terms[name]
        return term.product * reads * writes + term.single * writes

    def _touched(self, classes: Sequence[int]) -> dict[str, tuple[int, int]]:
        touched: dict[str, tuple[int, int]] = {}
        for root in classes:
            for name, (reads, writes) in self._of.get(root, {}).items():
                before = touched.get(name, (0, 0))
                touched[name] = (before[0] + int(reads), before[1] + int(writes))
        return touched


def _term(site: Site, kind: str) -> _Term:
    layer = site.layer
    if kind == "params":
        vectors = sum(len(w.shape) == 1 for w in layer.weights)
        if not (makes_channels(layer) or is_convolution(layer)):
            return _Term(0, float(vectors))
        area = float(np.prod(layer.kernel_size)) if is_convolution(layer) else 1.0
        if makes_channels(layer):
            return _Term(area / getattr(layer, "groups", 1), vectors)
        return _Term(0, area + vectors)
    positions = float(np.prod(layer.output_shape[1:-1])) if layer.weights else 0.0
    if isinstance(layer, keras.layers.Dense):
        return _Term(positions, 0)
    if not is_convolution(layer):
        return _Term(0, 0)
    area = positions * float(np.prod(layer.kernel_size))
    return _Term(area / layer.groups, 0) if makes_channels(layer) else _Term(0, area)


def chosen(
    channels: Channels, scores: Scores, *, cost: str, share: float, cap: float, multiple: int
) -> tuple[set[int], float]:
    """The classes to remove so that at most `share` of the cost is left, and the share that is.

    A group keeps at least `1 - cap` of its channels, and as many as are a multiple of `multiple` in its widest layer,
    or all. Greedy: the step with the least importance for what it saves is next. Raises `UserError` where the target
    cannot be reached, with what can.
    """
    costs = Costs(channels, cost)
    whole = costs.total
    orders = [sorted(group.classes, key=lambda root: (scores[root], root)) for group in channels.groups]
    ladders = [ladder(group, cap, multiple) for group in channels.groups]
    gone = [0] * len(orders)
    waiting: list[tuple[float, int]] = []

    def step(i: int) -> list[int]:
        """The classes that the group would lose next."""
        counts = [count for count in ladders[i] if count > gone[i]]
        return orders[i][gone[i] : counts[0]] if counts else []

    def price(classes: Sequence[int]) -> float:
        return sum(scores[root] for root in classes) / max(costs.saved(classes), 1e-30)

    for i in range(len(orders)):
        if classes := step(i):
            heapq.heappush(waiting, (price(classes), i))
    left = whole
    while left > share * whole and waiting:
        known, i = heapq.heappop(waiting)
        classes = step(i)
        now = price(classes)
        if now > known * (1 + 1e-12) and waiting and now > waiting[0][0]:
            heapq.heappush(waiting, (now, i))  # savings only shrink while others go, so an old price is a lower bound
            continue
        left -= costs.saved(classes)
        costs.remove(classes)
        gone[i] += len(classes)
        if following := step(i):
            heapq.heappush(waiting, (price(following), i))
    if left > share * whole:
        raise UserError(
            f"{share:.0%} of the {cost} cannot be reached: with every group at its cap {left / whole:.0%} are left; "
            f"give a larger --keep, a larger --cap than {cap:g}, or a smaller --multiple than {multiple}"
        )
    return {root for i, order in enumerate(orders) for root in order[: gone[i]]}, left / whole


def ladder(group: Group, cap: float, multiple: int) -> list[int]:
    """How many classes the group may lose, ascending."""
    count = len(group.classes)
    most = int(np.floor(cap * count + 1e-9))
    return [n for n in range(1, min(most, count - 1) + 1) if (count - n) * group.width % multiple == 0]
