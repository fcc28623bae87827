"""What the operators of a network cost: multiply-adds, memory, traffic, energy. No TensorFlow; see `operators`.

Every operator reads its weights and its inputs once and writes its output once. Activations go through a cache;
weights come from DRAM, once for each image.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Shape = tuple[int, ...]
"""Of one image's tensor: `(h, w, c)` or `(c,)`."""


@dataclass(frozen=True)
class Precision:
    """A number format: bytes of a weight or activation (biases have 4), and picojoules of a multiply-add."""

    name: str
    bytes: int
    mac_pj: float


# Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, Figure 1.1.9: 45 nm, 0.9 V.
# 8-bit products are summed in 32 bits.
INT8 = Precision("int8", 1, mac_pj=0.2 + 0.1)
FLOAT32 = Precision("float32", 4, mac_pj=3.7 + 0.9)
PRECISIONS = {8: INT8, 32: FLOAT32}
CACHE_PJ = 100 / 8
"""The energy of a byte to or from a cache of 1 MB: 100 pJ for 64 bits, same figure."""
DRAM_PJ = 640 / 4
"""The energy of a byte from DRAM: 640 pJ for 32 bits, Han et al. 2015, arXiv:1506.02626, Figure 1. Horowitz' figure
says 1.3 to 2.6 nJ for 64, of which this is the low end."""


@dataclass(frozen=True)
class Operator:
    """One step of a network. `reads` are the operators, or the input, whose outputs are `inputs`.

    `params` are those of its Keras layers; `weights` and `biases` what is left of them when batch normalization is
    folded. `kernel` and `groups` are those of a convolution.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    inputs: tuple[Shape, ...]
    output: Shape
    params: int = 0
    macs: int = 0
    weights: int = 0
    biases: int = 0
    kernel: tuple[int, int] | None = None
    stride: int = 1
    groups: int = 1
    nonlinearity: str | None = None
    normalized: bool = False

    @property
    def block(self) -> str:
        """The part of the network it belongs to."""
        return block_of(self.name)

    def cost(self, precision: Precision) -> Cost:
        """What it costs with numbers of that format."""
        return Cost(
            params=self.params,
            macs=self.macs,
            weight_bytes=self.weights * precision.bytes + self.biases * 4,
            read_bytes=sum(map(math.prod, self.inputs)) * precision.bytes,
            written_bytes=math.prod(self.output) * precision.bytes,
            arithmetic_pj=self.macs * precision.mac_pj,
        )


@dataclass(frozen=True)
class Cost:
    """Costs of one image, which add."""

    params: int = 0
    macs: int = 0
    weight_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    arithmetic_pj: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cost(*(a + b for a, b in pairs))

    @property
    def moved_bytes(self) -> int:
        """The bytes of weights and inputs that are read, and of outputs that are written."""
        return self.weight_bytes + self.read_bytes + self.written_bytes

    @property
    def intensity(self) -> float:
        """How many multiply-adds there are for each byte moved (arithmetic intensity)."""
        return self.macs / self.moved_bytes

    @property
    def weights_pj(self) -> float:
        """The energy of reading the weights from DRAM."""
        return self.weight_bytes * DRAM_PJ

    @property
    def activations_pj(self) -> float:
        """The energy of reading and writing activations in the cache."""
        return (self.read_bytes + self.written_bytes) * CACHE_PJ

    @property
    def energy_pj(self) -> float:
        """The energy of arithmetic, weights and activations; adding, pooling and control are not counted."""
        return self.arithmetic_pj + self.weights_pj + self.activations_pj


@dataclass(frozen=True)
class Block:
    """Operators that a common beginning of their names makes one part of the network, in the order they run.

    `input` is what it reads from outside, of several the one made last; `output` what its last operator writes.
    `expansion` is how many times the channels of `input` its only convolution of more than 1x1 has, where a 1x1
    convolution follows it (an inverted residual, or with less than 1 a bottleneck). `squeezed` are the channels in
    the middle of squeeze-and-excite. `nonlinearities` leave those inside squeeze-and-excite out.
    """

    name: str
    operators: tuple[Operator, ...]
    cost: Cost
    input: Shape
    output: Shape
    stride: int
    expansion: float | None
    squeezed: int | None
    nonlinearities: tuple[str, ...]


@dataclass(frozen=True)
class Peak:
    """The moment when activations take most memory: while `operator` runs; `alive` are the outputs kept, in bytes."""

    operator: str
    bytes: int
    alive: tuple[tuple[str, int], ...] = field(repr=False)


@dataclass(frozen=True)
class Profile:
    """A network's costs with numbers of one format."""

    model: str
    px: int
    precision: Precision
    operators: tuple[Operator, ...]
    blocks: tuple[Block, ...]
    peak: Peak

    @property
    def total(self) -> Cost:
        """The costs of the whole network."""
        return total(block.cost for block in self.blocks)

    @property
    def whole(self) -> Block:
        """The network as one block, called `all`."""
        first, last = self.operators[0], self.operators[-1]
        stride = _stride(self.operators, first.reads[0])
        return Block("all", self.operators, self.total, first.inputs[0], last.output, stride, None, None, ())


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of several costs."""
    return sum(costs, Cost())


def blocks(steps: Sequence[Operator], precision: Precision) -> tuple[Block, ...]:
    """The parts of the network in the order of their first operators."""
    parts: dict[str, list[Operator]] = {}
    for step in steps:
        parts.setdefault(step.block, []).append(step)
    order = {step.name: i for i, step in enumerate(steps)}
    return tuple(_block(name, part, order, precision) for name, part in parts.items())


def peak(steps: Sequence[Operator], precision: Precision) -> Peak:
    """The step at which the activations in memory are most.

    They are the input and every output made so far that is still to be read, and what is being read and written. No
    operator works in place, and weights are not counted. Steps run in Keras' order, which is the exported file's;
    another order of branches may need less.
    """
    last_read = {name: i for i, step in enumerate(steps) for name in step.reads}
    sizes = {name: math.prod(shape) for step in steps for name, shape in zip(step.reads, step.inputs, strict=True)}
    alive = {name: size for name, size in sizes.items() if name not in {step.name for step in steps}}  # the input
    best = Peak("", -1, ())
    for i, step in enumerate(steps):
        alive[step.name] = math.prod(step.output)
        if (bytes_ := sum(alive.values()) * precision.bytes) > best.bytes:
            best = Peak(step.name, bytes_, tuple((n, size * precision.bytes) for n, size in alive.items()))
        alive = {name: size for name, size in alive.items() if last_read.get(name, len(steps)) > i}
    return best


def block_of(layer: str) -> str:
    """The block that a layer's name says it is in.

    `block3_1_expand` is in `block3_1`, `mixed_5b_0_1` in `mixed_5b`, `fire2_squeeze` in `fire2`, `stem_0` in `stem`.
    """
    first, *rest = layer.split("_")
    if not rest or first in ("stem", "head", "logits", "aux"):
        return first
    numbered = rest[0].isdigit() if first[-1].isdigit() else re.match(r"\d", rest[0])
    return f"{first}_{rest[0]}" if numbered else first


def _block(name: str, part: Sequence[Operator], order: dict[str, int], precision: Precision) -> Block:
    """The block of that name, with its operators' costs, its ends, and what tables say of it."""
    inside = {step.name for step in part}
    entries = [(r, s) for step in part for r, s in zip(step.reads, step.inputs, strict=True) if r not in inside]
    before, entry = max(entries, key=lambda pair: order.get(pair[0], -1))
    excite = next((step.name.removesuffix("excite") for step in part if step.name.endswith("_excite")), None)
    gate = {f"{excite}{p}" for p in ("squeeze", "reduce", "expand", "excite")} if excite else set()
    return Block(
        name,
        tuple(part),
        total(step.cost(precision) for step in part),
        entry,
        part[-1].output,
        _stride(part, before),
        _expansion([s for s in part if s.kernel and s.name not in gate], part, entry),
        next((step.output[-1] for step in part if step.name == f"{excite}reduce"), None),
        tuple(dict.fromkeys(s.nonlinearity for s in part if s.nonlinearity and s.name not in gate)),
    )


def _stride(part: Sequence[Operator], entry: str) -> int:
    """How many positions of `entry`'s output, down or across, become one of the last operator's."""
    so_far = {entry: 1}
    for step in part:
        if before := [so_far[name] for name in step.reads if name in so_far]:
            so_far[step.name] = step.stride * max(before)
    return so_far[part[-1].name]


def _expansion(convolutions: Sequence[Operator], part: Sequence[Operator], entry: Shape) -> float | None:
    """How many times the channels of `entry` the block's only wide convolution has; None where that says nothing."""
    wide = [step for step in convolutions if step.kernel != (1, 1)]
    if len(wide) != 1:
        return None
    behind = {wide[0].name}
    for step in part:
        if behind.intersection(step.reads):
            behind.add(step.name)
    followed = any(step.name in behind for step in convolutions if step is not wide[0])
    return wide[0].output[-1] / entry[-1] if followed else None
