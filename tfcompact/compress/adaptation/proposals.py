"""What NetAdapt may make narrower, and how far it must to meet the next target (arXiv:1804.03230, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tfcompact.compress.channels.atoms import Channels, Group, makes_channels
from tfcompact.compress.channels.importance import Scores
from tfcompact.compress.channels.selection import ladder
from tfcompact.models.blocks import round_channels
from tfcompact.networks.kinds import is_convolution

Gone = dict[int, int]
"""How many classes each group loses, by its place among the groups."""
Price = Callable[[Mapping[int, int]], float]


@dataclass(frozen=True)
class Axis:
    """Layers that become narrower together: the main group, and others that follow it in proportion."""

    name: str
    kind: str  # filters, or in MobileNetV3's way expansion or bottleneck
    group: int
    followers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """An axis at the largest width that meets a target, and what the network is predicted to cost then."""

    axis: Axis
    gone: Gone
    width: int
    cost: float


def axes(channels: Channels, kind: str) -> list[Axis]:
    """What may become narrower.

    `filters`: every group of layers that make channels. `v3` (arXiv:1905.02244, section 4.2): the expansion of a
    block and what gates it, or the bottleneck of all blocks that share it.
    """
    if kind == "filters":
        return [
            Axis(group.producers[0], "filters", i)
            for i, group in enumerate(channels.groups)
            if len(group.classes) > 1
        ]
    return _of_blocks(channels)


def _of_blocks(channels: Channels) -> list[Axis]:
    """Expansions and bottlenecks of blocks with depthwise convolutions."""
    makers = {name: site for name, site in channels.sites.items() if makes_channels(site.layer)}
    filtered = {
        int(root)
        for site in channels.sites.values()
        if is_convolution(site.layer) and not makes_channels(site.layer)
        for root in site.reads
    }
    image = {name for name, site in makers.items() if set(site.reads.tolist()) <= channels.frozen}

    def reads(group: Group) -> set[int]:
        return {int(root) for name in group.producers for root in makers[name].reads}

    def readers(group: Group) -> set[str]:
        mine = set(group.classes)
        return {name for name, site in makers.items() if mine.intersection(site.reads.tolist())}

    found = []
    expanded: set[int] = set()
    for i, group in enumerate(channels.groups):
        if filtered.intersection(group.classes) and not image.intersection(group.producers):
            gates = tuple(
                j
                for j, other in enumerate(channels.groups)
                if j != i
                and reads(other) <= set(group.classes)
                and all(set(makers[name].writes.tolist()) <= set(group.classes) for name in readers(other))
            )
            found.append(Axis(group.producers[0], "expansion", i, gates))
            expanded.update(group.classes)
    for i, group in enumerate(channels.groups):
        narrow = reads(group) & expanded and not expanded.intersection(group.classes)
        if narrow and all(i not in axis.followers for axis in found):
            found.append(Axis(group.producers[0], "bottleneck", i))
    return found


def orders(channels: Channels, scores: Scores | None) -> list[list[int]]:
    """The classes of each group, those that go first at the front: the least important, or the last ones."""
    if scores is None:
        return [sorted(group.classes, reverse=True) for group in channels.groups]
    return [sorted(group.classes, key=lambda root: (scores[root], root)) for group in channels.groups]


def proposals(
    channels: Channels, of: Sequence[Axis], price: Price, target: float, *, cap: float, multiple: int
) -> list[Proposal]:
    """For each axis the largest width at which the whole network costs no more than `target`, where there is one.

    Widths are multiples of `multiple` channels, and no group loses more than the share `cap` of its channels.
    """
    found = []
    for axis in of:
        group = channels.groups[axis.group]
        for count in ladder(group, cap, multiple):
            gone = {axis.group: count} | _following(channels, axis, count)
            cost = price(gone)
            if cost <= target:
                found.append(Proposal(axis, gone, (len(group.classes) - count) * group.width, cost))
                break
    return found


def _following(channels: Channels, axis: Axis, count: int) -> Gone:
    """What the followers of an axis lose where its group loses so many classes: the same share, by steps of 8."""
    share = 1 - count / len(channels.groups[axis.group].classes)
    gone = {}
    for place in axis.followers:
        group = channels.groups[place]
        whole = len(group.classes) * group.width
        kept = min(whole, round_channels(whole * share)) // group.width
        if 0 < kept < len(group.classes):
            gone[place] = len(group.classes) - kept
    return gone


def classes_of(proposal: Proposal, order: Sequence[Sequence[int]]) -> set[int]:
    """The classes that a proposal removes."""
    return {root for place, count in proposal.gone.items() for root in order[place][:count]}


def better(kind: str, before: tuple[float, float], one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether `one` is the better choice than `other`; all are pairs of accuracy and cost.

    `accuracy`: the more accurate, of equally accurate ones the cheaper (the paper's). `ratio`: the less accuracy lost
    for the cost saved (arXiv:1905.02244); a gain counts as no loss, so that it does not make the smallest step the
    best, and of equal ratios the larger saving is better.
    """
    if kind == "accuracy":
        return (one[0], -one[1]) > (other[0], -other[1])

    def rank(point: tuple[float, float]) -> tuple[float, float]:
        lost, saved = max(0.0, before[0] - point[0]), max(before[1] - point[1], 1e-30)
        return (lost / saved, -saved)

    return rank(one) < rank(other)


def target_of(cost: float, first: float, step: float, decay: float, iteration: int, budget: float) -> float:
    """The next target: `cost` less `step * first * decay**(iteration - 1)`, not below the budget."""
    return max(budget, cost - step * first * decay ** (iteration - 1))
