"""Half of the multiply-adds: by importance, at random, by the width multiplier, and the small network from scratch.

    python tests/benchmarks/pruning.py path/to/cifar10 [--networks mobilenet_v1_0.5] [--runs runs/compression]

The plan `pruning` of `tfcompact compress` on CIFAR-10 at 64 px, DenseNet at its 32 px, with a part of the training
images in every epoch.
Accuracies are those of the exported int8 files on all test images. `of claim` is the share of the saved multiply-adds
that is saved in time or in instructions: (1 - cost / whole cost) / (1 - MACs / whole MACs).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compression import compared, row_of, runs_of
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording

from tfcompact.comparison.line import Line, lines

NETWORKS = ("mobilenet_v1_0.5", "mobilenet_v2_0.5", "googlenet_bn", "densenet_bc_40_12")
TRAININGS = ("base", "longer", "channels", "fresh", "qat")
WHOLE = "whole"


def measure(network: str, options: Any, book: Book) -> None:
    """Runs the plan on one network, and writes a row for each of its lines."""
    results = compared(network, "pruning", TRAININGS, options)
    book.rests_on(*runs_of(results, options.runs))
    found = lines(results)
    whole = next(line for line in found if line.name == WHOLE)
    for line in found:
        if line.error:
            book.add("failed", network=network, row=line.name, error=line.error)
        else:
            book.add(**row_of(network, line), **shares(line, whole))


def shares(line: Line, whole: Line) -> dict[str, float | None]:
    """The shares of the saved multiply-adds that are saved in time and in instructions."""
    claimed = 1 - line.macs / whole.macs

    def share(now: float | None, before: float | None) -> float | None:
        return None if not now or not before or claimed < 0.05 else (1 - now / before) / claimed

    insn = {name: share(line.instructions.get(name), whole.instructions.get(name)) for name in whole.instructions}
    return {
        "ms_of_claim": share(line.ms, whole.ms),
        "a53_of_claim": insn.get("cortex-a53"),
        "a76_of_claim": insn.get("cortex-a76"),
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
        print(f"\n{tables.markdown(tables.of('pruning'), book.tables['rows'])}")


if __name__ == "__main__":
    main()
