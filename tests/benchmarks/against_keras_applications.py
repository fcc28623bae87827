"""Speed of our int8 files against `tf_keras.applications` with the stock converter, in turns within one process.

    python tests/benchmarks/against_keras_applications.py
    python tests/benchmarks/against_keras_applications.py --networks mobilenet_v2 inception_v3 --rounds 30

Both sides have random weights, whose values do not change what is computed, and batch normalization statistics taken
from random images, without which the ranges of int8 make no sense. Ours goes the way of `quantize` and `export`:
lowered, ranges observed, converted. Theirs goes through `TFLiteConverter` with a representative dataset. Each round
times each file a few times, the order changing from round to round; the ratio is taken within each round, so that
what disturbs the machine disturbs both. Prints Markdown, records each network, and fails where a ratio misses its
goal.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from recorded import digest, tables
from recorded.arguments import Arguments
from recorded.record import recording

from tfcompact import models
from tfcompact.compress.quantization import calibration, for_xnnpack, lowering, norm_as_addition, pixel_grid, wrapping
from tfcompact.export.converter import convert
from tfcompact.frameworks import keras, silenced, tf
from tfcompact.records.artifact import Normalization
from tfcompact.tflite import flatbuffer, runtime

CALIBRATION = 8
PLAIN = {"weights": None}


@dataclass(frozen=True)
class Row:
    """Our name, their builder, the image's side, and how many times faster ours has to be (1: not slower)."""

    ours: str
    theirs: str
    px: int
    goal: float = 1.0
    options: tuple[tuple[str, Any], ...] = ()
    raw_pixels: bool = False  # their network takes 0..255 and normalizes by itself

    def build(self) -> Any:
        """Their network, with random weights."""
        builder = getattr(keras.applications, self.theirs)
        return builder(input_shape=(self.px, self.px, 3), weights=None, **dict(self.options))


ROWS = (
    Row("mobilenet_v1", "MobileNet", 224),
    Row("mobilenet_v2", "MobileNetV2", 224),
    Row("mobilenet_v3_small", "MobileNetV3Small", 224, 1.8, (("include_preprocessing", False),)),
    Row("mobilenet_v3_large", "MobileNetV3Large", 224, 1.8, (("include_preprocessing", False),)),
    Row("inception_v3", "InceptionV3", 299),
    Row("xception", "Xception", 299),
    Row("efficientnet_b0", "EfficientNetB0", 224, 1.2, raw_pixels=True),
    Row("nasnet_mobile", "NASNetMobile", 224, 1.2),
    Row("densenet_121", "DenseNet121", 224, 1.2),
)


def main() -> int:
    """Measures the networks asked for; 1 where one misses its goal."""
    known = {row.ours: row for row in ROWS}
    arguments = Arguments(__file__, __doc__)
    arguments.add_selection("--networks", choices=tuple(known), default=tuple(known))
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--runs", type=int, default=3, help="timed runs of each file in a round")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--files", type=Path, help="folder to keep the converted files in, and to take them from")
    options = arguments.parse_args()
    rows = []
    for name in options.networks:
        with recording(arguments.call(options), name, flag="--networks", threads=options.threads) as book:
            rows.append(book.add(network=name, **_measure(known[name], options)))
    print(f"\n{tables.markdown(tables.of('against_keras_applications'), rows)}")
    missed = [row for row in rows if row["ratio"] < row["goal"]]
    for row in missed:
        print(f"{row['network']}: {row['ratio']:.2f}x, wanted {row['goal']}x", file=sys.stderr)
    return 1 if missed else 0


def _measure(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (CALIBRATION, row.px, row.px, 3))
    images = ((pixels - 128) / 127.5).astype(np.float32)
    contents = {
        "ours": _kept(options.files, f"{row.ours}.ours", lambda: _ours(row, images)),
        "theirs": _kept(options.files, f"{row.ours}.theirs", lambda: _theirs(row, images)),
    }
    files = {side: runtime.LiteModel(content, threads=options.threads) for side, content in contents.items()}
    for file in files.values():
        file.set(file.prepared(pixels[:1].astype(np.uint8)))
        for _ in range(10):
            file.invoke()
    times: dict[str, list[list[float]]] = {side: [] for side in files}
    for turn in range(options.rounds):
        for side in sorted(files, reverse=bool(turn % 2)):
            files[side].invoke()
            samples = []
            for _ in range(options.runs):
                start = time.perf_counter()
                files[side].invoke()
                samples.append((time.perf_counter() - start) * 1e3)
            times[side].append(samples)
    rounds = np.median(times["theirs"], axis=1) / np.median(times["ours"], axis=1)
    low, ratio, high = np.percentile(rounds, (10, 50, 90))
    pieces = {side: runtime.partitions(content, threads=options.threads) for side, content in contents.items()}
    for side, content in contents.items():
        strays = flatbuffer.stray_floats(content)
        slow = {k: n for k, n in collections.Counter(flatbuffer.operators(content)).items() if k in ("HARD_SWISH",)}
        if strays or slow:
            print(f"{row.ours}, {side}: {len(strays)} float tensors, {slow or 'no HARD_SWISH'}", file=sys.stderr)
    return {
        "px": row.px,
        "our_ms": float(np.median(times["ours"])),
        "their_ms": float(np.median(times["theirs"])),
        "ratio": float(ratio),
        "ratio_p10": float(low),
        "ratio_p90": float(high),
        "our_partitions": pieces["ours"].count,
        "their_partitions": pieces["theirs"].count,
        "goal": row.goal,
        "load_after": round(os.getloadavg()[0], 2),
    }


def kept_in(folder: Path, name: str) -> Path:
    """Where a file that today's code makes is kept."""
    return folder / digest.whole() / f"{name}.tflite"


def _kept(folder: Path | None, name: str, make: Callable[[], bytes]) -> bytes:
    if folder is None:
        return make()
    file = kept_in(folder, name)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_bytes(make())
        temporary.replace(file)
    return file.read_bytes()


def _ours(row: Row, images: np.ndarray) -> bytes:
    model = models.build(row.ours, px=row.px)
    _warm(model, images)
    low = norm_as_addition.shifted(lowering.lower(model), [images])
    qat = wrapping.quantized(low)
    calibration.calibrate(qat, low, [images], pixel_grid.on_grid(Normalization()), 99.99)
    return convert(for_xnnpack.shipped(qat), "int8", images[:4])


def _theirs(row: Row, images: np.ndarray) -> bytes:
    """The stock way, with the batch fixed to 1 as ours has it: what is compared is the network."""
    model = row.build()
    images = 127.5 * images + 128 if row.raw_pixels else images
    _warm(model, images)
    shape = tf.TensorSpec((1, row.px, row.px, 3), tf.float32)
    function = tf.function(lambda image: model(image, training=False)).get_concrete_function(shape)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with silenced():
        return bytes(converter.convert())


def _warm(model: Any, images: np.ndarray) -> None:
    """Gives batch normalization the statistics of these images."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)


if __name__ == "__main__":
    sys.exit(main())
