"""From ImageNet's weights against from scratch, by how many photographs of a class there are.

    make weights
    python tests/benchmarks/few_photographs.py path/to/flowers [--networks squeezenet_1.1] [--runs runs/few]

Each network is trained on 50, on 200 and on all photographs of a class, from both starts, with three seeds; a seed
also chooses the photographs. The same 60 photographs of each class, which no training sees, judge every file: top-1
accuracy in percent of the exported float32 file. Every training sees about as many images (`--images`), so both
starts take the same time: that of few photographs has more epochs. Learning rates are those that `train` takes for
each start: the recipe `finetune`'s, and `fit`'s default. Runs are kept, so an interrupted call goes on.
"""

from __future__ import annotations

import os
import random
import statistics
from pathlib import Path

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording
from rich.console import Console

from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured, load_recipe
from tfcompact.pipeline.target import Target
from tfcompact.tflite import runtime

NETWORKS = ("squeezenet_1.1", "efficientnet_lite0")
JUDGES = 60  # photographs a class that no training sees
VALIDATION = 0.15  # of the photographs that a training has
SIZES: tuple[int | None, ...] = (50, 200, None)  # photographs a class, None for all
SEEDS = (0, 1, 2)


def folder(data: Path, root: Path, size: int | None, seed: int) -> tuple[Path, dict[str, int]]:
    """A folder with `train`, `validation` and `test` in it, and how many images each has."""
    made, counts = root / f"{size or 'all'}-{seed}", {"train": 0, "validation": 0, "test": 0}
    for place in sorted(path for path in data.iterdir() if path.is_dir()):
        photographs = sorted(place.iterdir())
        random.Random(f"judges {place.name}").shuffle(photographs)
        judges, rest = photographs[:JUDGES], photographs[JUDGES:]
        random.Random(f"{seed} {place.name}").shuffle(rest)
        rest = rest[:size]
        validation = round(VALIDATION * len(rest))
        parts = {"train": rest[validation:], "validation": rest[:validation], "test": judges}
        for part, paths in parts.items():
            counts[part] += len(paths)
            (made / part / place.name).mkdir(parents=True, exist_ok=True)
            for path in paths:
                link = made / part / place.name / path.name
                if not link.exists():
                    os.link(path, link)
    return made, counts


def measure(network: str, size: int | None, seed: int, start: str, options, book: Book) -> None:
    """Trains and judges one."""
    place, counts = folder(Path(options.data), options.runs / "photographs", size, seed)
    plan = {"epochs": max(1, round(options.images / counts["train"]))}
    if start == "ImageNet":
        plan = dict(load_recipe("finetune")[0].options) | plan
    target = Target(network, data=str(place), px=options.px, seed=seed, runs=options.runs / "runs")
    pipeline = Pipeline(target, Console(stderr=True))
    fit = pipeline.run(configured("fit", plan))
    exported = pipeline.export(configured("export", {"formats": ["float32"]}), fit.name)
    book.rests_on(fit, exported)
    images, labels = pipeline.images(fit).arrays("test", px=options.px)
    model = runtime.LiteModel(exported.path / exported.artifacts[0].path, threads=2)
    book.add(
        "trainings",
        network=network,
        photographs="all" if size is None else str(size),
        train_images=counts["train"],
        start=start,
        seed=seed,
        epochs=plan["epochs"],
        accuracy=100 * float((model(images).argmax(1) == labels).mean()),
        cpu_minutes=fit.provenance["cpu_seconds"] / 60,
        test_images=len(labels),
    )


def summarize(book: Book) -> None:
    """A row for each number of photographs and start, over the seeds."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in book.tables["trainings"]:
        groups.setdefault((row["photographs"], row["start"]), []).append(row)
    for (photographs, start), rows in groups.items():
        accuracies = [row["accuracy"] for row in rows]
        book.add(
            network=rows[0]["network"],
            photographs=photographs,
            start=start,
            epochs=rows[0]["epochs"],
            mean=statistics.mean(accuracies),
            lowest=min(accuracies),
            highest=max(accuracies),
            seeds=len(rows),
            cpu_minutes=statistics.mean(row["cpu_minutes"] for row in rows),
            test_images=rows[0]["test_images"],
        )


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("--px", type=int, default=96)
    arguments.add_argument("--images", type=int, default=8000, help="that each training sees, about (8000)")
    arguments.add_argument("--runs", type=Path, default=Path("runs/few_photographs"))
    arguments.add_selection("--networks", choices=NETWORKS, default=NETWORKS)
    options = arguments.parse_args()
    for network in options.networks:
        with recording(arguments.call(options), network, flag="--networks") as book:
            for size in SIZES:
                for seed in SEEDS:
                    for start in ("ImageNet", "scratch"):
                        measure(network, size, seed, start, options, book)
            summarize(book)
        print(f"\n{tables.markdown(tables.of('few_photographs'), book.tables['rows'])}")


if __name__ == "__main__":
    main()
