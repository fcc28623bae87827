"""Networks with their published ImageNet weights, float and uint8, on a folder of ImageNet's photographs.

    make weights
    python tests/benchmarks/imagenet_weights.py path/to/photographs [--runs runs/imagenet] [--only squeezenet_1.1 …]

Post-training quantization in every one of the `--ways` (options of `quantize`), with ranges from photographs of the
training split; export through the gate, then the exported files on every photograph. The published networks were
probably trained on them: what counts is that float and uint8 agree. That is told two ways. `first`: both files name
the same class first, as an app would, which takes the lower index where two classes share the highest probability.
`ties alike`: the class that the float file names has the uint8 file's highest probability, be it alone or with
others, as the export gate counts. `last tensor alone` is a network that rounds nothing but its logits: what 8 bits
cost there whatever is done before. `held out` are the photographs of the validation and test splits, from which no
range is taken.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tfcompact.data.images import normalize
from tfcompact.export.gate import compare
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.runs import environment
from tfcompact.tflite import runtime

NETWORKS = ("efficientnet_lite0", "squeezenet_1.1")
WAYS = (
    *("percentile=99.9", "percentile=99.99", "percentile=99.999", "percentile=100"),
    *("ranges=mse", "ranges=mse equalize=true"),
)
ROUNDING = 2e-3
"""Logits that differ by less are a tie of the 8-bit network: its last tensor has steps of 0.1 and more."""


def options_of(way: str) -> dict[str, Any]:
    """The options that `name=value name=value` stands for."""
    pairs = (pair.partition("=")[::2] for pair in way.split())
    return {
        name: value if value.isalpha() and value not in ("true", "false") else json.loads(value)
        for name, value in pairs
    }


def top(probabilities: np.ndarray, labels: np.ndarray, count: int) -> float:
    """The share of images, in percent, whose label is among the `count` most probable classes."""
    best = np.argsort(-probabilities, 1, kind="stable")[:, :count]
    return 100 * float((best == labels[:, np.newaxis]).any(1).mean())


def logits(model: Any, images: np.ndarray, normalization: Normalization) -> np.ndarray:
    """What `model` gives for uint8 `[n, px, px, 3]`: float32 `[n, classes]`."""
    batches = (images[i : i + 32].astype(np.float32) for i in range(0, len(images), 32))
    return np.concatenate([model.predict_on_batch(normalize(batch, normalization)) for batch in batches])


def answers(pipeline: Pipeline, format: str, parent: str, images: np.ndarray) -> tuple[Artifact, np.ndarray]:
    """The exported file of run `parent`, and its probabilities `[n, classes]` for uint8 `[n, px, px, 3]`."""
    exported = pipeline.export(configured("export", {"formats": [format]}), parent)
    (artifact,) = exported.artifacts
    return artifact, runtime.LiteModel(exported.path / artifact.path)(images)


def both_ways(given: np.ndarray, expected: np.ndarray, labels: np.ndarray, step: float) -> str:
    """Agreement in percent, two cells of a table: of the first classes, and with ties alike."""
    alike = compare(given, expected, labels, step)["agreement"]
    return f"{100 * np.mean(given.argmax(1) == expected.argmax(1)):.1f} | {100 * alike:.1f}"


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """`values` in 8 bits over [low, high]."""
    step = (high - low) / 255
    zero_point = np.round(-low / step)
    return step * (np.clip(np.round(values / step) + zero_point, 0, 255) - zero_point)


def table(header: str, rows: list[str]) -> None:
    """Prints a Markdown table."""
    print(f"| {header} |\n|{'---|' * (header.count('|') + 1)}")
    print("\n".join(f"| {row} |" for row in rows), end="\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs")
    parser.add_argument("--runs", type=Path, default=Path("runs/imagenet"))
    parser.add_argument("--only", nargs="+", default=NETWORKS)
    parser.add_argument("--ways", nargs="+", default=WAYS, help='options of quantize: "percentile=100 equalize=true"')
    chosen = parser.parse_args()
    rows: list[str] = []
    agreements: list[str] = []
    counted: dict[str, int] = {}
    for name in chosen.only:
        target = Target(name, data=f"imagenet:{chosen.photographs}", px=224, runs=chosen.runs)
        pipeline = Pipeline(target, Console(stderr=True))
        fit = pipeline.run(configured("fit", {"weights": "imagenet", "epochs": 0}))
        data = pipeline.images(fit)
        counted = dict(data.sizes)
        parts = [data.arrays(split, px=224) for split in data.sizes]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        held_out = np.repeat([split != "train" for split in data.sizes], [len(part[1]) for part in parts])

        unrounded = logits(pipeline.load(fit.name), images, pipeline._normalization(fit))
        original, expected = answers(pipeline, "float32", fit.name, images)
        scores = " | ".join(f"{top(expected, labels, n):.1f}" for n in (1, 5))
        rows.append(f"{name} | float32 | | {original.bytes / 1e6:.2f} | {scores}")
        for way in chosen.ways:
            quantized = pipeline.run(configured("quantize", {"epochs": 0} | options_of(way)), fit.name)
            artifact, given = answers(pipeline, "uint8", quantized.name, images)
            scores = " | ".join(f"{top(given, labels, n):.1f}" for n in (1, 5))
            rows.append(f"{name} | uint8 | {way} | {artifact.bytes / 1e6:.2f} | {scores}")
            network = logits(pipeline.load(quantized.name), images, pipeline._normalization(quantized))
            step = artifact.output.scale
            last = list(quantized.notes["ranges"].values())[-1]
            cells = [
                both_ways(rounded(unrounded, *last), expected, labels, ROUNDING),
                both_ways(network, expected, labels, ROUNDING),
                both_ways(given, expected, labels, step),
                *(both_ways(given[at], expected[at], labels[at], step) for at in (~held_out, held_out)),
            ]
            tied = int(((given == given.max(1, keepdims=True)).sum(1) > 1).sum())
            agreements.append(f"{name} | {way} | {' | '.join(cells)} | {tied}")
    machine = environment.machine()
    print(f"{machine['processor']}, {machine['cores']} cores; photographs: {counted}; shares in percent.\n")
    table("network | file | way | MB | top-1 | top-5", rows)
    where = ("last tensor alone", "8-bit network", "file", "file, train", "file, held out")
    header = " | ".join(f"{part}: first | ties alike" for part in where)
    table(f"network | way | {header} | photographs with a tie", agreements)


if __name__ == "__main__":
    main()
