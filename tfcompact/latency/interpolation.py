"""What operators cost at widths that were not measured, from those that were.

Two operators have one *form* where their configurations differ in numbers of channels alone. Among the measured rows
of a form the cost of another width is found: convolutions cost the same for all output channels of one step of the
device's kernels (`Table.step`), and within a step their cost is close to `a + b in + c out + d in out` with no
coefficient below 0, everything else is close to a line. What the measured rows differ from that is interpolated
between them, so a measured width has its measured cost. Every prediction says how much of it was found in this way.

No TensorFlow here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfcompact.latency.cost_table import Table
from tfcompact.options import require
from tfcompact.tflite import fused_groups
from tfcompact.tflite.fused_groups import Network

USUAL_STEP = 16
"""Output channels of a step of most int8 kernels, for tables that were made before it was measured."""
_TENSOR = re.compile(r"(?P<head>(?:const )?[a-z]+\d+[/a-z]*)\[(?P<shape>[\d,]*)\](?P<values>=[-\d,]+)?")
_WIDE_VALUES = ("RESHAPE", "STRIDED_SLICE", "SLICE")  # kinds whose small constants hold numbers of channels
_ANY = "*"


class Form(NamedTuple):
    """A configuration with its numbers of channels apart: those it reads and those it writes."""

    text: str
    reads: int
    writes: int


class Prediction(NamedTuple):
    """The cost of a network, in the unit of the table, and the share of it that was interpolated, in [0, 1]."""

    cost: float
    interpolated: float


def form(configuration: str) -> Form:
    """The form of an operator's configuration, as `tflite.fused_groups` writes them."""
    reads = writes = 0
    texts = []
    for number, operator in enumerate(configuration.split("; ")):
        kind = operator.partition(" ")[0]
        before, arrow, after = operator.partition(" -> ")
        channels: list[int] = []
        texts.append(_TENSOR.sub(functools.partial(_starred, kind, channels), before))
        if number == 0:
            reads = sum(channels)
        channels = []
        texts[-1] += arrow + _TENSOR.sub(functools.partial(_starred, kind, channels), after)
        writes = sum(channels)
    return Form("; ".join(texts), reads, writes)


def _starred(kind: str, channels: list[int], found: re.Match[str]) -> str:
    """A tensor's text without its channels, which are added to the list where it is no constant."""
    head, values = found["head"], found["values"] or ""
    shape = [int(size) for size in found["shape"].split(",") if size]
    if values:
        return f"{head}[{found['shape']}]{'' if kind in _WIDE_VALUES else values}"
    if not shape:
        return found[0]
    text: list[object] = list(shape)
    text[-1] = _ANY
    if head.startswith("const"):
        if kind in ("CONV_2D", "FULLY_CONNECTED") and len(shape) > 1:
            text[0] = _ANY
    elif len(shape) == 5:  # channels dealt out in groups, before a shuffle or after it
        text[-2] = _ANY
        channels.append(shape[-1] * shape[-2])
    else:
        channels.append(shape[-1])
    return f"{head}[{','.join(map(str, text))}]"


class Interpolated:
    """A table that knows widths that it does not hold. `step` is that of its device."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.step = table.step or USUAL_STEP
        self._points: dict[str, dict[tuple[int, int], float]] = {}
        for configuration in table.alone:
            shaped = form(configuration)
            self._points.setdefault(shaped.text, {})[self._place(shaped)] = table.cost(configuration)
        self._fits: dict[str, _Fit] = {}
        self._known: dict[str, float] = {}

    def read(self, content: bytes) -> Network:
        """What of a file decides its cost in the table's setting."""
        return fused_groups.read(content, self.table.setting.delegate)

    def parts(self, content: bytes) -> tuple[list[tuple[str, str]], int]:
        """Name and configuration of each of a file's operators, and the pieces that XNNPACK runs."""
        found = fused_groups.parts(content, self.table.setting.delegate)
        network = fused_groups.made_of(found, content, self.table.setting.delegate)
        return [(part.name, part.configuration) for part in found], network.partitions

    def predict_parts(self, configurations: Sequence[str], partitions: int) -> Prediction:
        """The cost of a network of these operators."""
        return self.predict(Network(tuple(configurations), partitions))

    def predict(self, network: Network, *, name: str = "the network") -> Prediction:
        """The cost of one inference of a network that is run over and over.

        Raises `UserError` where the table has no operator of a form, with the command that adds it.
        """
        missing = [c for c in self.table.missing(network) if form(c).text not in self._points]
        if missing:
            self.table.refuse(missing, name)
        cost = self.table.total(network, self.cost)
        unknown = sum(self.cost(c) for c in network.configurations if c not in self.table.alone)
        whole = sum(map(self.cost, network.configurations))
        return Prediction(cost, unknown / whole if whole else 0.0)

    def cost(self, configuration: str) -> float:
        """What the operator adds to a network: measured, or interpolated between measured ones of its form.

        Raises `UserError` where there are none.
        """
        if configuration in self.table.alone:
            return self.table.cost(configuration)
        if configuration not in self._known:
            shaped = form(configuration)
            if shaped.text not in self._points:
                self.table.refuse([configuration], "the network")
            if shaped.text not in self._fits:
                self._fits[shaped.text] = _Fit(self._points[shaped.text], self.step)
            self._known[configuration] = self._fits[shaped.text].at(self._place(shaped))
        return self._known[configuration]

    def _place(self, shaped: Form) -> tuple[int, int]:
        """Where a width stands: channels read and written, the latter at the end of their step where there is one."""
        if shaped.text.startswith(("CONV_2D", "FULLY_CONNECTED", "PAD")):
            return shaped.reads, -(-shaped.writes // self.step) * self.step
        return shaped.reads, shaped.writes


class _Fit:
    """A surface through points `(reads, writes) -> cost`; kernels go by steps of `step` channels."""

    def __init__(self, points: dict[tuple[int, int], float], step: int) -> None:
        from scipy.optimize import nnls  # takes a while to load, and few tables are asked for what they do not hold

        self.places = np.array(list(points), float)
        costs = np.array(list(points.values()), float)
        floor = max(float(costs.max()) * 1e-6, 1e-12)
        self.costs = np.maximum(costs, floor)
        self.step = step
        self.plane = bool((self.places[:, 0] == self.places[:, 1]).all())
        rows = self._features(self.places)
        scaled = rows / self.costs[:, None]  # relative errors count
        sizes = np.maximum(np.linalg.norm(scaled, axis=0), 1e-30)
        found, _ = nnls(scaled / sizes, np.ones(len(costs)))
        self.weights = found / sizes
        self.rest = np.log(self.costs / np.maximum(rows @ self.weights, floor))

    def at(self, place: tuple[int, int]) -> float:
        """The cost at a place."""
        there = np.array([place], float)
        plain = float((self._features(there) @ self.weights)[0])
        apart = np.square(np.log(self.places / np.maximum(there, 1.0))).sum(1)
        if apart.min() == 0:
            return float(self.costs[apart.argmin()])
        shares = 1 / apart
        return plain * float(np.exp((shares * self.rest).sum() / shares.sum()))

    def _features(self, places: np.ndarray) -> np.ndarray:
        """What the cost is a sum of; the fewer points there are, the fewer."""
        reads, writes = places.T
        product = writes if self.plane else reads * writes
        count = len(self.places)
        columns: Sequence[np.ndarray]
        if count == 1:
            columns = [product]
        elif self.plane:  # channels beyond the last whole step are done one by one, at every position
            columns = [np.ones_like(reads), product, (writes % self.step > 0).astype(float)]
        elif count < 4:
            columns = [np.ones_like(reads), product]
        else:
            columns = [np.ones_like(reads), reads, writes, product]
        return np.stack(columns, axis=1)


def step_of(costs: dict[int, float], tolerance: float) -> int:
    """The number of output channels of one step, from the costs of convolutions that differ in them alone.

    `costs` are of multiples of 4 up to 64. A step is the largest of 4, 8, 16 and 32 within which costs differ by no
    more than the share `tolerance`, but for the first, which is often narrower.
    """
    require(sorted(costs) == list(range(4, 65, 4)), "costs", sorted(costs), "of 4, 8, … 64 channels")
    for step in (32, 16, 8):
        bins = [[costs[c] for c in costs if start < c <= start + step] for start in range(step, 64, step)]
        if all(max(within) <= min(within) * (1 + tolerance) for within in bins):
            return step
    return 4
