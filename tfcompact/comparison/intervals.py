"""How far a mean over a few seeds, or a share of a few images, may be from the truth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

# Student's t for 95 % on both sides, by degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.2).
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
Z95 = 1.96


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and half the width of its 95 % interval by Student's t; None for a single value."""
    middle = statistics.mean(values)
    if len(values) < 2:
        return middle, None
    return middle, T95[min(len(values) - 1, max(T95))] * statistics.stdev(values) / math.sqrt(len(values))


def share_interval(share: float, count: int) -> float:
    """Half the width of the 95 % interval of a share in [0, 1] of `count` images, by the normal approximation."""
    return Z95 * math.sqrt(share * (1 - share) / count)
