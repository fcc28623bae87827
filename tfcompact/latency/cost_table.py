"""What a network costs on a device, as the sum of what its operators cost there: prediction without measuring.

A `Table` holds, for one device and setting, the cost of every operator that was measured as a file of its own
(`table_making` makes tables). The cost of a whole file is then

    invoke + partition * (pieces that XNNPACK runs) + company * the sum over operators of (cost alone - overhead)

where `invoke` is what any run of any file costs and `partition` what entering XNNPACK costs, both found with files of
copies of one tiny operator. Alone, an operator meets what it left in the processor a moment ago (code, the history
of its branches, its values); `company` is how much longer operators take in a file with others. It depends on how
many bytes they hand on, and is found with files of many different ones, for small images and large. Nothing is fitted
to whole networks. An operator's overhead, alone, is `invoke`, and `partition` where XNNPACK runs it.

What is priced are the parts of a file (`tflite.fused_groups`): operators, or several that XNNPACK makes one of. A
table of an emulated processor counts instructions and can never say ms.

Alone, an operator finds its weights in the nearest cache; in a network they have to be fetched. `Fetching` says what
a byte costs then: in a network that is run over and over, whose weights are in the caches as far as they go, and in
one that is run between other work. A prediction is of the first unless asked otherwise. Instructions know no caches.

No TensorFlow here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from tfcompact import files
from tfcompact.errors import UserError
from tfcompact.latency.operator_bytes import activation_bytes, weight_bytes
from tfcompact.options import require, require_choice
from tfcompact.records.device import Device
from tfcompact.records.record import Record
from tfcompact.tflite import flatbuffer
from tfcompact.tflite.fused_groups import Network, read

SCHEMA = 1
UNITS = ("ms", "instructions")


class Alone(NamedTuple):
    """What a file with one operator costs, with its overhead, and whether XNNPACK runs it."""

    cost: float
    delegated: bool


@dataclass(frozen=True)
class Fetching(Record):
    """What it costs to fetch a byte of weights, in the setting's unit.

    `again`: pairs of how many bytes of weights a network has and what each costs where it is run over and over, the
    bytes rising. `between`: what each costs, however many, where other work comes between two runs; None where the
    device cannot tell.
    """

    again: tuple[tuple[int, float], ...] = ()
    between: float | None = None

    def __post_init__(self) -> None:
        costs = [cost for _, cost in self.again] + ([] if self.between is None else [self.between])
        for cost in costs:
            if not _is_cost(cost):
                raise UserError(f"latency table: the cost of a byte must be finite and not negative, not {cost!r}")

    def of_a_byte(self, weights: int) -> float:
        """The cost of a byte in a network with so many bytes of weights that is run over and over."""
        return _between_points(self.again, weights, 0.0)

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        return _points(value) if name == "again" else super()._decode(name, value)


@dataclass(frozen=True)
class Setting(Record):
    """What a cost belongs to. `unit` is ms, a median of one inference's wall times, or instructions of one.

    `affinity` is the mask of cores in hexadecimal that runs were pinned to, empty where they were not.
    """

    device: Device
    backend: str
    runtime: str
    delegate: str
    threads: int
    unit: str
    affinity: str = ""

    def __post_init__(self) -> None:
        require_choice("unit", self.unit, UNITS)
        if (self.device.kind == "emulated") != (self.unit == "instructions"):
            raise UserError(
                f"a table of {self.device.name} cannot be in {self.unit}: an emulated device has no latency, "
                "and only there are instructions counted"
            )
        require(self.threads >= 1, "threads", self.threads, "at least 1")

    @property
    def options(self) -> str:
        """What `tfcompact latency-table` must be given to measure in this setting, with a space before each."""
        kind = self.device.kind
        words = [] if kind == "host" else ["--device", kind]
        if kind == "emulated" and (cpu := re.fullmatch(r"arm64-(.+)-insn", self.device.name)):
            words += ["--cpu", cpu[1]]
        if kind == "android":
            words += ["--affinity", self.affinity or "all"]
        if self.delegate != "xnnpack":
            words += ["--delegate", self.delegate]
        if self.threads != 1:
            words += ["--threads", str(self.threads)]
        return "".join(f" {word}" for word in words)

    def __str__(self) -> str:
        cores = f" on cores {self.affinity}" if self.affinity else ""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.device.name}, {self.runtime}, {self.delegate}, {threads}{cores}, {self.unit}"

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        return Device.from_json(value) if name == "device" else super()._decode(name, value)


@dataclass(frozen=True)
class Table(Record):
    """Costs of operators on one device. `invoke`, `partition` and all costs are in `setting.unit`.

    `company`: pairs of how many bytes the operators of a file read and write of each other, rising, and how many
    times as long they take there as alone. `step`: up to how many output channels convolutions cost the same, and
    again up to its multiples; 0 where nobody measured it.
    Raises `UserError` for another schema, an unknown or missing key, or a number that is no cost.
    """

    schema: int
    setting: Setting
    invoke: float
    partition: float
    alone: dict[str, Alone] = field(default_factory=dict)
    fetching: Fetching = Fetching()
    company: tuple[tuple[int, float], ...] = ()
    step: int = 0

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise UserError(f"this latency table has schema {self.schema}; this tfcompact reads {SCHEMA}")
        for name, cost in (
            ("invoke", self.invoke),
            ("partition", self.partition),
            *(("company", factor) for _, factor in self.company),
            *((key, row.cost) for key, row in self.alone.items()),
        ):
            if not _is_cost(cost):
                raise UserError(f"latency table: the cost of {name} must be finite and not negative, not {cost!r}")

    def predict(
        self, network: flatbuffer.Source | Network, *, between: bool = False, name: str = "the network"
    ) -> float:
        """The cost of one inference, in `setting.unit`, of a file (path or content) or of what `read` gave for it.

        It is that of a network that is run over and over; with `between`, of one that is run between other work.
        Raises `UserError` where an operator is not in the table, with the command that adds it, and where the table
        does not know what comes between.
        """
        if between and self.fetching.between is None:
            raise UserError(
                f"the latency table of {self.setting.device.name} does not say what other work between runs costs"
            )
        if isinstance(network, Path | str):
            name = str(network)
        read_network = network if isinstance(network, Network) else read(network, self.setting.delegate)
        if missing := self.missing(read_network):
            self.refuse(missing, name)
        return self.total(read_network, self.cost, between=between)

    def refuse(self, missing: Sequence[str], name: str) -> NoReturn:
        """Raises the `UserError` for operators of a network that the table does not hold, with what adds them."""
        more = f" and {len(missing) - 1} others of its operators are" if len(missing) > 1 else " is"
        raise UserError(
            f"{name}: {missing[0]}{more} not in the latency table of {self.setting.device.name}; add with: "
            f"tfcompact latency-table --extend --models {name if Path(name).suffix else 'MODEL'} --out TABLE"
            f"{self.setting.options}"
        )

    def total(self, network: Network, cost: Callable[[str], float], *, between: bool = False) -> float:
        """The cost of a network whose operators each cost what `cost(configuration)` says."""
        operators = sum(map(cost, network.configurations))
        moved = sum(map(activation_bytes, network.configurations))
        operators *= _between_points(self.company, moved, 1.0)
        return self.invoke + self.partition * network.partitions + operators + self._fetched(network, between)

    def _fetched(self, network: Network, between: bool) -> float:
        """What fetching the weights adds: what a byte costs in the network, less what it does alone."""
        sizes = [weight_bytes(configuration) for configuration in network.configurations]
        rate = self.fetching.between if between else self.fetching.of_a_byte(sum(sizes))
        return sum(size * ((rate or 0.0) - self.fetching.of_a_byte(size)) for size in sizes)

    def cost(self, configuration: str) -> float:
        """What the operator adds to a network, in `setting.unit`: without its overhead alone, and not below 0."""
        row = self.alone[configuration]
        return max(0.0, row.cost - self.invoke - self.partition * row.delegated)

    def missing(self, network: Network) -> list[str]:
        """The configurations of the network that the table does not hold, each once, in order."""
        return [c for c in dict.fromkeys(network.configurations) if c not in self.alone]

    def to_json(self) -> dict[str, Any]:
        """The table as plain dicts, its rows sorted, so that equal tables are equal files."""
        rows = {key: self.alone[key]._asdict() for key in sorted(self.alone)}
        return super().to_json() | {"alone": rows}

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        if name == "setting":
            return Setting.from_json(value)
        if name == "fetching":
            return Fetching.from_json(value)
        if name == "company":
            return _points(value)
        if name == "alone":
            return {key: _row(key, row) for key, row in value.items()}
        return super()._decode(name, value)

    @classmethod
    def load(cls, path: Path) -> Table:
        """The table that `save` wrote. Raises `UserError` where there is none, or it cannot be read."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}); make one with: tfcompact latency-table --out {path}"
            ) from None
        except ValueError as error:
            raise UserError(f"{path} is not a latency table ({error})") from None
        if not isinstance(content, dict) or not isinstance(content.get("alone", {}), dict):
            raise UserError(f"{path} is not a latency table; make one with: tfcompact latency-table --out {path}")
        try:
            return cls.from_json(content)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def save(self, path: Path) -> None:
        """Writes the table so that a reader sees the old one or the new one, never half of it.

        Raises `UserError` where it cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, self.to_json())
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}); give another file with --out") from None


def _row(key: str, row: Any) -> Alone:
    if not isinstance(row, Mapping) or set(row) != set(Alone._fields) or not isinstance(row["delegated"], bool):
        raise UserError(f"Table: the row of {key!r} must have {' and '.join(Alone._fields)}, not {row!r}")
    return Alone(**row)


def _points(value: Any) -> tuple[tuple[int, float], ...]:
    """A curve as JSON has it."""
    return tuple((int(size), height) for size, height in value)


def _between_points(points: Sequence[tuple[int, float]], size: int, otherwise: float) -> float:
    """The height of a curve at that many bytes, the nearest end's beyond its ends; `otherwise` without a curve."""
    if not points:
        return otherwise
    sizes, heights = zip(*points, strict=True)
    return float(np.interp(size, sizes, heights))


def _is_cost(value: Any) -> bool:
    """Whether it is a number that a cost may be."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation, where equal values share their rank: 1 where both order alike."""

    def ranks(values: Sequence[float]) -> np.ndarray:
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        last = np.cumsum(count)
        mean: np.ndarray = (last - (count - 1) / 2)[place]
        return mean

    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])
