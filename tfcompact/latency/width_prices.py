"""What a network costs at other widths of its layers, without building any of them.

Every number in the configuration of an operator falls by so much a class of channels that a group loses: that of a
convolution's input by the channels that it reads of the class, that of its output by those that it writes, most
others by nothing. What they may fall by is known from the network; which number falls by which is found with a few
networks whose groups have lost different numbers of classes. What follows is arithmetic. No TensorFlow here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tfcompact.errors import UserError
from tfcompact.latency.interpolation import Interpolated, Prediction
from tfcompact.tflite.fused_groups import Network

Gone = Mapping[int, int]
"""How many classes each group has lost, by the group's place; those that lost none may be missing."""
_NUMBER = re.compile(r"(?<![A-Za-z_])\d+")
DIVISORS = (1, 2, 3, 4, 8)  # a grouped convolution, or a shuffle, has a part of the channels in one of its numbers


class WidthPrices:
    """The cost of a network as a function of how many classes of channels each of its groups has lost.

    `whole` is the network. `falls` are what numbers may fall by: for each group the channels of one class. `probes`
    are networks whose groups have lost classes. Raises `UserError` where one of them has other operators than the
    whole, or numbers that nothing in `falls` explains.
    """

    def __init__(
        self,
        prices: Interpolated,
        whole: Network,
        falls: Sequence[Mapping[int, int]],
        probes: Sequence[tuple[Gone, Network]],
    ) -> None:
        self.prices, self.partitions = prices, whole.partitions
        self.texts = [_NUMBER.split(text) for text in whole.configurations]
        self.numbers = [_numbers(text) for text in whole.configurations]
        seen = []
        for _, network in probes:
            if [_NUMBER.split(text) for text in network.configurations] != self.texts:
                raise UserError(
                    "a network with fewer channels has other operators than the whole one, so its cost cannot be "
                    "told without building it; ask for macs instead of the table's cost"
                )
            seen.append([_numbers(text) for text in network.configurations])
        known = _explained(falls, [gone for gone, _ in probes])
        self.falls: list[dict[int, tuple[Mapping[int, int], int]]] = []
        for i, numbers in enumerate(self.numbers):
            lost = [tuple(number - other[i][k] for other in seen) for k, number in enumerate(numbers)]
            if unknown := [k for k, one in enumerate(lost) if any(one) and one not in known]:
                raise UserError(
                    f"a number of {whole.configurations[i]} falls by {lost[unknown[0]]}, which no layer's channels "
                    "do; ask for macs instead of the table's cost"
                )
            self.falls.append({k: known[one] for k, one in enumerate(lost) if any(one)})

    def network(self, gone: Gone) -> Network:
        """The network's operators where each group has lost so many classes."""
        return Network(tuple(self._text(i, gone) for i in range(len(self.texts))), self.partitions)

    def price(self, gone: Gone) -> Prediction:
        """What it costs then."""
        return self.prices.predict(self.network(gone))

    def _text(self, i: int, gone: Gone) -> str:
        numbers = list(self.numbers[i])
        for k, (fall, divisor) in self.falls[i].items():
            numbers[k] -= _lost(fall, gone) // divisor
        first, *rest = self.texts[i]
        return first + "".join(f"{number}{text}" for number, text in zip(numbers, rest, strict=True))


def _explained(
    falls: Sequence[Mapping[int, int]], gone: Sequence[Gone]
) -> dict[tuple[int, ...], tuple[Mapping[int, int], int]]:
    """What numbers lose in the probes -> what they fall by for each class, and the part of it that they hold.

    Falls that lose the same in all probes may not be told apart: where two do, the later probes must differ more.
    """
    found: dict[tuple[int, ...], tuple[Mapping[int, int], int]] = {}
    for divisor in DIVISORS:
        for fall in falls:
            lost = tuple(_lost(fall, one) for one in gone)
            if not any(lost) or any(one % divisor for one in lost):
                continue
            key = tuple(one // divisor for one in lost)
            if key not in found:
                found[key] = (fall, divisor)
            elif found[key][1] == divisor and dict(found[key][0]) != dict(fall):
                raise UserError("two layers lose the same channels in every probe; this is a fault of tfcompact")
    return found


def _lost(fall: Mapping[int, int], gone: Gone) -> int:
    return sum(channels * gone.get(group, 0) for group, channels in fall.items())


def _numbers(text: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(text)]
