"""Codebooks of 8-bit integers: the few values that the weights of a layer may have. No TensorFlow.

The weights are counted by value, 255 of them, so that the best codebook can be found and not only approached: k-means
of one dimension has an exact solution by dynamic programming (Wang and Song, R Journal 3/2, 2011).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np

LARGEST = 127
VALUES = np.arange(-LARGEST, LARGEST + 1)
"""What a weight may be on TFLite's symmetric grid."""


def counted(integers: np.ndarray) -> np.ndarray:
    """How often each of `VALUES` occurs, `[255]`. Raises `ValueError` for integers outside."""
    if np.abs(integers).max(initial=0) > LARGEST:
        raise ValueError(f"an integer outside [-{LARGEST}, {LARGEST}]")
    return np.bincount(integers.reshape(-1).astype(np.int64) + LARGEST, minlength=len(VALUES))


def codebook(counts: np.ndarray, size: int, pinned: Iterable[int] = ()) -> np.ndarray:
    """The integers, `size` at most and in order, with the least inertia for weights counted `[255]`.

    Where no more than `size` values occur, these are the codebook, and nothing changes. Those `pinned` are always in
    it. Raises `ValueError` where these are more than `size`.
    """
    fixed = {int(value) for value in pinned}
    there = {int(value) for value in VALUES[counts > 0]} | fixed
    if len(fixed) > size:
        raise ValueError(f"{len(fixed)} values are pinned, and the codebook has {size}")
    if len(there) <= size:
        return np.array(sorted(there))
    candidates = np.arange(min(there), max(there) + 1)
    weights = counts[candidates + LARGEST].astype(np.float64)
    between = _between(candidates, weights, fixed)
    before, after = _outside(candidates, weights, fixed)
    best, chosen = before, []
    for _ in range(size - 1):
        total = best[:, None] + between
        chosen.append(total.argmin(0))
        best = total.min(0)
    place = int((best + after).argmin())
    places = [place]
    for step in reversed(chosen):
        place = int(step[place])
        places.append(place)
    return candidates[places[::-1]]


def nearest(codes: np.ndarray) -> np.ndarray:
    """For each of `VALUES` the nearest of the codes `[n]`, the lower of two: `[255]`."""
    ordered = np.sort(codes)
    return ordered[np.abs(VALUES[:, None] - ordered).argmin(1)]


def inertia(counts: np.ndarray, codes: np.ndarray) -> float:
    """The sum of the squared distances of weights counted `[255]` from their codes."""
    return float((counts * (VALUES - nearest(codes)) ** 2.0).sum())


def entropy(counts: np.ndarray) -> float:
    """Bits for each weight that an ideal code of single values needs."""
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def zipped_bytes(tensors: Sequence[np.ndarray]) -> int:
    """The bytes of integer tensors one after the other when they are deflated, as an archive or an APK does it."""
    return len(zlib.compress(b"".join(tensor.astype(np.int8).tobytes() for tensor in tensors), 9))


def _between(candidates: np.ndarray, weights: np.ndarray, pinned: set[int]) -> np.ndarray:
    """The inertia of the weights between two neighbouring codes, `[first, second]`.

    It is infinite where the second does not follow the first, and where a pinned value would lie between them.
    """
    n = len(candidates)
    found = np.full((n, n), np.inf)
    is_pinned = np.isin(candidates, list(pinned))
    for first in range(n):
        for second in range(first + 1, n):
            inside = slice(first + 1, second)
            if is_pinned[inside].any():
                break
            to_first, to_second = candidates[inside] - candidates[first], candidates[second] - candidates[inside]
            found[first, second] = weights[inside] @ np.minimum(to_first, to_second) ** 2.0
    return found


def _outside(candidates: np.ndarray, weights: np.ndarray, pinned: set[int]) -> tuple[np.ndarray, np.ndarray]:
    """The inertia of what is below the first code, and of what is above the last, `[n]` each."""
    squares = (candidates[:, None] - candidates[None]) ** 2.0
    below = np.tril(np.ones_like(squares), -1)
    is_pinned = np.isin(candidates, list(pinned)).astype(np.float64)
    blocked_before, blocked_after = below @ is_pinned > 0, below.T @ is_pinned > 0
    before, after = (below * squares) @ weights, (below.T * squares) @ weights
    return np.where(blocked_before, np.inf, before), np.where(blocked_after, np.inf, after)
