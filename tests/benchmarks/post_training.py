"""Ways from one trained float network to a smaller file, without training and with: which of them loses least.

    python tests/benchmarks/post_training.py path/to/flowers [--networks mobilenet_v2_0.35 …]

Prints a Markdown table for each network. All rows start from the same fit run and are figures of the exported *files*
on all test images: top-1 accuracy, and the images on which a file names the same class as the float32 file. Every
run is kept, so a second call prints the same tables at once, and one that was interrupted goes on.
"""

from __future__ import annotations

import contextlib
import io
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from recorded import digest, tables
from recorded.arguments import Arguments
from recorded.record import Book, recording
from rich.console import Console

from tfcompact.data.images import normalize
from tfcompact.export import gate, verified_file
from tfcompact.networks import rewrite
from tfcompact.pipeline.exporting import source_of
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.runs import store
from tfcompact.tflite import runtime

PX, FIT_EPOCHS, QAT_EPOCHS = 64, 14, 2  # a fit of some three CPU minutes
NETWORKS = ("mobilenet_v2_0.35", "mobilenet_v3_small")
CALIBRATION = 256  # training images, the same for every engine
ANY = {"largest_loss": 100.0, "least_agreement": 0.0}  # files are here to be compared: the gate's limits are off

TRAINED = {"epochs": QAT_EPOCHS}
WAYS: dict[str, dict[str, Any]] = {  # a row's name -> options of `quantize`
    "PTQ, minmax": {"epochs": 0, "ranges": "minmax"},
    "PTQ, average": {"epochs": 0, "ranges": "average"},
    "PTQ, percentile": {"epochs": 0},
    "PTQ, mse": {"epochs": 0, "ranges": "mse"},
    "PTQ, percentile, equalize": {"epochs": 0, "equalize": True},
    "PTQ, percentile, correct_bias": {"epochs": 0, "correct_bias": True},
    "PTQ, percentile, equalize, correct_bias": {"epochs": 0, "equalize": True, "correct_bias": True},
    "PTQ, mse, equalize, correct_bias": {"epochs": 0, "ranges": "mse", "equalize": True, "correct_bias": True},
    "QAT, percentile": TRAINED,
    "QAT, percentile, learn_ranges": TRAINED | {"learn_ranges": True},
    "QAT, mse, learn_ranges": TRAINED | {"ranges": "mse", "learn_ranges": True},
}


class Row(NamedTuple):
    """One file: its format, what it says of each test image, its size, and how XNNPACK takes it."""

    format: str
    probabilities: np.ndarray
    megabytes: float
    partitions: int


def files(name: str, data: str, root: Path, book: Book) -> tuple[dict[str, Row], np.ndarray]:
    """Every file of one network by the way it was made, and the labels of the test images."""
    pipeline = Pipeline(Target(name, data=data, px=PX, runs=root), Console(stderr=True))
    fit = pipeline.run(configured("fit", {"epochs": FIT_EPOCHS}))
    images, labels = pipeline.images(fit).arrays("test", px=PX)
    floats = pipeline.export(gate.Config(formats=("float32", "float16", "dynamic"), **ANY), fit.name)
    book.rests_on(fit, floats)
    found = {f"export, {a.format}": _row(floats.path / a.path, a.format, images) for a in floats.artifacts}
    beside = root / "files" / name / f"{fit.name}-{digest.whole()}"
    found["export, int16x8"] = _row(int16x8(pipeline, fit, beside), "int16x8", images)
    engine = litert_quantizer(pipeline, fit, floats, beside)
    found["litert-quantizer, static"] = _row(engine, "int8", images, floats.artifacts[0].normalization)
    for way, options in WAYS.items():
        config = configured("quantize", {"calibration_images": CALIBRATION} | options)
        quantized = pipeline.run(config, fit.name)
        exported = pipeline.export(gate.Config(formats=("int8",), **ANY), quantized.name)
        book.rests_on(quantized, exported)
        found[way] = _row(exported.path / exported.artifacts[0].path, "int8", images)
    return found, labels


def int16x8(pipeline: Pipeline, fit: store.Run, directory: Path) -> Path:
    """The int16x8 file of a fit run, made unless it is there."""
    path = directory / "model.int16x8.tflite"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        data, network = pipeline.images(fit), rewrite.inference(pipeline.load(fit.name))
        images, labels = data.arrays("validation", px=PX, limit=500)
        evidence = gate.Evidence(images, labels, data.arrays("train", px=PX, limit=CALIBRATION)[0])
        source = source_of(pipeline.spec, fit, network, network)
        verified_file.export(source, "int16x8", gate.Config(**ANY), evidence, directory)
    return path


def litert_quantizer(pipeline: Pipeline, fit: store.Run, floats: store.Run, directory: Path) -> Path:
    """What litert-quantizer's static int8 recipe makes of the float32 file, made unless it is there."""
    path = directory / "litert_quantizer.int8.tflite"
    if not path.exists():
        from litert_quantizer import quantizer, recipe

        directory.mkdir(parents=True, exist_ok=True)
        file = next(floats.path / a.path for a in floats.artifacts if a.format == "float32")
        images = runtime.LiteModel(file).prepared(pipeline.images(fit).arrays("train", px=PX, limit=CALIBRATION)[0])
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            engine = quantizer.Quantizer(str(file), recipe.static_wi8_ai8())
            samples = [{"image": image[np.newaxis]} for image in images]
            observed = engine.calibrate({"serving_default": samples}, num_threads=1)
            path.write_bytes(bytes(engine.quantize(observed).quantized_model))
    return path


def _row(path: Path, format: str, images: np.ndarray, normalization: Any = None) -> Row:
    """`normalization` for a file without metadata, whose int8 input has a grid of its own and not the pixels'."""
    model = runtime.LiteModel(path)
    if normalization is None:
        probabilities = model(images)
    else:
        assert model.input_quantization is not None
        scale, zero_point = model.input_quantization.scale, model.input_quantization.zero_point
        values = normalize(images.astype(np.float32), normalization)
        grid = np.clip(np.round(values / scale) + zero_point, -128, 127).astype(np.int8)
        probabilities = model.dequantized(model.raw(grid))
    return Row(format, probabilities, path.stat().st_size / 1e6, runtime.partitions(path).count)


def judge(name: str, found: dict[str, Row], labels: np.ndarray, book: Book) -> None:
    """A row for each file, compared with the float32 one. ±: the standard error of the difference of accuracies."""
    base = found["export, float32"].probabilities
    chosen, truth = base.argmax(1), base.argmax(1) == labels
    for way, row in found.items():
        right = row.probabilities.argmax(1) == labels
        # Both judge the same images, so the difference is as sure as the images on which one is right alone allow.
        changed = right.astype(float) - truth
        book.add(
            network=name,
            px=PX,
            way=way,
            file=row.format,
            top1=100 * float(right.mean()),
            minus_float=100 * float(changed.mean()),
            error=100 * math.sqrt(float(np.var(changed)) / len(labels)),
            agreement=100 * float(np.mean(row.probabilities.argmax(1) == chosen)),
            mean_difference=float(np.abs(row.probabilities - base).mean()),
            mb=row.megabytes,
            partitions=row.partitions,
            test_images=len(labels),
            calibration_images=CALIBRATION,
            fit_epochs=FIT_EPOCHS,
            qat_epochs=QAT_EPOCHS,
        )


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("--runs", type=Path, default=Path("runs/post_training"))
    arguments.add_selection("--networks", choices=NETWORKS, default=NETWORKS)
    options = arguments.parse_args()
    for name in options.networks:
        with recording(arguments.call(options), name, flag="--networks") as book:
            judge(name, *files(name, options.data, options.runs, book), book)
        print(f"\n{name}, {PX} px\n\n{tables.markdown(tables.of('post_training'), book.tables['rows'])}")


if __name__ == "__main__":
    sys.exit(main())
