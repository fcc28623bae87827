"""Timed runs as samples: how many are few, and whether they are steady."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST_RUNS = 50


def steadiness(wall: Sequence[float]) -> dict[str, bool]:
    """The flags of times in any unit; none where there are fewer than two.

    `noisy`: p90 is half as much again as p50. `drifting`: the second half of the runs took a tenth longer than the
    first.
    """
    if len(wall) < 2:
        return {}
    half = len(wall) // 2
    p50, p90 = np.percentile(wall, (50, 90))
    return {
        "noisy": bool(p90 > 1.5 * p50),
        "drifting": bool(np.median(wall[half:]) > 1.1 * np.median(wall[:half])),
    }
