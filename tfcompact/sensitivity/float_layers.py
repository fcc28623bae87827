"""What keeping some layers of a quantized run float buys and costs: files side by side.

The file with float layers is `mixed.with_float`'s. Its neighbours are the 8-bit file it was made of, and the float
file it would become if everything were kept.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfcompact.data.images import normalize
from tfcompact.export import converter, gate
from tfcompact.frameworks import tf
from tfcompact.measure import host
from tfcompact.networks import rewrite
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.records.measurement import Measurement
from tfcompact.runs import lineage, store
from tfcompact.tflite import divergence, flatbuffer, float_islands, metadata, runtime
from tfcompact.weights import saved

LOGIT_IMAGES = 256  # whose logits are read out of the files, which needs kernels that keep every value


@dataclass(frozen=True)
class Row:
    """One file in the comparison. Shares are in [0, 1]; `agreement` is with the float parent."""

    file: str
    bytes: int
    accuracy: float
    agreement: float
    sqnr_db: float
    partitions: int
    operators: int
    median_ms: float
    ratio: float  # of the median latency to that of the 8-bit file


def compared(
    run: store.Run, qat: Any, data: Any, worst: Sequence[str], *, readers: bool, format: str, count: int
) -> tuple[list[Row], list[str], bytes]:
    """A row for each file, the layers that are float in the mixed one, and that file's bytes.

    `worst` are the units to keep, with what reads them if `readers`; `format` is uint8 or int8, `count` how many
    validation images there are to compare on. One float file has the weights of `qat`, which training may have
    moved, one those of its float parent.
    """
    from tfcompact.sensitivity import layer_ranking

    parts = layer_ranking.units(qat)
    network = layer_ranking.Switches(qat)
    images, labels = data.arrays("validation", px=px_of(run), limit=count)
    reference = network.logits(normalize(images, normalization_of(run)))
    fit = lineage.float_source(run)
    parent = rewrite.inference(saved.load(fit.path / "model.h5"))
    run_parent = tf.function(lambda batch: parent(batch, training=False))
    expected = _in_batches(run_parent, normalize(images, normalization_of(fit)))

    calibration, _ = data.arrays("train", px=px_of(run), limit=8)
    integer = integer_file(qat, format, normalize(calibration, normalization_of(run)))
    layers = [unit.layers for unit in parts]
    wanted = layer_ranking.kept_with(worst, parts)
    some = float_islands.with_float(integer, layers, wanted, network.weights, readers=readers)
    files = {
        format: _described(integer, format, run),
        "mixed": _described(some, f"{format}, some layers float", run),
        "float32": _described(converter.convert(network.plain(), "float32", images[:0]), "float32", run),
        f"float32 {fit.name}": _described(converter.convert(parent, "float32", images[:0]), "float32", fit),
    }
    measured = _measured(files, run)
    rows = []
    for (name, content), row in zip(files.items(), measured, strict=True):
        file = runtime.LiteModel(content)
        step = file.output_quantization.scale if file.output_quantization else 0.0
        checks = gate.compare(file(images), expected, labels, step)
        logits = _logits(content, images[:LOGIT_IMAGES], parts[-1].layers)
        median, first = row.percentile_ms(50), measured[0].percentile_ms(50)
        rows.append(
            Row(
                name,
                len(content),
                checks["accuracy"],
                checks["agreement"],
                divergence.sqnr_db(reference[:LOGIT_IMAGES], logits),
                row.xnnpack_partitions or 0,
                len(flatbuffer.operators(content)),
                median or math.nan,
                median / first if median and first else math.nan,
            )
        )
    return (
        rows,
        sorted(float_islands.float_layers(some, layers), key=[unit.name for unit in parts].index),
        files["mixed"],
    )


def integer_file(qat: Any, format: str, calibration: np.ndarray) -> bytes:
    """The 8-bit file of a quantization-aware network as `export` makes it, before its metadata."""
    from tfcompact.compress.quantization.for_xnnpack import shipped

    return converter.convert(shipped(qat), format, calibration)


def _logits(content: bytes, images: np.ndarray, layers: Sequence[str]) -> np.ndarray:
    """What the file's softmax reads, `[n, classes]`: the output of the last of `layers`."""
    found = []
    for start in range(0, len(images), 8):  # every value of every operator is held
        values = divergence.by_layer(
            runtime.tensor_values(content, images[start : start + 8], delegate="builtin"), layers
        )
        found.append(list(values.values())[-1])
    logits = np.concatenate(found)
    return logits.reshape(len(logits), -1)


def _in_batches(function: Any, images: np.ndarray) -> np.ndarray:
    return np.concatenate([function(tf.constant(images[i : i + 64])).numpy() for i in range(0, len(images), 64)])


def _described(content: bytes, kind: str, run: store.Run) -> bytes:
    """The file with its metadata."""
    classes = run.provenance["data"]["classes"]
    return metadata.attach(
        content,
        name=run.model,
        description=f"Image classifier, {len(classes)} classes, {kind}. Made by tfcompact.",
        labels=classes,
        normalization=normalization_of(run),
        model=run.model,
        run=run.name,
    )


def _measured(files: Mapping[str, bytes], run: store.Run) -> list[Measurement]:
    """Of each file, in turns, with one thread."""
    with tempfile.TemporaryDirectory() as folder:
        subjects = []
        for i, (name, content) in enumerate(files.items()):
            path = Path(folder) / f"{i}.tflite"
            path.write_bytes(content)
            artifact = Artifact(
                model=run.model,
                run=run.name,
                path=path.name,
                format=name.split()[0],
                sha256=hashlib.sha256(content).hexdigest(),
                bytes=len(content),
                image_px=px_of(run),
                classes=len(run.provenance["data"]["classes"]),
                normalization=metadata.read(content).normalization,
            )
            subjects.append(host.Subject(path, artifact))
        return host.measure_interleaved(subjects)


def px_of(run: store.Run) -> int:
    """The side of the images that `run` was made with."""
    px: int = run.provenance["inputs"]["px"]
    return px


def normalization_of(run: store.Run) -> Normalization:
    """What the network of `run` expects of a pixel."""
    return Normalization.from_json(run.provenance["inputs"]["normalization"])
