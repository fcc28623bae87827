"""Float, QAT-int8 and PTQ-int8 test accuracy of the exported files, each network trained from scratch on photographs.

    python tests/benchmarks/flowers.py path/to/flowers [--runs runs/flowers] [--only mobilenet_v2 …]

Prints a Markdown table. Every run is kept, so a second call prints the same table at once, and one that was
interrupted goes on. CPU minutes are processor time of all threads for fit and quantize, from the runs' own records.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from rich.console import Console

from tfcompact.export import gate
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.runs import environment, store
from tfcompact.tflite import runtime

# px and epochs are what ten CPU minutes allow on two cores.
PLAN = {
    "mobilenet_v2": {"px": 64, "fit": 14, "quantize": 2, "seeds": (0, 1, 2)},
    "mobilenet_v3_small": {"px": 96, "fit": 18, "quantize": 3, "seeds": (0,)},
    "inception_v3": {"px": 75, "fit": 3, "quantize": 1, "seeds": (0,)},
}


def accuracy(run: store.Run, format: str, images, labels) -> float:
    """Top-1 accuracy in percent of one exported file."""
    file = next(a for a in run.artifacts if a.format == format)
    return 100 * float((runtime.LiteModel(run.path / file.path, threads=2)(images).argmax(1) == labels).mean())


def row(name: str, seed: int, data: str, root: Path) -> dict[str, float]:
    plan = PLAN[name]
    pipeline = Pipeline(Target(name, data=data, px=plan["px"], seed=seed, runs=root), Console(stderr=True))
    fit = pipeline.run(configured("fit", {"epochs": plan["fit"]}))
    qat = pipeline.run(configured("quantize", {"epochs": plan["quantize"]}), fit.name)
    ptq = pipeline.run(configured("quantize", {"epochs": 0}), fit.name)
    exported = pipeline.export(parent=qat.name)
    # Post-training quantization is here to be compared, so the gate's limits are off for it.
    as_it_is = gate.Config(formats=("int8",), largest_loss=100.0, least_agreement=0.0)
    exported_ptq = pipeline.export(as_it_is, ptq.name)
    images, labels = pipeline.images(fit).arrays("test", px=plan["px"])
    return {
        "float": accuracy(exported, "float32", images, labels),
        "qat": accuracy(exported, "int8", images, labels),
        "ptq": accuracy(exported_ptq, "int8", images, labels),
        "minutes": sum(r.provenance["cpu_seconds"] for r in (fit, qat)) / 60,
        "agreement": 100 * next(a for a in exported.artifacts if a.format == "int8").checks["agreement"],
        "images": len(labels),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--runs", type=Path, default=Path("runs/flowers"))
    parser.add_argument("--only", nargs="+", choices=tuple(PLAN), default=tuple(PLAN))
    options = parser.parse_args()
    rows = {(n, s): row(n, s, options.data, options.runs) for n in options.only for s in PLAN[n]["seeds"]}
    machine = environment.machine()
    images = int(next(iter(rows.values()))["images"])
    print(f"{machine['processor']}, {machine['cores']} cores; {images} test images, top-1 in percent.\n")
    print("| network | px | seed | float32 | QAT int8 | PTQ int8 | QAT - float | QAT agreement | CPU minutes |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (name, seed), r in rows.items():
        print(
            f"| {name} | {PLAN[name]['px']} | {seed} | {r['float']:.1f} | {r['qat']:.1f} | {r['ptq']:.1f} "
            f"| {r['qat'] - r['float']:+.1f} | {r['agreement']:.1f} | {r['minutes']:.1f} |"
        )
    for name in options.only:
        differences = [r["qat"] - r["float"] for (n, _), r in rows.items() if n == name]
        if len(differences) > 1:
            print(
                f"\n{name}: QAT - float, mean of {len(differences)} seeds {statistics.mean(differences):+.2f}, "
                f"from {min(differences):+.1f} to {max(differences):+.1f}."
            )


if __name__ == "__main__":
    sys.exit(main())
