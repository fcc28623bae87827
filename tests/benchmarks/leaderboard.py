"""One network of every family on the same images with the same recipe and budget: float, PTQ int8 and QAT int8.

    make leaderboard [DATA=path/to/cifar10]
    python tests/benchmarks/leaderboard.py path/to/cifar10 [--runs runs/leaderboard] [--only squeezenet_1.1 …]

Every network gets the same processor time for training (`FIT_MINUTES`, `QAT_MINUTES`), so a costly one sees fewer
images; how many is measured once and kept in the runs directory. Accuracy is that of the *exported files* on all test
images, agreement that of the int8 file with its fake-quant Keras model on 1,000 validation images. Latency is
measured last, all files in turns. Writes `leaderboard.csv` and `leaderboard.png` to `--out`.

Everything that is finished is kept: a second call goes on where the first one stopped, and prints the same table.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tfcompact import files, models
from tfcompact.compress.quantization import calibration, wrapping
from tfcompact.compress.quantization.lowering import lower
from tfcompact.compress.quantization.norm_as_addition import shifted
from tfcompact.export import gate
from tfcompact.frameworks import keras, tf
from tfcompact.measure import host
from tfcompact.measure.accuracy import TestImages, accuracy_of
from tfcompact.networks import rewrite
from tfcompact.pipeline.pipeline import Pipeline, suitable_px
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.records.artifact import Normalization
from tfcompact.records.measurement import Accuracy
from tfcompact.report import measured_rows
from tfcompact.report.plot_style import INK, PALE, PALETTE, QUIET
from tfcompact.runs import environment, store
from tfcompact.tflite import runtime
from tfcompact.training.trainer import Teacher, Trainer

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
        fit_cost = _cost(network, noise, configured("fit", {}), spec.aux_weight or 0.0, None)
        config = configured("quantize", {})
        qat_cost = _cost(qat, noise, config, 0.0, Teacher(parent, config.distill))
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(file, {"fit_ms_an_image": 1e3 * fit_cost, "qat_ms_an_image": 1e3 * qat_cost})
    row = json.loads(file.read_text())

    def share(minutes: float, cost_ms: float, epochs: int) -> int:
        return max(BATCH, int(minutes * 60e3 / cost_ms / epochs) // BATCH * BATCH)

    return (
        share(FIT_MINUTES, row["fit_ms_an_image"], FIT_EPOCHS),
        share(QAT_MINUTES, row["qat_ms_an_image"], QAT_EPOCHS),
    )


def _cost(network: Any, images: np.ndarray, config: Any, aux: float, teacher: Teacher | None) -> float:
    """Processor seconds of an image in a training step, the least of five steps."""

    class TenClasses:
        classes = tuple(range(10))

    trainer = Trainer(network, config, TenClasses, aux, teacher)
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
    data, px = pipeline.images(found["fit"]), pipeline._px(found["fit"])

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


def timed(exports: dict[str, store.Run], rounds: int) -> dict[tuple[str, str, int], float]:
    """Median wall milliseconds of (network, format, threads), all files in turns in this process."""
    keys = [(name, format, threads) for name in exports for format in ("float32", "int8") for threads in (1, 2)]
    subjects = []
    for name, format, threads in keys:
        artifact = next(a for a in exports[name].artifacts if a.format == format)
        subjects.append(host.Subject(exports[name].path / artifact.path, artifact, threads))
    rows = host.measure_interleaved(subjects, host.Config(repeats=rounds, min_seconds=0))
    return {key: statistics.median(row.wall_ms) for key, row in zip(keys, rows, strict=True)}


def elsewhere(exports: dict[str, store.Run], root: Path) -> list[dict[str, Any]]:
    """What phones, and emulated processors, were measured to take for the exported files: a line for each row there
    is of `tfcompact measure RUN --device android` or `emulated`."""
    return [
        {
            "model": name,
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


def elsewhere_table(lines: list[dict[str, Any]]) -> str:
    """Those lines in Markdown, a table for each unit, a column for each place and format."""
    parts = []
    for unit in dict.fromkeys(line["unit"] for line in lines):
        of_unit = [line for line in lines if line["unit"] == unit]
        columns = list(dict.fromkeys((line["place"], line["format"]) for line in of_unit))
        costs = {(line["model"], line["place"], line["format"]): line["cost"] for line in of_unit}
        shown = [f"{unit}:", "", f"| network | {' | '.join(f'{format}, {place}' for place, format in columns)} |"]
        shown.append("|---" * (1 + len(columns)) + "|")
        for name in dict.fromkeys(line["model"] for line in of_unit):
            cells = [costs.get((name, *column)) for column in columns]
            shown.append(f"| {name} | {' | '.join('' if c is None else f'{c:.2f}' for c in cells)} |")
        parts.append("\n".join(shown))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="cifar10")
    parser.add_argument("--runs", type=Path, default=Path("runs/leaderboard"))
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--until", choices=("fit", "accuracy", "board"), default="board")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--rounds", type=int, default=100, help="timed runs of each file")
    options = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    exports: dict[str, store.Run] = {}
    for name in options.only:
        found = train(name, options.data, options.runs, options.until)
        if options.until != "fit":
            cost = json.loads((options.runs / "plan" / f"{name}.json").read_text())
            rows[name] = columns(name, found, tested(name, found, options.runs), cost)
            exports[name] = found["qat_export"]
        keras.backend.clear_session()
        gc.collect()
    if options.until == "board":
        for (name, format, threads), ms in timed(exports, options.rounds).items():
            rows[name][f"{format}_ms_{threads}t"] = round(ms, 3)
        write(rows, options.out)
    if rows:
        print(table(rows))
        if lines := elsewhere(exports, options.runs):
            print(f"\n{elsewhere_table(lines)}")
            _csv(lines, options.out / "leaderboard-devices.csv")


def columns(name: str, found: dict[str, store.Run], judged: dict[str, Any], cost: dict[str, float]) -> dict[str, Any]:
    """One row of the board, without latency. Accuracies in percent, sizes in bytes."""
    artifacts = {a.format: a for a in found["qat_export"].artifacts}
    checks = artifacts["int8"].checks
    seen = found["fit"].provenance["inputs"]["config"]
    return {
        "model": name,
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
        "qat_minus_float": round(judged["qat"] - judged["float"], 2),
        "agreement": round(100 * checks["agreement"], 1),
        "float_bytes": artifacts["float32"].bytes,
        "int8_bytes": artifacts["int8"].bytes,
        "xnnpack_partitions": checks["xnnpack_partitions"],
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The board in Markdown, and what it comes to."""
    machine = environment.machine()
    count = next(iter(rows.values()))["test_images"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; {count:,} test images, top-1 in percent.",
        "",
        "| network | px | MMACs | images seen | float32 | PTQ int8 | QAT int8 | QAT - float | agreement "
        "| float32, MB | int8, MB | float32, ms | int8, ms "
        "| int8 on 2 threads, ms | XNNPACK partitions | CPU minutes |",
        "|" + "---|" * 16,
    ]
    for row in rows.values():
        times = [f"{row[k]:.2f}" if k in row else "" for k in ("float32_ms_1t", "int8_ms_1t", "int8_ms_2t")]
        lines.append(
            f"| {row['model']} | {row['px']} | {row['macs'] / 1e6:.0f} | {row['images_seen']:,} "
            f"| {row['float_accuracy']:.2f} | {row['ptq_accuracy']:.2f} | {row['qat_accuracy']:.2f} "
            f"| {row['qat_minus_float']:+.2f} | {row['agreement']:.1f} | {row['float_bytes'] / 1e6:.2f} "
            f"| {row['int8_bytes'] / 1e6:.2f} | {' | '.join(times)} | {row['xnnpack_partitions']} "
            f"| {row['fit_cpu_minutes'] + row['qat_cpu_minutes']:.1f} |"
        )
    differences = {name: row["qat_minus_float"] for name, row in rows.items()}
    worst = min(differences, key=lambda name: differences[name])
    steps = [row["qat_step_to_float_step"] for row in rows.values()]
    ptq = statistics.mean(row["ptq_accuracy"] - row["float_accuracy"] for row in rows.values())
    lines += [
        "",
        f"QAT - float: mean {statistics.mean(differences.values()):+.2f} points, lowest {differences[worst]:+.2f} "
        f"({worst}); PTQ - float: mean {ptq:+.2f}.",
        f"A step of QAT takes {min(steps):.2f} to {max(steps):.2f} times the processor time of a float step, "
        f"median {statistics.median(steps):.2f}.",
    ]
    return "\n".join(lines)


def write(rows: dict[str, dict[str, Any]], out: Path) -> None:
    """`leaderboard.csv` and `leaderboard.png`, each replaced as a whole."""
    _csv(list(rows.values()), out / "leaderboard.csv")
    draw(list(rows.values())).savefig(out / "leaderboard.png.tmp", format="png", dpi=130)
    (out / "leaderboard.png.tmp").replace(out / "leaderboard.png")


def _csv(lines: list[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    temporary.replace(path)


def draw(rows: list[dict[str, Any]]) -> Any:
    """What 8 bits cost each network, and what they gain: accuracy against float, latency against float."""
    from matplotlib.figure import Figure

    rows = sorted(rows, key=lambda row: row["qat_minus_float"])
    places = range(len(rows))
    figure = Figure(figsize=(11, 0.34 * len(rows) + 1.4), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    left.axvspan(-0.5, 0.5, color=PALE, alpha=0.25, linewidth=0)
    left.axvline(0, color=QUIET, linewidth=1)
    ptq = [row["ptq_accuracy"] - row["float_accuracy"] for row in rows]
    qat = [row["qat_minus_float"] for row in rows]
    left.hlines(places, ptq, qat, color=PALE, linewidth=1.5)
    left.scatter(ptq, places, s=34, facecolor="white", edgecolor=PALETTE[1], linewidth=1.5, label="PTQ", zorder=3)
    left.scatter(qat, places, s=40, color=PALETTE[0], label="QAT", zorder=4)
    left.set_yticks(places, [row["model"] for row in rows])
    left.set_xlabel("int8 - float32, points of test accuracy (the band is half a point)", color=INK)
    left.legend(frameon=False, loc="lower right")
    if all("int8_ms_1t" in row for row in rows):
        gain = [row["float32_ms_1t"] / row["int8_ms_1t"] for row in rows]
        right.barh(places, gain, color=PALETTE[2], height=0.55)
        for place, value in zip(places, gain, strict=True):
            right.annotate(
                f"{value:.1f}", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
        right.axvline(1, color=QUIET, linewidth=1)
    right.set_xlabel("float32 ms / int8 ms, one thread", color=INK)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(colors=INK, labelsize=9)
    return figure


if __name__ == "__main__":
    sys.exit(main())
