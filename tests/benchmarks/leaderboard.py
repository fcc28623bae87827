"""One network of every family on the same images with the same recipe and budget: float, PTQ int8 and QAT int8.

    make leaderboard [DATA=path/to/cifar10]
    python tests/benchmarks/leaderboard.py path/to/cifar10 [--runs runs/leaderboard] [--networks squeezenet_1.1 …]

Every network gets the same processor time for training (`FIT_MINUTES`, `QAT_MINUTES`), so a costly one sees fewer
images; how many is measured once and kept in the runs directory. Accuracy is that of the *exported files* on all test
images, agreement that of the int8 file with its fake-quant Keras model on 1,000 validation images. Latency is
measured last, all files in turns; the page leaves out those of files that are not a network's newest.

Everything that is finished is kept: a second call goes on where the first one stopped, and prints the same table.
Each network is a part of the record of its own, and so are its latencies and what devices took for its files.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recorded import tables
from recorded.arguments import Arguments, Call
from recorded.record import recording
from recorded.view import Rows, with_latencies
from rich.console import Console

from tfcompact import files, models
from tfcompact.compress.distillation.teachers import SoftLabels
from tfcompact.compress.quantization import calibration, wrapping
from tfcompact.compress.quantization.lowering import lower
from tfcompact.compress.quantization.norm_as_addition import shifted
from tfcompact.export import gate
from tfcompact.frameworks import keras, tf
from tfcompact.measure import host
from tfcompact.measure.accuracy import TestImages, accuracy_of
from tfcompact.networks import rewrite
from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.subject import suitable_px
from tfcompact.pipeline.target import Target
from tfcompact.records.artifact import Normalization
from tfcompact.records.measurement import Accuracy
from tfcompact.report import measured_rows
from tfcompact.runs import store
from tfcompact.tflite import runtime
from tfcompact.training.hooks import AuxiliaryHead, Hook
from tfcompact.training.trainer import Trainer

NETWORKS = (
    "squeezenet_1.1",
    "shufflenet_v1_g3",
    "shufflenet_v2",
    "mobilenet_v1_0.5",
    "mobilenet_v2_0.5",
    "mobilenet_v3_small",
    "mobilenet_v3_large_0.75",
    "mnasnet_a1_0.5",
    "googlenet_bn",
    "inception_v2",
    "inception_v3",
    "xception",
    "efficientnet_b0",
    "efficientnet_lite0",
    "nasnet_mobile",
    "densenet_121",
    "se_resnet_50",
)
FIT_MINUTES, QAT_MINUTES = 3.0, 1.0
FIT_EPOCHS, QAT_EPOCHS = 8, 2
BATCH = 32
VALIDATION = 1000
CROP = 0.7  # the object fills these pictures
ANY = {"largest_loss": 100.0, "least_agreement": 0.0, "images": 1000}  # a bad file is a row of the board too


def images_an_epoch(name: str, px: int, file: Path) -> tuple[int, int]:
    """Training images an epoch of fit and of quantize that the budget allows, measured once and then read."""
    if not file.exists():
        spec = models.spec(name)
        network = models.build(name, px=px, classes=10, aux=True)
        noise = np.random.default_rng(0).normal(size=(BATCH, px, px, 3)).astype(np.float32)
        parent = shifted(lower(rewrite.inference(network)), [noise])
        qat = wrapping.quantized(parent)
        calibration.calibrate(qat, parent, [noise], Normalization((128.0,), (127.5,)), 99.99)
        heads = [AuxiliaryHead(i, spec.aux_weight or 0.0) for i in range(1, len(network.outputs))]
        fit_cost = _cost(network, noise, configured("fit", {}), heads)
        config = configured("quantize", {})
        qat_cost = _cost(qat, noise, config, [SoftLabels(parent, config.distill)])
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(file, {"fit_ms_an_image": 1e3 * fit_cost, "qat_ms_an_image": 1e3 * qat_cost})
    row = json.loads(file.read_text())

    def share(minutes: float, cost_ms: float, epochs: int) -> int:
        return max(BATCH, int(minutes * 60e3 / cost_ms / epochs) // BATCH * BATCH)

    return (
        share(FIT_MINUTES, row["fit_ms_an_image"], FIT_EPOCHS),
        share(QAT_MINUTES, row["qat_ms_an_image"], QAT_EPOCHS),
    )


def _cost(network: Any, images: np.ndarray, config: Any, hooks: Sequence[Hook]) -> float:
    """Processor seconds of an image in a training step, the least of five steps."""

    class TenClasses:
        classes = tuple(range(10))

    trainer = Trainer(network, config, TenClasses, hooks)
    trainer.compile(optimizer=keras.optimizers.AdamW())
    labels = tf.one_hot(np.arange(len(images)) % 10, 10)
    step = tf.function(lambda: trainer.train_step((tf.constant(images), labels)))
    step()
    seconds = []
    for _ in range(5):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    return min(seconds) / len(images)


def train(name: str, data: str, root: Path, until: str) -> dict[str, store.Run]:
    """The finished runs of one network: fit, qat, ptq and their exports, as far as `until` asks."""
    pipeline = Pipeline(Target(name, data=data, runs=root), Console(stderr=True))
    px = suitable_px(pipeline.spec, 32)
    pipeline = Pipeline(Target(name, data=data, px=px, runs=root), Console(stderr=True))
    fit_images, qat_images = images_an_epoch(name, px, root / "plan" / f"{name}.json")
    common = {"batch": BATCH, "validation_images": VALIDATION, "augment": {"crop_area": CROP}}
    fit = pipeline.run(configured("fit", common | {"epochs": FIT_EPOCHS, "epoch_images": fit_images}))
    found = {"fit": fit}
    if until == "fit":
        return found
    ptq = pipeline.run(configured("quantize", common | {"epochs": 0}), fit.name)
    options = common | {"epochs": QAT_EPOCHS, "epoch_images": qat_images}
    qat = pipeline.run(configured("quantize", options), fit.name)
    found |= {"qat": qat, "ptq": ptq}
    found["qat_export"] = pipeline.export(gate.Config(formats=("int8", "float32"), **ANY), qat.name)
    found["ptq_export"] = pipeline.export(gate.Config(formats=("int8",), **ANY), ptq.name)
    return found


def tested(name: str, found: dict[str, store.Run], root: Path) -> dict[str, Any]:
    """Test accuracy in percent of the three exported files, kept beside the runs."""
    made = {"float": ("qat_export", "float32"), "qat": ("qat_export", "int8"), "ptq": ("ptq_export", "int8")}
    record = root / "tested" / f"{found['qat_export'].name}-{found['ptq_export'].name}.json"
    if record.exists():
        return json.loads(record.read_text())
    pipeline = Pipeline(Target(name, runs=root), Console(stderr=True))
    data, px = pipeline.images(found["fit"]), found["fit"].px

    def batches():
        for start in range(0, data.sizes["test"], 500):
            yield data.arrays("test", px=px, start=start, limit=start + 500)

    row: dict[str, Any] = {"images": data.sizes["test"]}
    for column, (run, format) in made.items():
        artifact = next(a for a in found[run].artifacts if a.format == format)
        judged: Accuracy = accuracy_of(
            runtime.LiteModel(found[run].path / artifact.path, threads=2),
            TestImages(batches, "test", data.digest),
        )
        row[column] = 100 * judged.top1
    record.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(record, row)
    return row


def timed(call: Call, exports: dict[str, store.Run], rounds: int) -> Rows:
    """Median wall milliseconds of each network's files on one and two threads, all in turns in this process."""
    keys = [(name, format, threads) for name in exports for format in ("float32", "int8") for threads in (1, 2)]
    with recording(call, lambda row: f"{row['model']} latency", flag="--networks") as book:
        subjects = []
        for name, format, threads in keys:
            artifact = next(a for a in exports[name].artifacts if a.format == format)
            subjects.append(host.Subject(exports[name].path / artifact.path, artifact, threads))
        measured = host.measure_interleaved(subjects, host.Config(repeats=rounds, min_seconds=0))
        ms: dict[str, dict[str, float]] = {name: {} for name in exports}
        for (name, format, threads), row in zip(keys, measured, strict=True):
            ms[name][f"{format}_ms_{threads}t"] = round(statistics.median(row.wall_ms), 3)
        return Rows(
            book.add("latency", model=name, run=exports[name].name, **columns) for name, columns in ms.items()
        )


def elsewhere(call: Call, exports: dict[str, store.Run], root: Path) -> list[dict[str, Any]]:
    """What phones, and emulated processors, were measured to take for the exported files: a row for each there is of
    `tfcompact measure RUN --device android` or `emulated`."""
    found = [
        {
            "model": name,
            "run": run.name,
            "format": row.format,
            "place": row.setting.place,
            "cost": row.cost,
            "unit": row.setting.cost.text,
            "flags": " ".join(row.flags),
        }
        for name, run in exports.items()
        for row in measured_rows.measured(root, name).rows
        if row.run == run.name and row.setting.device_kind != "host" and row.cost is not None
    ]
    if found:
        with recording(call, lambda row: f"{row['model']} devices", flag="--networks") as book:
            for row in found:
                book.add("devices", **row)
    return found


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data", nargs="?", default="cifar10")
    arguments.add_argument("--runs", type=Path, default=Path("runs/leaderboard"))
    arguments.add_selection("--networks", choices=NETWORKS, default=NETWORKS)
    arguments.add_argument("--until", choices=("fit", "accuracy", "board"), default="board")
    arguments.add_argument("--rounds", type=int, default=100, help="timed runs of each file")
    options = arguments.parse_args()
    until = options.until
    options.until = "board"  # the rows are the same, wherever this call stops
    call = arguments.call(options)
    rows, latencies, devices = Rows(), Rows(), []
    exports: dict[str, store.Run] = {}
    for name in options.networks:
        if until == "fit":
            train(name, options.data, options.runs, until)
            continue
        with recording(call, name, flag="--networks") as book:
            found = train(name, options.data, options.runs, until)
            book.rests_on(*found.values())
            cost = json.loads((options.runs / "plan" / f"{name}.json").read_text())
            rows.append(book.add(**columns(name, found, tested(name, found, options.runs), cost)))
        exports[name] = found["qat_export"]
        keras.backend.clear_session()
        gc.collect()
    if until == "board":
        latencies = timed(call, exports, options.rounds)
        devices = elsewhere(call, exports, options.runs)
    if rows:
        print(f"\n{tables.markdown(tables.of('leaderboard'), with_latencies(rows, latencies))}")
    if devices:
        print(f"\n{tables.devices(devices)}")


def columns(name: str, found: dict[str, store.Run], judged: dict[str, Any], cost: dict[str, float]) -> dict[str, Any]:
    """One row of the board, without latency. Accuracies in percent, sizes in bytes."""
    artifacts = {a.format: a for a in found["qat_export"].artifacts}
    checks = artifacts["int8"].checks
    seen = found["fit"].provenance["inputs"]["config"]
    return {
        "model": name,
        "run": found["qat_export"].name,
        "family": models.spec(name).family,
        "px": artifacts["int8"].image_px,
        "parameters": checks["parameters"],
        "macs": checks["macs"],
        "images_seen": seen["epochs"] * seen["epoch_images"],
        "fit_cpu_minutes": round(found["fit"].provenance["cpu_seconds"] / 60, 2),
        "qat_cpu_minutes": round(found["qat"].provenance["cpu_seconds"] / 60, 2),
        "qat_step_to_float_step": round(cost["qat_ms_an_image"] / cost["fit_ms_an_image"], 2),
        "test_images": judged["images"],
        "float_accuracy": round(judged["float"], 2),
        "ptq_accuracy": round(judged["ptq"], 2),
        "qat_accuracy": round(judged["qat"], 2),
        "ptq_minus_float": round(judged["ptq"] - judged["float"], 2),
        "qat_minus_float": round(judged["qat"] - judged["float"], 2),
        "agreement": round(100 * checks["agreement"], 1),
        "float_bytes": artifacts["float32"].bytes,
        "int8_bytes": artifacts["int8"].bytes,
        "xnnpack_partitions": checks["xnnpack_partitions"],
    }


if __name__ == "__main__":
    sys.exit(main())
