"""A row of a comparison over its seeds, and what it is compared with: the plain network of equal cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tfcompact.comparison.intervals import mean_interval, share_interval
from tfcompact.comparison.row_result import RowResult

Cost = Callable[["Line"], float | None]
SLACK = 1.02
"""How far beyond the costs of the plain networks a row may lie and still be compared with the nearest."""


@dataclass(frozen=True)
class Line:
    """The mean over the seeds of a row. Accuracies and `half`, half a 95 % interval, are in percent.

    `half` is that of the mean over seeds; of one seed that of a share of its test images. `gain_macs` and
    `gain_zipped` are the percentage points by which the row is better than plain networks with as many multiply-adds,
    or of as many deflated bytes: between two of them on the logarithm of the cost. None beyond them.
    """

    number: int
    name: str
    kind: str
    plain: bool
    seeds: int
    error: str
    first: RowResult
    accuracy: float = 0.0
    float_accuracy: float = 0.0
    half: float = 0.0
    macs: float = 0.0
    zipped_bytes: float = 0.0
    gain_macs: float | None = None
    gain_zipped: float | None = None
    fronts: tuple[str, ...] = ()

    @property
    def ms(self) -> float | None:
        """The median time of one inference in ms, of the first seed's file."""
        return self.first.ms

    @property
    def instructions(self) -> Mapping[str, int]:
        """By emulated processor, of the first seed's file."""
        return self.first.instructions


COSTS: dict[str, Cost] = {
    "ms": lambda line: line.ms,
    "zip": lambda line: line.zipped_bytes,
}
"""The costs that have a front, by the words for it."""


def lines(results: Sequence[RowResult]) -> list[Line]:
    """A line for each row, in the order of the first results. Seeds that failed are left out, where not all did."""
    rows: dict[str, list[RowResult]] = {}
    for result in results:
        rows.setdefault(result.row, []).append(result)
    found = [_mean(number, of_row) for number, of_row in enumerate(rows.values(), 1)]
    whole = [line for line in found if not line.error]
    plain = [line for line in whole if line.plain]
    fronts = {name: {line.number for line in front(whole, cost)} for name, cost in COSTS.items()}
    return [line if line.error else _compared(line, plain, fronts) for line in found]


def front(found: Sequence[Line], cost: Cost) -> list[Line]:
    """The lines that no other beats in both accuracy and cost, the cheapest first."""
    known = [(price, line) for line in found if (price := cost(line)) is not None]
    best: list[Line] = []
    for _, line in sorted(known, key=lambda pair: (pair[0], -pair[1].accuracy)):
        if not best or line.accuracy > best[-1].accuracy:
            best.append(line)
    return best


def at_equal_cost(plain: Sequence[Line], cost: Callable[[Line], float], wanted: float) -> float | None:
    """The accuracy in percent of a plain network that costs so much; None beyond those that there are."""
    points = sorted((cost(line), line.accuracy) for line in plain)
    if len(points) < 2 or not points[0][0] / SLACK <= wanted <= points[-1][0] * SLACK:
        return None
    wanted = min(max(wanted, points[0][0]), points[-1][0])
    for (low, under), (high, over) in zip(points, points[1:], strict=False):
        if low <= wanted <= high:
            share = 0.0 if high == low else math.log(wanted / low) / math.log(high / low)
            return under + share * (over - under)
    return None


def _mean(number: int, results: Sequence[RowResult]) -> Line:
    whole = [result for result in results if not result.error]
    first = (whole or list(results))[0]
    plain = Line(number, first.row, first.kind, first.plain, len(whole), "" if whole else first.error, first)
    if not whole:
        return plain
    middle, half = mean_interval([100 * result.accuracy for result in whole])
    return Line(
        number,
        first.row,
        first.kind,
        first.plain,
        len(whole),
        "",
        first,
        accuracy=middle,
        float_accuracy=statistics.mean(100 * result.float_accuracy for result in whole),
        half=100 * share_interval(first.accuracy, first.images) if half is None else half,
        macs=statistics.mean(result.macs for result in whole),
        zipped_bytes=statistics.mean(result.zipped_bytes for result in whole),
    )


def _compared(line: Line, plain: Sequence[Line], fronts: Mapping[str, set[int]]) -> Line:
    """The line with its differences from plain networks, and the fronts it is on."""

    def gain(cost: Callable[[Line], float]) -> float | None:
        equal = None if line.plain else at_equal_cost(plain, cost, cost(line))
        return None if equal is None else line.accuracy - equal

    return replace(
        line,
        gain_macs=gain(lambda each: each.macs),
        gain_zipped=gain(lambda each: each.zipped_bytes),
        fronts=tuple(name for name, numbers in fronts.items() if line.number in numbers),
    )
