"""Networks with their published ImageNet weights, float and uint8, on a folder of ImageNet's photographs.

    make weights
    python tests/benchmarks/imagenet_weights.py path/to/photographs [--runs runs/imagenet] [--only squeezenet_1.1 …]

Post-training quantization with ranges from 256 of the photographs, export through the gate, then both exported files
on every photograph. The published networks were probably trained on them: what counts is that float and uint8 agree.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from tfcompact import lite, runs
from tfcompact.pipeline import Pipeline
from tfcompact.recipe import configured
from tfcompact.target import Target

NETWORKS = ("efficientnet_lite0", "squeezenet_1.1")


def top(probabilities: np.ndarray, labels: np.ndarray, count: int) -> float:
    """The share of images, in percent, whose label is among the `count` most probable classes."""
    best = np.argsort(-probabilities, 1)[:, :count]
    return 100 * float((best == labels[:, np.newaxis]).any(1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs")
    parser.add_argument("--runs", type=Path, default=Path("runs/imagenet"))
    parser.add_argument("--only", nargs="+", default=NETWORKS)
    options = parser.parse_args()
    rows, count = [], 0
    for name in options.only:
        target = Target(name, data=f"imagenet:{options.photographs}", px=224, runs=options.runs)
        pipeline = Pipeline(target, Console(stderr=True))
        fit = pipeline.run("fit", configured("fit", {"weights": "imagenet", "epochs": 0}))
        quantized = pipeline.run("quantize", configured("quantize", {"epochs": 0}), fit.name)
        exported = pipeline.export(configured("export", {"formats": ["uint8", "float32"]}), quantized.name)
        data = pipeline._data(fit)
        parts = [data.arrays(split, px=224) for split in data.sizes]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        given = {a.format: lite.LiteModel(exported.path / a.path, threads=2)(images) for a in exported.artifacts}
        agree = given["uint8"].argmax(1) == given["float32"].argmax(1)
        sizes = {a.format: a.bytes / 1e6 for a in exported.artifacts}
        row = [name]
        for format in ("float32", "uint8"):
            row += [f"{sizes[format]:.2f}", *(f"{top(given[format], labels, n):.1f}" for n in (1, 5))]
        rows.append([*row, f"{100 * agree.mean():.1f}"])
        count = len(labels)
    machine = runs.machine()
    print(f"{machine['processor']}, {machine['cores']} cores; {count} photographs, shares in percent.\n")
    print("| network | float32, MB | top-1 | top-5 | uint8, MB | top-1 | top-5 | same top-1 |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
