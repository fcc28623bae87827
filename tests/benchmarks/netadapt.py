"""NetAdapt against the width multiplier, at equal measured cost and equal training.

    python tests/benchmarks/netadapt.py path/to/cifar10 [--networks mobilenet_v1_0.5] [--units instructions]

CIFAR-10 at 64 px with a part of its training images in every epoch. A latency table of each network, with drawings of
other widths, prices: instructions on an emulated Cortex-A76, or ms on this computer. NetAdapt takes the trained
network to 40 % of its cost; four networks on the way are trained on, and stand against networks that are narrower
from the start (`fit --width`) and have seen as many images, proposals' trainings included. Accuracies are those of
the float networks on all test images; counted costs those of their int8 files. A proposal's time is that of its short
training and its judgement: masked in one compiled network, and built by itself. Runs and tables are kept, so an
interrupted call goes on.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording
from rich.console import Console

from tfcompact import models
from tfcompact.comparison.intervals import mean_interval
from tfcompact.export import candidate
from tfcompact.latency import meters, table_making
from tfcompact.latency.cost_table import Table
from tfcompact.latency.interpolation import Interpolated
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.runs import store
from tfcompact.training import evaluation

NETWORKS = ("mobilenet_v1_0.5", "mobilenet_v2_0.5")
UNITS = {"instructions": meters.Config(device="emulated", cpu="cortex-a76"), "ms": meters.Config()}
PX, CLASSES, WIDTHS = 64, 10, 8
BASE, TUNE = 10, 3
SHARES = (0.85, 0.7, 0.55, 0.4)
MULTIPLIERS = (1.0, 0.75, 0.62, 0.5, 0.35)
ADAPT = {"keep": min(SHARES), "first_step": 0.05, "decay": 0.98, "short_steps": 30, "shortlist": 4, "epochs": 0}


def table_of(network: str, unit: str, kept: Path) -> Path:
    """The latency table of the network and of other widths of it, made now unless it is there."""
    path = kept / f"{network}-{unit}.json"
    if not path.exists():
        networks = candidate.networks([network], px=PX, classes=CLASSES, widths=WIDTHS, kept=kept / "networks")
        with meters.meter(UNITS[unit]) as meter:
            table_making.make_table(networks, meter, path)
    return path


class Bench:
    """One network, one unit, one seed."""

    def __init__(self, network: str, unit: str, seed: int, options: Any) -> None:
        self.unit, self.images = unit, options.images
        self.table = table_of(network, unit, options.runs / "tables")
        target = Target(network, data=options.data, px=PX, seed=seed, runs=options.runs, table=self.table)
        self.pipeline = Pipeline(target, Console(stderr=True))
        self.prices = Interpolated(Table.load(self.table))

    def fit(self, epochs: int, parent: str | None = None, **more: Any) -> store.Run:
        options = {"epochs": epochs, "epoch_images": self.images, "validation_images": 1000, **more}
        return self.pipeline.run(configured("fit", options), parent)

    def accuracy(self, run: store.Run) -> float:
        """Top-1 in percent of the float network on all test images."""
        batches = self.pipeline.images(run).batches("test", px=PX, batch=64, normalization=run.normalization)
        return 100 * evaluation.evaluator(self.pipeline.load(run))(batches)[1]

    def costs(self, run: store.Run) -> tuple[float, float, float]:
        """The predicted cost of a run's network, the share of it that was interpolated, and the cost as it is."""
        content = candidate.int8_file(self.pipeline.load(run))
        cost, interpolated = self.prices.predict(self.prices.read(content))
        with tempfile.TemporaryDirectory() as scratch, meters.meter(UNITS[self.unit]) as meter:
            file = Path(scratch) / "network.tflite"
            file.write_bytes(content)
            return cost, interpolated, meter.costs([file])[0]


def measure(network: str, unit: str, options: Any, book: Book) -> None:
    """All seeds of one network by one unit."""
    gains: dict[float, list[dict[str, float]]] = {share: [] for share in SHARES}
    for seed in range(options.seeds):
        bench = Bench(network, unit, seed, options)
        base = bench.fit(BASE)
        stage = {**ADAPT, "cost": "table", "validation_images": 1000, "epoch_images": bench.images}
        adapted = bench.pipeline.run(configured("netadapt", stage), base.name)
        book.rests_on(base, adapted)
        steps = [store.find(options.runs, network, name) for name in adapted.notes["steps"]]
        short = len(steps) * ADAPT["short_steps"] * 32 / bench.images  # epochs that the chosen proposals were trained
        longer = BASE + TUNE + round(short)
        plain = []
        for width in MULTIPLIERS:
            run = bench.fit(longer, **({"width": width} if width < 1 else {}))
            plain.append((bench.costs(run)[2], bench.accuracy(run)))
            point = {"cost": plain[-1][0], "accuracy": plain[-1][1]}
            book.add("multiplier", network=network, unit=unit, seed=seed, width=width, **point)
        for share in SHARES:
            most = share * adapted.notes["first_cost"] * 1.0001
            step = next(run for run in steps if run.notes["chosen"]["cost"] <= most)
            run = bench.fit(TUNE, step.name, learning_rate=1e-3)
            predicted, interpolated, counted = bench.costs(run)
            gains[share].append(
                {
                    "cost": counted,
                    "accuracy": bench.accuracy(run),
                    "multiplier": _at(plain, counted),
                    "error": 100 * (predicted / counted - 1),
                    "interpolated": 100 * interpolated,
                }
            )
        for number, run in enumerate(steps, 1):
            chosen = run.notes["chosen"]
            book.add("steps", network=network, unit=unit, seed=seed, step=number, **chosen)
    for share, rows in gains.items():
        middle, half = mean_interval([row["accuracy"] - row["multiplier"] for row in rows])
        means = {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
        book.add(network=network, unit=unit, share=100 * share, **means, gain=middle, half=half, seeds=len(rows))


def _at(points: list[tuple[float, float]], cost: float) -> float:
    """The accuracy of the width multiplier at that cost, between its networks by the logarithm of the cost."""
    known = sorted(points)
    return float(np.interp(np.log(cost), np.log([c for c, _ in known]), [a for _, a in known]))


def times(network: str, options: Any, book: Book) -> None:
    """Seconds of a proposal, masked and built by itself."""
    from tfcompact.compress.adaptation import proposals as proposing
    from tfcompact.compress.adaptation.trials import Trials
    from tfcompact.compress.channels.atoms import channels
    from tfcompact.compress.channels.selection import Costs
    from tfcompact.compress.channels.slicing import smaller
    from tfcompact.records.artifact import Normalization
    from tfcompact.stages import netadapt
    from tfcompact.training.context import Context

    model = models.build(network, px=PX, classes=CLASSES)
    pipeline = Pipeline(Target(network, data=options.data, px=PX, runs=options.runs), Console(quiet=True))
    data = pipeline.images().held_out(1000)
    spec = models.spec(network)
    context = Context(spec, data, PX, Normalization(), 0, options.runs / "scratch", Console(quiet=True))
    config = netadapt.Config(cost="macs", epoch_images=options.images)
    structure = channels(model)
    order = proposing.orders(structure, None)

    def price(gone: Any) -> float:
        costs = Costs(structure, "macs")
        costs.remove([root for place, count in gone.items() for root in order[place][:count]])
        return costs.total

    target = 0.95 * price({})
    found = proposing.proposals(structure, proposing.axes(structure, "filters"), price, target, cap=0.8, multiple=16)
    started = time.perf_counter()
    trials = Trials(model, structure, config, context, ADAPT["short_steps"])
    trials.judge((), tuned=True)  # traces
    first = time.perf_counter() - started
    masked, alone = [], []
    for one in found[: options.proposals]:
        gone = proposing.classes_of(one, order)
        started = time.perf_counter()
        trials.judge(gone, tuned=True)
        masked.append(time.perf_counter() - started)
        started = time.perf_counter()
        less = smaller(model, structure, gone)
        Trials(less, channels(less), dataclasses.replace(config), context, ADAPT["short_steps"]).judge((), tuned=True)
        alone.append(time.perf_counter() - started)
    book.add(
        "times",
        network=network,
        first=first,
        masked=statistics.median(masked),
        alone=statistics.median(alone),
        ratio=statistics.median(a / m for a, m in zip(alone, masked, strict=True)),
        low=min(a / m for a, m in zip(alone, masked, strict=True)),
        high=max(a / m for a, m in zip(alone, masked, strict=True)),
        proposals=len(masked),
    )


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("--images", type=int, default=5000, help="training images an epoch (5000)")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--units", nargs="+", choices=tuple(UNITS), default=tuple(UNITS))
    arguments.add_argument("--proposals", type=int, default=5, help="proposals that are timed")
    arguments.add_argument("--runs", type=Path, default=Path("runs/netadapt"))
    arguments.add_selection("--networks", choices=NETWORKS, default=NETWORKS)
    options = arguments.parse_args()
    for network in options.networks:
        with recording(arguments.call(options), network, flag="--networks", threads=1) as book:
            times(network, options, book)
            for unit in options.units:
                measure(network, unit, options, book)
        print(f"\n{tables.markdown(tables.of('netadapt'), book.tables['rows'])}")


if __name__ == "__main__":
    sys.exit(main())
