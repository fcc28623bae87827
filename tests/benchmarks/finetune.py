"""From ImageNet's weights against from scratch: one network, the same photographs, the same epochs.

    make weights
    python tests/benchmarks/finetune.py path/to/flowers [--model efficientnet_lite0] [--px 96]

Prints the validation accuracy after every epoch of both and the test accuracy of the exported float32 and int8 files;
docs/results.py draws the curves. Each has the learning rate that suits its start: the recipe `finetune`'s, `fit`'s
default.
"""

from __future__ import annotations

import csv
from pathlib import Path

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import recording
from rich.console import Console

from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured, load_recipe
from tfcompact.pipeline.target import Target
from tfcompact.runs import store
from tfcompact.tflite import runtime


def curve(run: store.Run) -> list[float]:
    """Validation accuracy in percent after each epoch."""
    with (run.path / "metrics.csv").open() as file:
        return [100 * float(row["validation_accuracy"]) for row in csv.DictReader(file)]


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("--model", default="efficientnet_lite0")
    arguments.add_argument("--px", type=int, default=96)
    arguments.add_argument("--runs", type=Path, default=Path("runs/finetune"))
    options = arguments.parse_args()
    recipe = {step.id: step.options for step in load_recipe("finetune")}
    plans = {
        "from ImageNet": recipe["fit"],
        "from scratch": {"epochs": recipe["fit"]["epochs"]},
    }
    target = Target(options.model, data=options.data, px=options.px, runs=options.runs)
    with recording(arguments.call(options), options.model) as book:
        pipeline = Pipeline(target, Console(stderr=True))
        for start, plan in plans.items():
            fit = pipeline.run(configured("fit", plan))
            quantized = pipeline.run(configured("quantize", recipe["quantize"]), fit.name)
            exported = pipeline.export(configured("export", {"formats": ["int8", "float32"]}), quantized.name)
            book.rests_on(fit, quantized, exported)
            images, labels = pipeline.images(fit).arrays("test", px=options.px)
            accuracies = {
                a.format: 100
                * float((runtime.LiteModel(exported.path / a.path, threads=2)(images).argmax(1) == labels).mean())
                for a in exported.artifacts
            }
            book.add(
                network=options.model,
                px=options.px,
                start=start,
                **{f"epoch_{i}": accuracy for i, accuracy in enumerate(curve(fit), 1)},
                **accuracies,
                cpu_minutes=sum(r.provenance["cpu_seconds"] for r in (fit, quantized)) / 60,
                test_images=len(labels),
            )
    print(f"\n{tables.markdown(tables.of('finetune'), book.tables['rows'])}")


if __name__ == "__main__":
    main()
