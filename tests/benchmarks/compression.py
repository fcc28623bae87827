"""Every way of making a network smaller, on three networks: what `tfcompact compress` reports.
    make weights
    python tests/benchmarks/compression.py path/to/cifar10 [--networks mobilenet_v3_small] [--runs runs/compression]

CIFAR-10 at 64 px with a part of its training images in every epoch; the teacher, EfficientNet-Lite0, starts from
ImageNet's weights. Accuracies are those of the exported files on all test images. Runs are kept, so an interrupted
call goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording
from rich.console import Console

from tfcompact.comparison import comparing, comparison_plan
from tfcompact.comparison.line import Line, lines
from tfcompact.comparison.row_result import RowResult
from tfcompact.pipeline.target import Target
from tfcompact.runs import store

NETWORKS = ("mobilenet_v1_0.5", "mobilenet_v3_small", "googlenet_bn")
PX = {"densenet_bc_40_12": 32}
USUAL_PX = 64
EPOCHS = {"base": 10, "tune": 3, "qat": 1, "cluster": 1, "teacher": 5}
TRAININGS = ("base", "longer", "qat", "cluster", "teacher", "distilled", "channels", "zeros", "factors", "fresh")


def overrides(steps: Iterable[str], images: int, epochs: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Options for a plan's steps: that many training images an epoch, 1,000 to validate, and epochs by step."""
    found: dict[str, dict[str, Any]] = {step: {"epoch_images": images, "validation_images": 1000} for step in steps}
    for step, count in epochs.items():
        if step in found or step == "tune":
            found.setdefault(step, {})["epochs"] = count
    return found


def compared(network: str, plan: str, steps: Iterable[str], options: Any) -> list[RowResult]:
    """What a plan finds of one network; `steps` are those that train."""
    target = Target(network, data=options.data, px=PX.get(network, USUAL_PX), runs=options.runs)
    console = Console(stderr=True)
    loaded = comparison_plan.load(plan, overrides(steps, options.images, EPOCHS))
    return comparing.Comparison(loaded, target, console, options.seeds, comparing.emulated(console)).results()


def runs_of(results: Iterable[RowResult], runs: Path) -> list[store.Run]:
    """The runs behind the rows."""
    return [made for row in results if row.run for made in store.find(runs, row.model, row.run).chain]


def measure(network: str, options: Any, book: Book) -> None:
    """Runs the plan on one network, and writes a row for each of its lines."""
    results = compared(network, "default", TRAININGS, options)
    book.rests_on(*runs_of(results, options.runs))
    for result in results:
        facts = {name: value for name, value in result.to_json().items() if name not in ("instructions", "run")}
        book.add("results", **facts | {f"instructions_{name}": n for name, n in result.instructions.items()})
    for line in lines(results):
        if line.error:
            book.add("failed", network=network, number=line.number, row=line.name, error=line.error)
        else:
            book.add(**row_of(network, line))


def row_of(network: str, line: Line) -> dict[str, Any]:
    """A line as scalars."""
    return {
        "network": network,
        "number": line.number,
        "row": line.name,
        "kind": line.kind,
        "parameters": line.first.parameters,
        "macs": line.macs,
        "float_accuracy": line.float_accuracy,
        "accuracy": line.accuracy,
        "half": line.half,
        "bytes": line.first.bytes,
        "zipped_bytes": line.zipped_bytes,
        "ms": line.ms,
        "a53": line.instructions.get("cortex-a53"),
        "a76": line.instructions.get("cortex-a76"),
        "energy_uj": line.first.energy_uj,
        "gain_macs": line.gain_macs,
        "gain_zipped": line.gain_zipped,
        "front": ", ".join(line.fronts),
        "minutes": line.first.minutes,
        "seeds": line.seeds,
        "images": line.first.images,
    }


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("--images", type=int, default=10000, help="training images an epoch (10000)")
    arguments.add_argument("--seeds", type=int, default=1)
    arguments.add_argument("--runs", type=Path, default=Path("runs/compression"))
    arguments.add_selection("--networks", choices=NETWORKS, default=NETWORKS)
    options = arguments.parse_args()
    for network in options.networks:
        with recording(arguments.call(options), network, flag="--networks", threads=1) as book:
            measure(network, options, book)
        print(f"\n{tables.markdown(tables.of('compression'), book.tables['rows'])}")


if __name__ == "__main__":
    main()
