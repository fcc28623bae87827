"""Which networks no other one beats, and how much of the plane they rule. Accuracy is to be high, cost to be low."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]
"""Accuracy and cost."""


def front(points: Sequence[Point]) -> list[int]:
    """The places of the points that no other one beats, by rising cost; of equal points the first."""
    order = sorted(range(len(points)), key=lambda i: (points[i][1], -points[i][0], i))
    found: list[int] = []
    for i in order:
        if not found or points[i][0] > points[found[-1]][0]:
            found.append(i)
    return found


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The area between the front and a reference of low accuracy and high cost; points beyond it count nothing."""
    inside = [point for point in points if point[0] > reference[0] and point[1] < reference[1]]
    total, lower = 0.0, reference[0]
    for i in front(inside):
        accuracy, cost = inside[i]
        total += (reference[1] - cost) * (accuracy - lower)
        lower = accuracy
    return total
