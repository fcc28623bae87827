"""Networks with their published ImageNet weights, float and uint8, on a folder of ImageNet's photographs.

    make weights
    python tests/benchmarks/imagenet_weights.py path/to/photographs [--networks squeezenet_1.1 …]

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

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording
from rich.console import Console

from tfcompact.data.images import normalize
from tfcompact.export.gate import compare
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.records.artifact import Normalization
from tfcompact.runs import store
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


def answers(pipeline: Pipeline, format: str, parent: store.Run, images: np.ndarray, book: Book) -> Any:
    """The exported file of run `parent`, and its probabilities `[n, classes]` for uint8 `[n, px, px, 3]`."""
    exported = pipeline.export(configured("export", {"formats": [format]}), parent.name)
    book.rests_on(parent, exported)
    (artifact,) = exported.artifacts
    return artifact, runtime.LiteModel(exported.path / artifact.path)(images)


def both_ways(where: str, given: np.ndarray, expected: np.ndarray, labels: np.ndarray, step: float) -> Any:
    """Agreement in percent, two columns: of the first classes, and with ties alike."""
    alike = compare(given, expected, labels, step)["agreement"]
    first = 100 * float(np.mean(given.argmax(1) == expected.argmax(1)))
    return {f"{where}_first": first, f"{where}_ties": 100 * alike}


def rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """`values` in 8 bits over [low, high]."""
    step = (high - low) / 255
    zero_point = np.round(-low / step)
    return step * (np.clip(np.round(values / step) + zero_point, 0, 255) - zero_point)


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("photographs")
    arguments.add_argument("--runs", type=Path, default=Path("runs/imagenet"))
    arguments.add_selection("--networks", default=NETWORKS)
    arguments.add_argument("--ways", nargs="+", default=WAYS, help='options of quantize: "ranges=mse equalize=true"')
    options = arguments.parse_args()
    for name in options.networks:
        with recording(arguments.call(options), name, flag="--networks") as book:
            target = Target(name, data=f"imagenet:{options.photographs}", px=224, runs=options.runs)
            judge(Pipeline(target, Console(stderr=True)), options.ways, book)
        for table in ("files", "agreement"):
            print(f"\n{tables.markdown(tables.of('imagenet_weights', table), book.tables[table])}")


def judge(pipeline: Pipeline, ways: Sequence[str], book: Book) -> None:
    """The rows of a network: its float file, and in each way its uint8 file."""
    name = pipeline.spec.name
    fit = pipeline.run(configured("fit", {"weights": "imagenet", "epochs": 0}))
    data = pipeline.images(fit)
    parts = [data.arrays(split, px=224) for split in data.sizes]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    held_out = np.repeat([split != "train" for split in data.sizes], [len(part[1]) for part in parts])

    def file(format: str, way: str, megabytes: float, probabilities: np.ndarray) -> None:
        scores = {f"top{n}": top(probabilities, labels, n) for n in (1, 5)}
        counted = {"photographs": len(labels), "training": int((~held_out).sum()), "held_out": int(held_out.sum())}
        book.add("files", network=name, file=format, way=way, mb=megabytes, **scores, **counted)

    unrounded = logits(pipeline.load(fit.name), images, fit.normalization)
    original, expected = answers(pipeline, "float32", fit, images, book)
    file("float32", "", original.bytes / 1e6, expected)
    for way in ways:
        quantized = pipeline.run(configured("quantize", {"epochs": 0} | options_of(way)), fit.name)
        artifact, given = answers(pipeline, "uint8", quantized, images, book)
        file("uint8", way, artifact.bytes / 1e6, given)
        network = logits(pipeline.load(quantized.name), images, quantized.normalization)
        step = artifact.output.scale
        last = list(quantized.notes["ranges"].values())[-1]
        agreement = both_ways("last", rounded(unrounded, *last), expected, labels, ROUNDING)
        agreement |= both_ways("network", network, expected, labels, ROUNDING)
        agreement |= both_ways("file", given, expected, labels, step)
        for where, at in (("train", ~held_out), ("held_out", held_out)):
            agreement |= both_ways(where, given[at], expected[at], labels[at], step)
        tied = int(((given == given.max(1, keepdims=True)).sum(1) > 1).sum())
        calibration = quantized.provenance["inputs"]["config"]["calibration_images"]
        book.add("agreement", network=name, way=way, **agreement, tied=tied, calibration_images=calibration)


if __name__ == "__main__":
    sys.exit(main())
