"""Makes a `cost_table.Table`: every operator of some files, each once, measured on a device as a file of its own.

What is finished is on disk at once, in `<table>.partial`, and the same call goes on from there. No TensorFlow here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tfcompact.errors import UserError
from tfcompact.latency import cost_table
from tfcompact.latency.cost_table import Alone, Fetching, Setting, Table
from tfcompact.latency.interpolation import step_of
from tfcompact.latency.meters import Meter
from tfcompact.latency.operator_bytes import activation_bytes
from tfcompact.latency.probe_files import WEIGHTS, chain, convolutions, mixture, widening
from tfcompact.measure.exclusive import exclusive
from tfcompact.measure.measurer import Log
from tfcompact.tflite import fused_groups

CHAIN = 8
"""Operators of the longer of the two files from which the overheads are found."""
OVERHEAD_REPEATS, RATIO_REPEATS = 3, 7
STEP_TOLERANCE = {"ms": 0.1, "instructions": 0.02}
"""The share by which costs of convolutions within one step of the kernels may differ."""
MIXED = (28, 56, 112, 224)
"""Sizes in px of the images that the files begin with which show how much longer operators take in company."""
FETCHED = (1, 2, 4, 8, 16, 32, 64)
"""Convolutions of the files that the cost of fetching weights is found with, up to 17 MB of them."""


def networks_of(out: Path) -> Path:
    """The directory beside the table at `out` that holds files of networks until the table is finished."""
    return out.with_name(out.name + ".networks")


def make_table(
    networks: Iterable[tuple[str, bytes]],
    meter: Meter,
    out: Path,
    *,
    extend: bool = False,
    log: Log = print,
) -> Table:
    """The table of every operator of `networks`, pairs of name and file content, which is written to `out`.

    An operator that was measured before is not measured again: neither one that an interrupted call left in
    `<out>.partial`, nor, with `extend`, one of the table at `out`. Raises `UserError` where `out` is there without
    `extend`, belongs to another device or setting, or another process is making it.
    """
    partial = out.with_name(out.name + ".partial")
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    with exclusive(f"latency-table-{name}", f"making {out}"):
        known = _known(out, meter.setting, extend)
        table = _known(partial, meter.setting, True) or known or _started(meter)
        if known is not None:  # an interrupted call may have begun before another extended the table
            table = dataclasses.replace(table, alone=known.alone | table.alone)
        if table.fetching == Fetching():
            table = dataclasses.replace(table, fetching=_fetching(meter))
            table = dataclasses.replace(table, company=_company(table, meter))
        if not table.step:
            table = dataclasses.replace(table, step=_step(meter))
        table.save(partial)
        for network, content in networks:
            table = _extended(table, network, content, meter, partial, log)
        table.save(out)
        partial.unlink()
        shutil.rmtree(networks_of(out), ignore_errors=True)
    return table


def _extended(table: Table, name: str, content: bytes, meter: Meter, partial: Path, log: Log) -> Table:
    """`table` with the operators of one file that it lacks, saved after every few."""
    found_parts = fused_groups.parts(content, table.setting.delegate)
    missing = {part.configuration: part for part in found_parts if part.configuration not in table.alone}
    log(f"{name}: {len(found_parts)} operators, {len(missing)} of them to measure")
    rows = list(missing.values())
    with tempfile.TemporaryDirectory() as scratch:
        for i in range(0, len(rows), meter.together):
            batch = rows[i : i + meter.together]
            files = [Path(scratch) / f"{hashlib.sha256(part.content).hexdigest()}.tflite" for part in batch]
            for file, part in zip(files, batch, strict=True):
                file.write_bytes(part.content)
            costs = meter.costs(files)
            found = {part.configuration: Alone(cost, part.delegated) for part, cost in zip(batch, costs, strict=True)}
            table = dataclasses.replace(table, alone=table.alone | found)
            table.save(partial)
    return table


def _started(meter: Meter) -> Table:
    """A table without rows, its overheads measured.

    Two files hold 1 and `CHAIN` equal operators one after another: what is left when the longer is extrapolated to
    none is overhead, of a file that XNNPACK runs (MAX_POOL_2D), and of one that it does not (SOFTMAX in 8 bits).
    """
    kinds = ("MAX_POOL_2D", "SOFTMAX") if meter.setting.delegate == "xnnpack" else ("MAX_POOL_2D",)
    with tempfile.TemporaryDirectory() as scratch:
        files = []
        for kind in kinds:
            for count in (1, CHAIN):
                files.append(Path(scratch) / f"{kind}-{count}.tflite")
                files[-1].write_bytes(chain(kind, count))
        # Every operator's overhead is taken off: what is wrong here is wrong as often as a network has operators.
        costs = [min(each) for each in zip(*(meter.costs(files) for _ in range(OVERHEAD_REPEATS)), strict=True)]
    overheads = [
        max(0.0, one - (many - one) / (CHAIN - 1)) for one, many in zip(costs[::2], costs[1::2], strict=True)
    ]
    invoke = overheads[-1]
    return Table(cost_table.SCHEMA, meter.setting, invoke, max(0.0, overheads[0] - invoke))


def _step(meter: Meter) -> int:
    """Up to how many output channels int8 convolutions cost the same."""
    widths = range(4, 65, 4)
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / f"{width}.tflite" for width in widths]
        for file, width in zip(files, widths, strict=True):
            file.write_bytes(widening(width))
        costs = [min(each) for each in zip(*(meter.costs(files) for _ in range(OVERHEAD_REPEATS)), strict=True)]
    return step_of(dict(zip(widths, costs, strict=True)), STEP_TOLERANCE[meter.setting.unit])


def _fetching(meter: Meter) -> Fetching:
    """What fetching a byte of weights costs.

    Chains of convolutions with more and more weights say so: what a further convolution takes in each, beyond what it
    does in the shortest, whose weights are in the nearest cache.
    """
    if meter.setting.unit != "ms" or meter.setting.delegate != "xnnpack":
        return Fetching()
    again: list[list[float]] = []
    between: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / f"{count}.tflite" for count in FETCHED]
        for file, count in zip(files, FETCHED, strict=True):
            file.write_bytes(convolutions(count))
        for _ in range(RATIO_REPEATS):  # what disturbs the machine is in all costs of a round
            one, *longer = meter.costs(files)
            near = (longer[0] - one) / (FETCHED[1] - 1)  # of one whose weights are in the nearest cache
            again.append(
                [_of_a_byte(cost - one, near, count) for cost, count in zip(longer, FETCHED[1:], strict=True)]
            )
            if others := meter.costs_between(files[-1:]):
                between.append(_of_a_byte(others[0] - one, near, FETCHED[-1]))
    rates = [max(0.0, float(statistics.median(found))) for found in zip(*again, strict=True)]
    sizes = [count * WEIGHTS for count in FETCHED[1:]]
    return Fetching(
        tuple(zip(sizes, rates, strict=True)), max(0.0, float(statistics.median(between))) if between else None
    )


def _of_a_byte(longer: float, near: float, count: int) -> float:
    """What a byte costs in a chain that takes so much longer than one convolution, each of which takes `near`."""
    return (longer - near * (count - 1)) / ((count - 1) * WEIGHTS)


def _company(table: Table, meter: Meter) -> tuple[tuple[int, float], ...]:
    """How many times as long operators take in a file with others as alone, by the bytes that these hand on."""
    if meter.setting.unit != "ms":
        return ()
    return tuple(_in_company(table, meter, mixture(px)) for px in MIXED)


def _in_company(table: Table, meter: Meter, whole: bytes) -> tuple[int, float]:
    """The bytes that the operators of a file read and write, and how many times as long as alone they take there."""
    parts = fused_groups.parts(whole, meter.setting.delegate)
    network = fused_groups.made_of(parts, whole, meter.setting.delegate)
    contents = [whole, *{part.configuration: part.content for part in parts}.values()]
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / f"{i}.tflite" for i in range(len(contents))]
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        rounds = [meter.costs(files) for _ in range(RATIO_REPEATS)]
    delegated = {part.configuration: part.delegated for part in parts}

    def factor(cost: float, alone: Sequence[float]) -> float:
        rows = {key: Alone(found, delegated[key]) for key, found in zip(delegated, alone, strict=True)}
        priced = dataclasses.replace(table, alone=rows, company=())
        return 1 + (cost - priced.predict(network)) / sum(map(priced.cost, network.configurations))

    # In each round the file and its operators were timed in turns: what disturbs the machine is in both.
    found = statistics.median(factor(cost, alone) for cost, *alone in rounds)
    return sum(map(activation_bytes, network.configurations)), max(1.0, float(found))


def _known(path: Path, setting: Setting, extend: bool) -> Table | None:
    """The table at `path`, if there is one and it may be gone on with."""
    if not path.exists():
        return None
    if not extend:
        raise UserError(f"{path} is there already; add to it with --extend, or give another file with --out")
    table = Table.load(path)
    if table.setting != setting:
        raise UserError(f"{path} is a table of {table.setting}, not of {setting}; give another file with --out")
    return table
