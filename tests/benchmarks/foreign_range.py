"""Every stage on networks that nobody chose: variants of the zoo by a random seed, on data that no test trains on.

    apt-get install dataset-fashion-mnist
    python tests/benchmarks/foreign_range.py fashion_mnist [--seeds 3] [--px 64] [--runs runs/foreign]
    python tests/benchmarks/foreign_range.py path/to/photos --px 128

Each network of fewer than a thousand million multiply-adds is distilled, pruned, split, pruned to zeros, quantized,
clustered and exported with short trainings of its own. Accuracies are in percent of validation images.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import recording

from tfcompact import models

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from every_stage import CHAIN, through_every_stage

LARGEST_MACS = 1e9
BUDGET = {"epoch_images": 4000, "validation_images": 500}
EPOCHS = {"fit": 3, "distill": 4, "channels": 2, "decompose": 1, "zeros": 2, "quantize": 1, "cluster": 1}


def network(seed: int) -> str:
    """The variant that the seed chooses."""
    names = sorted(s.name for s in models.specs().values() if s.macs < LARGEST_MACS and not s.float_only)
    return random.Random(seed).choice(names)


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("--px", type=int, default=64)
    arguments.add_argument("--seeds", type=int, default=2)
    arguments.add_argument("--runs", type=Path, default=Path("runs/foreign_range"))
    options = arguments.parse_args()
    data = Path(options.data).name
    with recording(arguments.call(options), f"{data} {options.px}") as book:
        for seed in range(options.seeds):
            name = network(seed)
            found = through_every_stage(name, options.runs, options.data, px=options.px, budget=BUDGET, epochs=EPOCHS)
            book.rests_on(*found["runs"])
            judged = [f"{step}_accuracy" for step, _ in CHAIN] + ["file_accuracy"]
            accuracies = {key: 100 * found[key] if key in found else None for key in judged}  # None: was refused
            rest = {key: found.get(key) for key in ("px", "distill_macs", "decompose_macs", "bytes", "zipped_bytes")}
            book.add(
                network=name,
                data=data,
                seed=seed,
                **rest,
                **accuracies,
                refused=found["refused"],
            )
    print(f"\n{tables.markdown(tables.of('foreign_range'), book.tables['rows'])}")


if __name__ == "__main__":
    main()
