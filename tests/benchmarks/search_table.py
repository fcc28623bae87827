"""A small search space, every network of it trained: what ways of searching can be compared on.

    python tests/benchmarks/search_table.py train path/to/cifar10 --part 0 2 & \
    python tests/benchmarks/search_table.py train path/to/cifar10 --part 1 2
    python tests/benchmarks/search_table.py collect path/to/cifar10

Each network of `spaces/tabular.toml` is trained from random weights on CIFAR-10 at 32 px, in the masked network that
holds them all, where it learns as it would alone; the accuracy is that of 2,000 validation images, its batch
normalization re-estimated. 50 of them, drawn by a seed, are trained with two more seeds, so that the noise is known.
Costs are instructions on an emulated Cortex-A76, by a latency table of the space's operators. What is trained is in
`--kept` at once, and the same call goes on; `collect` writes docs/results/search_table.csv.gz and the record.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import random
import statistics
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from recorded import tables
from recorded.arguments import RECORDS, Arguments
from recorded.record import recording
from rich.console import Console

from tfcompact.data import open_images
from tfcompact.files import write_bytes
from tfcompact.models.space import Space
from tfcompact.records.artifact import Normalization
from tfcompact.training.context import Context
from tfcompact.training.hyperparameters import Training

SPACE = Space.load(Path(__file__).parent / "spaces" / "tabular.toml")
REPEATED, SEEDS = 50, 3
RECIPE = {"epochs": 2, "epoch_images": 10000, "validation_images": 2000, "batch": 32, "norm_batches": 16}
HEAD = ("choices", "seed", "accuracy")
TABLE = "search_table.csv.gz"


def everything() -> list[tuple[int, ...]]:
    """The choices of every member, in order."""
    return list(itertools.product(*(range(len(options)) for _, options in SPACE.decisions)))


def tasks() -> list[tuple[tuple[int, ...], int]]:
    """All trainings: every member with seed 0, some with others."""
    members = everything()
    repeated = random.Random(0).sample(members, REPEATED)
    return [(choices, 0) for choices in members] + [(c, seed) for seed in range(1, SEEDS) for c in repeated]


def known(kept: Path) -> dict[tuple[tuple[int, ...], int], float]:
    """What is trained by now; a line that a kill cut off does not count."""
    found = {}
    for file in sorted(kept.glob("part*.jsonl")):
        for line in file.read_text().splitlines():
            try:
                row = json.loads(line)
                found[tuple(row["choices"]), row["seed"]] = row["accuracy"]
            except (ValueError, KeyError):
                continue
    return found


def train(options: Any) -> None:
    """Trains this part of what is missing."""
    from tfcompact.supernet.learner import Learner
    from tfcompact.supernet.masked_network import MaskedNetwork

    part, parts = options.part
    options.kept.mkdir(parents=True, exist_ok=True)
    done = known(options.kept)
    mine = [task for i, task in enumerate(tasks()) if i % parts == part and task not in done]
    images = open_images(options.data, cache=options.kept / "cache", log=print)
    context = Context(
        SimpleNamespace(), images, 32, Normalization(), 0, options.kept / "scratch", Console(quiet=True)
    )
    learner = Learner(MaskedNetwork(SPACE), Training(**RECIPE), context)
    with (options.kept / f"part{part}.jsonl").open("a") as file:
        for number, (choices, seed) in enumerate(mine, 1):
            accuracy = learner.alone(SPACE.architecture(choices), seed)
            print(json.dumps({"choices": choices, "seed": seed, "accuracy": accuracy}), file=file, flush=True)
            print(f"{number} of {len(mine)}: {choices} seed {seed}: {accuracy:.2%}", flush=True)


def costs(options: Any) -> dict[tuple[int, ...], float]:
    """The instructions of every member, from a table that is made first."""
    from tfcompact.export import candidate
    from tfcompact.latency import meters, table_making
    from tfcompact.pipeline.prices import Prices
    from tfcompact.pipeline.space_prices import SpacePrices

    path = options.kept / "cortex-a76.json"
    networks = candidate.networks((), SPACE.covering(), kept=options.kept / "networks")
    with meters.meter(meters.Config(device="emulated", cpu="cortex-a76")) as meter:
        table_making.make_table(networks, meter, path, extend=True)
    prices = SpacePrices(Prices.load(path), options.kept / "blocks")
    return {choices: prices.price(SPACE.architecture(choices)).cost for choices in everything()}


def collect(options: Any, arguments: Arguments) -> None:
    """Writes the table with costs, and the record: how many, how spread, how noisy."""
    done = known(options.kept)
    if missing := [task for task in tasks() if task not in done]:
        raise SystemExit(f"{len(missing)} of {len(tasks())} trainings are missing; go on with train")
    of = costs(options)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [name for name, _ in SPACE.decisions]
    writer.writerow([*names, "seed", "accuracy", "cost"])
    for choices, seed in tasks():
        writer.writerow([*choices, seed, round(done[choices, seed], 6), of[choices]])
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream:
        stream.write(text.getvalue().encode())
    with recording(arguments.call(options), "table") as book:
        write_bytes(RECORDS / TABLE, packed.getvalue())
        first = [100 * done[choices, 0] for choices in everything()]
        repeated = [
            [100 * done[choices, seed] for seed in range(SEEDS)] for choices, seed in tasks() if seed == SEEDS - 1
        ]
        book.add(
            networks=len(first),
            lowest=min(first),
            median=statistics.median(first),
            highest=max(first),
            deviation=statistics.stdev(first),
            noise=statistics.mean(statistics.variance(row) for row in repeated) ** 0.5,
            repeated=len(repeated),
            seeds=SEEDS,
            cheapest=min(of.values()) / 1e6,
            dearest=max(of.values()) / 1e6,
        )
    print(f"\n{tables.markdown(tables.of('search_table'), book.tables['rows'])}")


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("what", choices=("train", "collect"))
    arguments.add_argument("data")
    arguments.add_argument("--part", nargs=2, type=int, default=(0, 1), help="which of how many parts to train")
    arguments.add_argument("--kept", type=Path, default=Path("build/search-table"))
    options = arguments.parse_args()
    if options.what == "train":
        train(options)
    else:
        collect(options, arguments)


if __name__ == "__main__":
    sys.exit(main())
