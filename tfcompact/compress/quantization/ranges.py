"""The range over which each activation is rounded to 8 bits, found from what a float network gives for some images.

A wide range keeps every value and rounds all of them coarsely, a narrow one clips a few and rounds the rest finely;
the methods differ in what they make of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tfcompact.errors import UserError
from tfcompact.frameworks import Model, Tensor, tf
from tfcompact.networks.rewrite import listed, tensors
from tfcompact.options import require_choice

RANGES = ("percentile", "minmax", "average", "mse")
"""How `quantize` finds the range of an activation; `observe` says what each does.

`percentile` is the default. `average`, the method of TensorFlow's first quantization-aware training, was tried beside
it: no file was better by more than chance allows (docs/results.md, "Ways to 8 bits").
"""
BINS = 2048  # of a histogram: 8 to each of 256 steps while nothing is clipped
CANDIDATES = 128  # places tried for an end of a range
DECAY = 0.9  # of the moving average: the last ten batches count most


def observe(
    model: Model,
    names: list[str],
    batches: Iterable[np.ndarray],
    *,
    method: str = "percentile",
    percentile: float = 100.0,
    floors: Mapping[str, float] | None = None,
) -> dict[str, tuple[float, float]]:
    """The range of the output of each layer in `names`, of `model` run on `batches` of images `[n, px, px, 3]`.

    `percentile`: the mean over batches of the percentiles `100 - percentile` and `percentile`; at 100 the same as
    `minmax`: the least and the largest value of all. `average`: a moving average of each batch's minimum and maximum
    (arXiv:1712.05877, section 3.1), corrected for its start as Adam's are, since a calibration has few batches.
    `mse`: the least mean squared error of rounding and clipping (`least_error`; arXiv:2106.08295, section 3.1).
    `floors` are values up to which a layer's readers tell no difference: `mse` counts no error below them.
    Raises `UserError` for an unknown method, or where there is no batch.
    """
    require_choice("method for ranges", method, RANGES)
    if method == "mse":
        return _by_least_error(model, names, list(batches), floors or {})
    lows, highs = _ends(model, names, batches, percentile if method == "percentile" else 100.0)
    if method == "average":
        weights = DECAY ** np.arange(len(lows))[::-1]
        low, high = np.average(lows, axis=0, weights=weights), np.average(highs, axis=0, weights=weights)
    else:
        join = (np.min, np.max) if method == "minmax" or percentile == 100 else (np.mean, np.mean)
        low, high = join[0](lows, axis=0), join[1](highs, axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def least_error(
    counts: np.ndarray, low: float, high: float, at_ends: tuple[float, float] = (0.0, 0.0)
) -> tuple[float, float]:
    """The ends, in `low <= a <= 0 <= b <= high`, between which 8 bits make the least mean squared error.

    `counts` `[bins]` is a histogram of the values inside (low, high), without those that are exactly 0: they have no
    error in any range. Within a bin values count as spread evenly, and their error is integrated, so that a bin may
    be wider than a step. `at_ends` counts the values that are `low` and `high` (a ReLU6's 6): clipping is all the
    error they can have. The ends are searched in turn until neither moves, first over all of their way to 0, then
    about the best.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    fractions = np.arange(1, CANDIDATES + 1) / CANDIDATES
    a, b = low, high
    for around in (False, True):
        for _ in range(8):
            before = (a, b)
            for is_high in (True, False):
                now, end = (b, high) if is_high else (a, low)
                if end == 0:
                    continue
                places = now * (1 + (fractions - 0.5) / 16) if around else end * fractions
                places = np.append(np.clip(places, low, high), now)
                other = np.full_like(places, a if is_high else b)
                ends = (other, places) if is_high else (places, other)
                errors = _errors(counts, edges, *ends)
                errors += at_ends[0] * np.maximum(ends[0] - low, 0) ** 2
                errors += at_ends[1] * np.maximum(high - ends[1], 0) ** 2
                best = float(places[int(np.argmin(errors))])
                a, b = (a, best) if is_high else (best, b)
            if (a, b) == before:
                break
    return a, b


def _errors(counts: np.ndarray, edges: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """The sum of squared errors of the histogram `counts` `[bins]` in each of the ranges (`lows`, `highs`) `[k]`."""
    step = ((highs - lows) / 255)[:, np.newaxis]
    zero_point = np.round(-lows[:, np.newaxis] / step)
    least, largest = -zero_point * step, (255 - zero_point) * step
    # The squared error's integral from 0: 1/12 for each whole step passed, a cube for the rest, a cube outside.
    inside = np.clip(edges, least, largest) / step
    whole = np.round(inside)
    integral = step**3 * (whole / 12 + (inside - whole) ** 3 / 3)
    integral += (np.maximum(edges - largest, 0) ** 3 + np.minimum(edges - least, 0) ** 3) / 3
    return np.diff(integral) @ counts / (edges[1] - edges[0])


def _by_least_error(
    model: Model, names: list[str], batches: list[np.ndarray], floors: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """The range of each layer's output by `least_error`, from histograms of two passes over `batches`."""
    lows, highs = _ends(model, names, batches, 100.0)
    least = np.array([floors.get(name, -np.inf) for name in names])
    low = np.minimum(np.maximum(lows.min(0), least), 0.0).astype(np.float32)
    high = np.maximum(highs.max(0), 1e-3).astype(np.float32)
    probe = tensors(model, names)

    @tf.function(reduce_retracing=True)
    def histograms(images: Tensor) -> Tensor:
        rows = []
        for values, a, b in zip(listed(probe(images)), low, high, strict=True):
            inside = tf.boolean_mask(values, tf.not_equal(values, 0) & (values > a) & (values < b))
            ends = tf.stack([tf.math.count_nonzero(values <= a), tf.math.count_nonzero(values >= b)])
            counts = tf.histogram_fixed_width(inside, [a, b], BINS)
            rows.append(tf.concat([tf.cast(ends, tf.int32), counts], 0))
        return tf.stack(rows)

    counts = sum(histograms(tf.constant(images)).numpy().astype(np.float64) for images in batches)
    return {
        name: least_error(row[2:], float(a), float(b), (row[0] if a < 0 else 0.0, row[1]))
        for name, row, a, b in zip(names, counts, low, high, strict=True)
    }


def _ends(
    model: Model, names: list[str], batches: Iterable[np.ndarray], percentile: float
) -> tuple[np.ndarray, np.ndarray]:
    """For each batch the percentiles `100 - percentile` and `percentile` of each layer's output, `[batches, n]`."""
    probe = tensors(model, names)
    lows, highs = [], []

    @tf.function(reduce_retracing=True)
    def ends(images: Tensor) -> Tensor:
        rows = []
        for values in listed(probe(images)):
            flat = tf.reshape(values, [-1])
            if percentile < 100:
                # Whole positions: steps through single values could meet one channel only. Odd: not one column.
                positions = tf.reshape(values, [-1, values.shape[-1]])[:: tf.size(flat) // 200_000 * 2 + 1]
                flat = tf.sort(tf.reshape(positions, [-1]))
                last = tf.cast(tf.size(flat) - 1, tf.float32)
                at = tf.cast(tf.round(last * percentile / 100), tf.int32)
                rows.append(tf.stack([flat[tf.size(flat) - 1 - at], flat[at]]))
            else:
                rows.append(tf.stack([tf.reduce_min(flat), tf.reduce_max(flat)]))
        return tf.stack(rows)

    for images in batches:
        low, high = ends(tf.constant(images)).numpy().T
        lows.append(low)
        highs.append(high)
    if not lows:
        raise UserError("no calibration images; give at least one batch")
    return np.array(lows), np.array(highs)
