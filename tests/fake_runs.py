"""A runs directory to test and look at reports and the app without training: `python tests/fake_runs.py OUT`.

The `.tflite` files are real and run under the real runtime. They name the colour that the mean of a picture is
nearest to, so a test knows the answer. The numbers in the measurements are invented. No TensorFlow here.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from colour_model import COLOURS, PX, colour_model
from PIL import Image, ImageDraw

from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.records.device import Device
from tfcompact.records.measurement import SCHEMA, Accuracy, Measurement
from tfcompact.runs import measurements, store
from tfcompact.tflite import metadata


class Fake(NamedTuple):
    """One exported file's invented figures."""

    model: str
    format: str
    size_mb: float
    top1: float
    p50_ms: float
    partitions: int


# fmt: off
FAKES = (
    Fake("mobilenet_v2_0.35",  "float32", 1.66, 0.704,  1.21, 1),
    Fake("mobilenet_v2_0.35",  "int8",    0.64, 0.697,  1.32, 1),
    Fake("mobilenet_v2_0.35",  "uint8",   0.64, 0.697,  1.35, 1),
    Fake("mobilenet_v2",       "float32", 8.95, 0.762,  9.98, 1),
    Fake("mobilenet_v2",       "uint8",   2.60, 0.757, 11.87, 1),
    Fake("mobilenet_v3_small", "float32", 6.10, 0.731,  2.74, 1),
    Fake("mobilenet_v3_small", "uint8",   1.80, 0.726,  3.48, 2),
    Fake("inception_v3",       "float32", 87.2, 0.801, 61.00, 1),
    Fake("inception_v3",       "uint8",   22.4, 0.798, 58.10, 3),
)
# fmt: on

DEVICE = Device(kind="host", name="build-7", processor="Intel Xeon 2.20 GHz", cores=2, system="Linux x86_64")


def picture(name: str, px: int = 160) -> Image.Image:
    """A disc of the colour on a ground that is a little lighter."""
    colour = COLOURS[name]
    image = Image.new("RGB", (px, px), tuple(round(0.85 * c + 0.15 * 255) for c in colour))
    ImageDraw.Draw(image).ellipse((px * 0.18, px * 0.18, px * 0.82, px * 0.82), fill=colour)
    return image


class Made(NamedTuple):
    """One run of every invented model: its stage, the kind of network it gives, and what it says of itself."""

    stage: str
    minute: int  # of the hour in which all of them were made
    gives: str | None = None  # None: no network, only files
    summary: str = ""
    accuracy: float | None = None


FIT = Made("fit", 10, "float", "epochs 30", 0.71)
QUANTIZE = Made("quantize", 20, "quantized", "epochs 3", 0.705)
EXPORT = Made("export", 30)


def inputs(made: Made, parent: str | None) -> dict[str, Any]:
    """What determines a run's result."""
    return {"parent": parent, "stage": made.stage, "config": {}, "data": "5b1f", "seed": 0}


def run_name(model: str, made: Made, parent: str | None) -> str:
    """`fit-3f9a10c2`."""
    return f"{made.stage}-{store.key(inputs(made, parent) | {'model': model})}"


def run(root: Path, model: str, made: Made, parent: str | None, files: Mapping[str, bytes] | None = None) -> str:
    """Writes a finished run directory and returns its name."""
    name = run_name(model, made, parent)
    provenance = {
        "model": model,
        "stage": made.stage,
        "inputs": inputs(made, parent),
        "data": {"source": "photos/colours", "name": "colours", "classes": list(COLOURS), "sizes": {"test": 634}},
        "started": f"2025-11-22T12:{made.minute}:00.000000+00:00",
        "finished": f"2025-11-22T12:{made.minute + 8}:20.000000+00:00",
        "seconds": 500.0,
    }
    if made.gives:
        spec = {"kind": "spec", "name": model}
        provenance |= {"gives": made.gives, "summary": made.summary, "network": spec}
    written = {"provenance.json": provenance} | ({"notes.json": {"accuracy": made.accuracy}} if made.accuracy else {})
    files = dict(files or {}) | {file: json.dumps(content).encode() for file, content in written.items()}
    for file, content in files.items():
        path = root / model / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return name


def png(image: Image.Image) -> bytes:
    """The image as a PNG file's bytes."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def build(root: Path, fakes: tuple[Fake, ...] = FAKES) -> None:
    """Fills `root` with runs, exported files and measurements on one and two threads."""
    for model, group in itertools.groupby(fakes, lambda fake: fake.model):
        quantize = run(root, model, QUANTIZE, run(root, model, FIT, None))
        export = run_name(model, EXPORT, quantize)
        files = {f"samples/{name}-1.png": png(picture(name)) for name in COLOURS}
        rows: list[tuple[Fake, Artifact]] = []
        for fake in group:
            content = exported(fake)
            rows.append((fake, artifact(fake, export, content)))
            files[f"model.{fake.format}.tflite"] = content
        files["artifacts.json"] = json.dumps([row.to_json() for _, row in rows]).encode()
        run(root, model, EXPORT, quantize, files)
        for (fake, row), threads in itertools.product(rows, (1, 2)):
            measurements.save_measurement(root, measurement(fake, row, threads))


def exported(fake: Fake) -> bytes:
    """The file itself, with its metadata."""
    return metadata.attach(
        colour_model(fake.format),
        name=fake.model,
        description="Names the colour of a picture.",
        labels=tuple(COLOURS),
        normalization=Normalization(),
    )


def artifact(fake: Fake, export: str, content: bytes) -> Artifact:
    """What the run `export` records of the file; its size is invented."""
    return Artifact(
        model=fake.model,
        run=export,
        path=f"model.{fake.format}.tflite",
        format=fake.format,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=round(fake.size_mb * 1e6),
        image_px=PX,
        classes=len(COLOURS),
        normalization=Normalization(),
        checks={"parameters": 2_257_984, "macs": 300_774_272},
    )


def measurement(fake: Fake, artifact: Artifact, threads: int) -> Measurement:
    """An invented row: 60 samples around the median, and an accuracy."""
    noise = np.random.default_rng(threads).gamma(2.0, 0.02, 60)
    wall = fake.p50_ms * (1 + noise - np.median(noise)) * (1.0 if threads == 1 else 0.58)
    return Measurement(
        schema=SCHEMA,
        **artifact.measured,
        device=DEVICE,
        runtime="ai_edge_litert 2.3.0",
        delegate="xnnpack",
        threads=threads,
        warmup_runs=5,
        wall_ms=tuple(wall.tolist()),
        process_ms=tuple((wall * threads).tolist()),
        xnnpack_partitions=fake.partitions,
        delegated_nodes=64,
        total_nodes=66,
        peak_memory_mb=30 + 4 * fake.size_mb,
        accuracy=Accuracy(fake.top1, min(1.0, fake.top1 + 0.21), 634, "test", "5b1f0c77aa"),
        started="2025-11-22T12:40:00.000000+00:00",
        validity={"throttled": False},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    build(parser.parse_args().out)
