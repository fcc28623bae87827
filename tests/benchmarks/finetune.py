"""From ImageNet's weights against from scratch: one network, the same photographs, the same epochs.

    make weights
    python tests/benchmarks/finetune.py path/to/flowers [--model efficientnet_lite0] [--px 96] [--out FILE.png]

Prints the validation accuracy after every epoch of both and the test accuracy of the exported float32 and int8 files,
and draws the two curves. Each has the learning rate that suits its start: the recipe `finetune`'s, `fit`'s default.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from rich.console import Console

from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured, load_recipe
from tfcompact.pipeline.target import Target
from tfcompact.runs import environment, store
from tfcompact.tflite import runtime


def curve(run: store.Run) -> list[float]:
    """Validation accuracy in percent after each epoch."""
    with (run.path / "metrics.csv").open() as file:
        return [100 * float(row["validation_accuracy"]) for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--runs", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--out", type=Path, default=Path("docs/images/finetune.png"))
    options = parser.parse_args()
    recipe = dict(load_recipe("finetune"))
    plans = {
        "from ImageNet": recipe["fit"],
        "from scratch": {"epochs": recipe["fit"]["epochs"]},
    }
    target = Target(options.model, data=options.data, px=options.px, runs=options.runs)
    pipeline = Pipeline(target, Console(stderr=True))
    curves, results = {}, {}
    for name, plan in plans.items():
        fit = pipeline.run(configured("fit", plan))
        quantized = pipeline.run(configured("quantize", recipe["quantize"]), fit.name)
        exported = pipeline.export(configured("export", {"formats": ["int8", "float32"]}), quantized.name)
        images, labels = pipeline.images(fit).arrays("test", px=options.px)
        curves[name] = curve(fit)
        results[name] = {
            a.format: 100
            * float((runtime.LiteModel(exported.path / a.path, threads=2)(images).argmax(1) == labels).mean())
            for a in exported.artifacts
        } | {"minutes": sum(r.provenance["cpu_seconds"] for r in (fit, quantized)) / 60}
    machine = environment.machine()
    print(
        f"{options.model}, {options.px} px, {machine['processor']}, {machine['cores']} cores; validation accuracy in "
        f"percent after each epoch, then test accuracy of the exported files ({len(labels)} images)\n"
    )
    epochs = len(next(iter(curves.values())))
    print(f"| start | {' | '.join(str(i + 1) for i in range(epochs))} | float32 | int8 | CPU minutes |")
    print("|---" * (epochs + 4) + "|")
    for name, values in curves.items():
        r = results[name]
        shown = " | ".join(f"{v:.1f}" for v in values)
        print(f"| {name} | {shown} | {r['float32']:.1f} | {r['int8']:.1f} | {r['minutes']:.1f} |")
    draw(curves, options.model, options.out)
    print(f"\n{options.out}")


def draw(curves: dict[str, list[float]], model: str, out: Path) -> None:
    """The curves, each labelled where it ends."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (name, values), colour in zip(curves.items(), ("#0b6e4f", "#b5651d"), strict=True):
        epochs = range(1, len(values) + 1)
        axes.plot(epochs, values, marker="o", markersize=4, color=colour)
        axes.annotate(name, (len(values), values[-1]), (6, 0), textcoords="offset points", color=colour, va="center")
    axes.set(xlabel="epoch", ylabel="validation accuracy, %", title=f"{model} on photographs of flowers")
    axes.set_xlim(0.8, len(values) + 1.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
