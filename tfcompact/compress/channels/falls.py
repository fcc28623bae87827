"""By how many channels layers become narrower where groups of channels lose classes, and networks that show it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from tfcompact.compress.channels.atoms import Channels

FEWEST, TRIES = 2, 200
"""Networks that tell which number of which operator falls by what, and drawings before it takes one more."""


def falls(channels: Channels) -> list[dict[int, int]]:
    """What any layer's input or output loses for one class of each group, each kind of loss once.

    Groups are known by their place; those that a layer has no channels of are not in its dict.
    """
    groups = [group if len(group.classes) > 1 else None for group in channels.groups]  # one alone never goes
    place = {root: i for i, group in enumerate(groups) if group for root in group.classes}
    found: dict[tuple[tuple[int, int], ...], dict[int, int]] = {}
    for site in channels.sites.values():
        for ids in (site.reads, site.writes):
            fall: dict[int, int] = {}
            for root, count in zip(*np.unique(ids, return_counts=True), strict=True):
                if int(root) in place:
                    fall[place[int(root)]] = max(fall.get(place[int(root)], 0), int(count))
            if fall:
                found[tuple(sorted(fall.items()))] = fall
    return list(found.values())


def probes(channels: Channels, orders: Sequence[Sequence[int]]) -> list[tuple[dict[int, int], set[int]]]:
    """A few choices of how many classes every group loses, and these classes: the first of `orders`.

    No two layers that become narrower by other channels lose the same number in all of them.
    """
    rng = random.Random(0)
    kinds = falls(channels)
    for attempt in range(TRIES * 20):
        drawn = [
            {place: rng.randint(0, len(order) // 2) for place, order in enumerate(orders) if len(order) > 1}
            for _ in range(FEWEST + attempt // TRIES)
        ]
        lost = [tuple(sum(n * gone.get(i, 0) for i, n in fall.items()) for gone in drawn) for fall in kinds]
        if len(set(lost)) == len(kinds) and all(map(any, lost)):
            break
    return [(gone, {root for place, count in gone.items() for root in orders[place][:count]}) for gone in drawn]
