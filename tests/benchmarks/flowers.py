"""Float, QAT-int8 and PTQ-int8 test accuracy of the exported files, each network trained from scratch on photographs.

    python tests/benchmarks/flowers.py path/to/flowers [--runs runs/flowers] [--networks mobilenet_v2 …]

Prints a Markdown table and records each network once it is done. Every run is kept, so a second call prints the same
table at once, and one that was interrupted goes on. CPU minutes are processor time of all threads for fit and
quantize, from the runs' own records.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording
from rich.console import Console

from tfcompact.export import gate
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.runs import store
from tfcompact.tflite import runtime

THREADS = 2  # of the runtime that judges the files
# px and epochs are what ten CPU minutes allow on two cores.
PLAN = {
    "mobilenet_v2": {"px": 64, "fit": 14, "quantize": 2, "seeds": (0, 1, 2)},
    "mobilenet_v3_small": {"px": 96, "fit": 18, "quantize": 3, "seeds": (0,)},
    "inception_v3": {"px": 75, "fit": 3, "quantize": 1, "seeds": (0,)},
}


def accuracy(run: store.Run, format: str, images, labels) -> float:
    """Top-1 accuracy in percent of one exported file."""
    file = next(a for a in run.artifacts if a.format == format)
    return 100 * float((runtime.LiteModel(run.path / file.path, threads=THREADS)(images).argmax(1) == labels).mean())


def measure(name: str, seed: int, data: str, root: Path, book: Book) -> dict[str, Any]:
    """The row of a network trained with a seed."""
    plan = PLAN[name]
    pipeline = Pipeline(Target(name, data=data, px=plan["px"], seed=seed, runs=root), Console(stderr=True))
    fit = pipeline.run(configured("fit", {"epochs": plan["fit"]}))
    qat = pipeline.run(configured("quantize", {"epochs": plan["quantize"]}), fit.name)
    ptq = pipeline.run(configured("quantize", {"epochs": 0}), fit.name)
    exported = pipeline.export(parent=qat.name)
    # Post-training quantization is here to be compared, so the gate's limits are off for it.
    as_it_is = gate.Config(formats=("int8",), largest_loss=100.0, least_agreement=0.0)
    exported_ptq = pipeline.export(as_it_is, ptq.name)
    book.rests_on(fit, qat, ptq, exported, exported_ptq)
    images_of = pipeline.images(fit)
    images, labels = images_of.arrays("test", px=plan["px"])
    float32, int8 = (accuracy(exported, format, images, labels) for format in ("float32", "int8"))
    return book.add(
        network=name,
        px=plan["px"],
        seed=seed,
        float=float32,
        qat=int8,
        ptq=accuracy(exported_ptq, "int8", images, labels),
        qat_minus_float=int8 - float32,
        agreement=100 * next(a for a in exported.artifacts if a.format == "int8").checks["agreement"],
        cpu_minutes=sum(r.provenance["cpu_seconds"] for r in (fit, qat)) / 60,
        photographs=sum(images_of.sizes.values()),
        test_images=len(labels),
        classes=len(images_of.classes),
    )


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("--runs", type=Path, default=Path("runs/flowers"))
    arguments.add_selection("--networks", choices=tuple(PLAN), default=tuple(PLAN))
    options = arguments.parse_args()
    rows = []
    for name in options.networks:
        with recording(arguments.call(options), name, flag="--networks") as book:
            rows += [measure(name, seed, options.data, options.runs, book) for seed in PLAN[name]["seeds"]]
    print(f"\n{tables.markdown(tables.of('flowers'), rows)}")


if __name__ == "__main__":
    sys.exit(main())
