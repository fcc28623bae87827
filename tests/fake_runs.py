"""A runs directory to test and look at reports and the app without training: `python tests/fake_runs.py OUT`.

The `.tflite` files are real and run under the real runtime. They name the colour that the mean of a picture is
nearest to, so a test knows the answer. The numbers in the measurements are invented. No TensorFlow here.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from PIL import Image, ImageDraw

from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.records.device import Device
from tfcompact.records.measurement import SCHEMA, Accuracy, Measurement
from tfcompact.runs import measurements, store
from tfcompact.tflite import metadata

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 200),
    "yellow": (235, 210, 60),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}
PX = 32
SHARPNESS = 1.5  # logits per squared distance between normalized colours: sure, but not to 100 %


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


def tensor(
    name: str, shape: tuple[int, ...], kind: int, *, buffer: int = 0, scale: float = 0.0, zero: int = 0
) -> Any:
    """A tensor record; a `scale` makes it a quantized one."""
    t = schema.TensorT()
    t.name, t.shape, t.type, t.buffer = name.encode(), list(shape), kind, buffer
    if scale:
        t.quantization = schema.QuantizationParametersT()
        t.quantization.scale, t.quantization.zeroPoint = [scale], [zero]
    return t


def colour_model(format: str) -> bytes:
    """The bytes of a `.tflite` file: `[1, 32, 32, 3] -> [1, classes]` probabilities by nearest mean colour.

    Nearest, since `-|x - p|^2` differs from `2 p.x - |p|^2` by what all classes share: one dense layer.
    """
    kinds, operators = schema.TensorType, schema.BuiltinOperator
    points = np.array(list(COLOURS.values()), np.float32) / 127.5 - 1
    weights, bias = SHARPNESS * 2 * points, -SHARPNESS * (points**2).sum(1)
    n = len(points)
    model, graph = schema.ModelT(), schema.SubGraphT()
    buffers = [np.zeros(0, np.uint8)]

    def constant(array: np.ndarray) -> int:
        buffers.append(np.frombuffer(array.tobytes(), np.uint8))
        return len(buffers) - 1

    if format == "float32":
        graph.tensors = [
            tensor("image", (1, PX, PX, 3), kinds.FLOAT32),
            tensor("mean", (1, 1, 1, 3), kinds.FLOAT32),
            tensor("weights", (n, 3), kinds.FLOAT32, buffer=constant(weights)),
            tensor("bias", (n,), kinds.FLOAT32, buffer=constant(bias.astype(np.float32))),
            tensor("logits", (1, n), kinds.FLOAT32),
            tensor("probabilities", (1, n), kinds.FLOAT32),
        ]
        steps = [("pool", [0], 1), ("dense", [1, 2, 3], 4), ("softmax", [4], 5)]
        graph.inputs, graph.outputs = [0], [5]
    else:
        pixel, weight, logit = 1 / 127.5, float(abs(weights).max() / 127), 0.15
        q = np.round(weights / weight).astype(np.int8)
        q_bias = np.round(bias / (weight * pixel)).astype(np.int32)
        graph.tensors = [
            tensor("pixels", (1, PX, PX, 3), kinds.INT8, scale=pixel),
            tensor("mean", (1, 1, 1, 3), kinds.INT8, scale=pixel),
            tensor("weights", (n, 3), kinds.INT8, buffer=constant(q), scale=weight),
            tensor("bias", (n,), kinds.INT32, buffer=constant(q_bias), scale=weight * pixel),
            tensor("logits", (1, n), kinds.INT8, scale=logit, zero=0),
            tensor("probabilities", (1, n), kinds.INT8, scale=1 / 256, zero=-128),
        ]
        steps = [("pool", [0], 1), ("dense", [1, 2, 3], 4), ("softmax", [4], 5)]
        graph.inputs, graph.outputs = [0], [5]
        if format == "uint8":
            graph.tensors.append(tensor("image", (1, PX, PX, 3), kinds.UINT8, scale=pixel, zero=128))
            graph.tensors.append(tensor("probabilities_uint8", (1, n), kinds.UINT8, scale=1 / 256))
            steps = [("quantize", [6], 0), *steps, ("quantize", [5], 7)]
            graph.inputs, graph.outputs = [6], [7]

    codes = {
        "pool": operators.AVERAGE_POOL_2D,
        "dense": operators.FULLY_CONNECTED,
        "softmax": operators.SOFTMAX,
        "quantize": operators.QUANTIZE,
    }
    model.operatorCodes, graph.operators, model.buffers = [], [], []
    for code in codes.values():
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, code, 4 if code == codes["dense"] else 2
        model.operatorCodes.append(entry)
    for step, inputs, output in steps:
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = list(codes).index(step), inputs, [output]
        op.builtinOptionsType, op.builtinOptions = options(step)
        graph.operators.append(op)
    for content in buffers:
        buffer = schema.BufferT()
        buffer.data = content
        model.buffers.append(buffer)
    model.version, model.subgraphs, model.description = 3, [graph], b"the colour a picture is nearest to"
    builder = Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def options(step: str) -> tuple[int, Any]:
    """The options record of an operator, and its kind."""
    if step == "pool":
        pool = schema.Pool2DOptionsT()
        pool.padding = schema.Padding.VALID
        pool.filterWidth = pool.filterHeight = PX
        pool.strideW = pool.strideH = 1
        return schema.BuiltinOptions.Pool2DOptions, pool
    if step == "dense":
        return schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT()
    if step == "softmax":
        softmax = schema.SoftmaxOptionsT()
        softmax.beta = 1.0
        return schema.BuiltinOptions.SoftmaxOptions, softmax
    return schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT()


def picture(name: str, px: int = 160) -> Image.Image:
    """A disc of the colour on a ground that is a little lighter."""
    colour = COLOURS[name]
    image = Image.new("RGB", (px, px), tuple(round(0.85 * c + 0.15 * 255) for c in colour))
    ImageDraw.Draw(image).ellipse((px * 0.18, px * 0.18, px * 0.82, px * 0.82), fill=colour)
    return image


def run(root: Path, model: str, stage: str, parent: str | None, files: dict[str, bytes]) -> str:
    """Writes a finished run directory and returns its name."""
    inputs = {"parent": parent, "stage": stage, "config": {}, "data": "5b1f", "seed": 0}
    name = f"{stage}-{store.key(inputs | {'model': model})}"
    minute = {"fit": 10, "quantize": 20, "export": 30}[stage]
    provenance = {
        "model": model,
        "stage": stage,
        "gives": {"fit": "float", "quantize": "quantized"}.get(stage),
        "inputs": inputs,
        "data": {"source": "photos/colours", "name": "colours", "classes": list(COLOURS), "sizes": {"test": 634}},
        "started": f"2025-11-22T12:{minute}:00.000000+00:00",
        "finished": f"2025-11-22T12:{minute + 8}:20.000000+00:00",
        "seconds": 500.0,
    }
    files = files | {"provenance.json": json.dumps(provenance).encode()}
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
    normalization, labels = Normalization(), tuple(COLOURS)
    for model in dict.fromkeys(fake.model for fake in fakes):
        fit = run(root, model, "fit", None, {"notes.json": json.dumps({"accuracy": 0.71}).encode()})
        quantize = run(root, model, "quantize", fit, {"notes.json": json.dumps({"accuracy": 0.705}).encode()})
        files, artifacts = {f"samples/{name}-1.png": png(picture(name)) for name in COLOURS}, []
        for fake in (fake for fake in fakes if fake.model == model):
            content = metadata.attach(
                colour_model(fake.format),
                name=model,
                description="Names the colour of a picture.",
                labels=labels,
                normalization=normalization,
            )
            files[f"model.{fake.format}.tflite"] = content
            artifacts.append(
                Artifact(
                    model=model,
                    run="export-00000000",  # replaced below, once the run's name is known
                    path=f"model.{fake.format}.tflite",
                    format=fake.format,
                    sha256=hashlib.sha256(content).hexdigest(),
                    bytes=round(fake.size_mb * 1e6),
                    image_px=PX,
                    classes=len(labels),
                    normalization=normalization,
                    checks={"parameters": 2_257_984, "macs": 300_774_272},
                )
            )
        export = run(root, model, "export", quantize, files)
        rows = [a.to_json() | {"run": export} for a in artifacts]
        (root / model / export / "artifacts.json").write_text(json.dumps(rows))
        for row, fake in zip(rows, (fake for fake in fakes if fake.model == model), strict=True):
            for threads in (1, 2):
                measurements.save_measurement(root, measurement(fake, row, export, threads))


def measurement(fake: Fake, artifact: dict[str, Any], export: str, threads: int) -> Measurement:
    """An invented row: 60 samples around the median, and an accuracy."""
    noise = np.random.default_rng(threads).gamma(2.0, 0.02, 60)
    wall = fake.p50_ms * (1 + noise - np.median(noise)) * (1.0 if threads == 1 else 0.58)
    return Measurement(
        schema=SCHEMA,
        model=fake.model,
        run=export,
        artifact=artifact["path"],
        artifact_sha256=artifact["sha256"],
        artifact_bytes=artifact["bytes"],
        format=fake.format,
        image_px=PX,
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
