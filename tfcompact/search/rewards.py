"""What makes one network better than another when accuracy and cost both count.

`T` is the target cost. MnasNet's (arXiv:1807.11626, section 3): `accuracy * (cost / T) ** w`, soft with the same
exponent on both sides of the target, hard with none below it. TuNAS's (arXiv:2008.06120, section 4): `accuracy +
beta * |cost / T - 1|`, whose best networks cost what was asked for. Accuracies are shares in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tfcompact.errors import UserError
from tfcompact.options import require, require_choice

SOFT, HARD, V3, ABSOLUTE = -0.07, -1.0, -0.15, -0.10
"""The exponents of MnasNet's soft and hard rewards and of MobileNetV3-Small's (arXiv:1905.02244, section 4.1), and
TuNAS's beta."""
KINDS = ("soft", "hard", "v3", "absolute")
Reward = Callable[[float, float], float]
"""Accuracy and cost -> reward."""


def soft_exponent(gain: float = 0.05, times: float = 2.0) -> float:
    """The exponent under which a network `times` as slow and by the share `gain` more accurate is as good.

    MnasNet's own numbers, 5 % for twice the latency, give -0.0704; the paper says -0.07.
    """
    require(gain > 0, "gain", gain, "positive")
    require(times > 1, "times", times, "above 1")
    return -math.log(1 + gain) / math.log(times)


def reward(kind: str, target: float, weight: float | None = None) -> Reward:
    """The reward of that kind; `weight` takes the place of its exponent, or of its beta.

    Raises `UserError` for a target or a weight that means nothing.
    """
    require_choice("reward", kind, KINDS)
    require(math.isfinite(target) and target > 0, "target", target, "a positive number")
    usual = {"soft": SOFT, "hard": HARD, "v3": V3, "absolute": ABSOLUTE}[kind]
    w = usual if weight is None else weight
    require(math.isfinite(w) and w < 0, "weight", w, "negative: what costs more is worth less")
    if kind == "absolute":
        return lambda accuracy, cost: accuracy + w * abs(_positive(cost) / target - 1)
    if kind == "hard":
        return lambda accuracy, cost: accuracy * min(1.0, (_positive(cost) / target) ** w)
    return lambda accuracy, cost: accuracy * (_positive(cost) / target) ** w


def _positive(cost: float) -> float:
    if not math.isfinite(cost) or cost <= 0:
        raise UserError(f"a network's cost must be a positive number, not {cost!r}; its latency table is damaged")
    return cost
