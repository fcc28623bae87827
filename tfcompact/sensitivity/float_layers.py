"""What keeping some layers of a quantized run float buys and costs: files side by side.

The file with float layers is `float_islands.with_float`'s. Its neighbours are the 8-bit file it was made of, and the
float file it would become if everything were kept.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfcompact.data.images import normalize
from tfcompact.data.imageset import ImageSet
from tfcompact.export import converter, gate
from tfcompact.frameworks import tf
from tfcompact.measure import host
from tfcompact.networks import rewrite
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.records.measurement import Measurement
from tfcompact.runs import lineage, store
from tfcompact.tflite import divergence, flatbuffer, float_islands, metadata, runtime
from tfcompact.weights import saved

if TYPE_CHECKING:
    from tfcompact.sensitivity.layer_ranking import Switches, Unit

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


@dataclass(frozen=True)
class Comparison:
    """Files side by side: a row for each, the layers that are float in the mixed one, and that file's bytes."""

    rows: tuple[Row, ...]
    kept: tuple[str, ...]
    mixed: bytes


def compared(
    run: store.Run, qat: Any, data: ImageSet, worst: Sequence[str], *, readers: bool, format: str, count: int
) -> Comparison:
    """The comparison of the 8-bit file of `qat`, the one with some layers float, and two float files.

    `worst` are the units to keep, with what reads them if `readers`; `format` is uint8 or int8, `count` how many
    validation images there are to compare on. One float file has the weights of `qat`, which training may have
    moved, one those of its float parent.
    """
    networks = _networks(run, qat)
    files, kept = _files(networks, data, worst, readers=readers, format=format)
    rows = _rows(files, _judge(networks, data, count), _measured(files, run))
    return Comparison(rows, kept, files["mixed"])


class _Networks(NamedTuple):
    """A quantized run's network with its parts, and the float one that it was made of."""

    run: store.Run
    qat: Any
    units: tuple[Unit, ...]
    switches: Switches
    parent: store.Run
    float_parent: Any


def _networks(run: store.Run, qat: Any) -> _Networks:
    """The networks that files are made of. Raises `UserError` where the run has no float ancestor."""
    from tfcompact.sensitivity import layer_ranking

    parent = lineage.float_source(run)
    float_parent = rewrite.inference(saved.of_run(parent))
    return _Networks(run, qat, layer_ranking.units(qat), layer_ranking.Switches(qat), parent, float_parent)


def _files(
    networks: _Networks, data: ImageSet, worst: Sequence[str], *, readers: bool, format: str
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The files by name, and the units that are float in the one called `mixed`."""
    from tfcompact.sensitivity import layer_ranking

    run, parent, layers = networks.run, networks.parent, [unit.layers for unit in networks.units]
    pixels, _ = data.arrays("train", px=px_of(run), limit=8)
    integer = integer_file(networks.qat, format, normalize(pixels, normalization_of(run)))
    wanted = layer_ranking.kept_with(worst, networks.units)
    mixed = float_islands.with_float(integer, layers, wanted, networks.switches.weights, readers=readers)
    plain = converter.convert(networks.switches.plain(), "float32", pixels[:0])
    before = converter.convert(networks.float_parent, "float32", pixels[:0])
    kept = float_islands.float_layers(mixed, layers)
    files = {
        format: _described(integer, format, run),
        "mixed": _described(mixed, f"{format}, some layers float", run),
        "float32": _described(plain, "float32", run),
        f"float32 {parent.name}": _described(before, "float32", parent),
    }
    return files, tuple(unit.name for unit in networks.units if unit.name in kept)


def _rows(files: Mapping[str, bytes], judge: _Judge, measured: Sequence[Measurement]) -> tuple[Row, ...]:
    """A row for each file with what it is worth and what it costs; ratios are to the first."""
    medians = [row.percentile_ms(50) or math.nan for row in measured]
    rows = []
    for (name, content), row, median_ms in zip(files.items(), measured, medians, strict=True):
        accuracy, agreement, sqnr_db = judge.judged(content)
        rows.append(
            Row(
                file=name,
                bytes=len(content),
                accuracy=accuracy,
                agreement=agreement,
                sqnr_db=sqnr_db,
                partitions=row.xnnpack_partitions or 0,
                operators=len(flatbuffer.operators(content)),
                median_ms=median_ms,
                ratio=median_ms / medians[0],
            )
        )
    return tuple(rows)


@dataclass(frozen=True, eq=False)
class _Judge:
    """Validation images, and what a file's answers to them are held against.

    `logits` are those of the first `LOGIT_IMAGES` with nothing rounded, `expected` the float parent's answers to all.
    `last` are the layers of the unit whose output the file's softmax reads.
    """

    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    expected: np.ndarray
    last: Sequence[str]

    def judged(self, content: bytes) -> tuple[float, float, float]:
        """Accuracy, agreement with the float parent, and the logits' SQNR in dB, of a file."""
        file = runtime.LiteModel(content)
        step = file.output_quantization.scale if file.output_quantization else 0.0
        checks = gate.compare(file(self.images), self.expected, self.labels, step)
        logits = logits_of(content, self.images[:LOGIT_IMAGES], self.last)
        return checks["accuracy"], checks["agreement"], divergence.sqnr_db(self.logits, logits)


def _judge(networks: _Networks, data: ImageSet, count: int) -> _Judge:
    """What judges files on the first `count` validation images."""
    run = networks.run
    images, labels = data.arrays("validation", px=px_of(run), limit=count)
    return _Judge(
        images,
        labels,
        logits=networks.switches.logits(normalize(images[:LOGIT_IMAGES], normalization_of(run))),
        expected=_in_batches(networks.float_parent, normalize(images, normalization_of(networks.parent))),
        last=networks.units[-1].layers,
    )


def integer_file(qat: Any, format: str, calibration: np.ndarray) -> bytes:
    """The 8-bit file of a quantization-aware network as `export` makes it, before its metadata."""
    from tfcompact.compress.quantization.for_xnnpack import shipped

    return converter.convert(shipped(qat), format, calibration)


def logits_of(content: bytes, images: np.ndarray, layers: Sequence[str]) -> np.ndarray:
    """The logits, `[n, classes]`, that the file's softmax reads: the output of the last of `layers`."""
    found = []
    for start in range(0, len(images), 8):  # every value of every operator is held
        values = divergence.by_layer(
            runtime.tensor_values(content, images[start : start + 8], delegate="builtin"), layers
        )
        found.append(list(values.values())[-1])
    logits = np.concatenate(found)
    return logits.reshape(len(logits), -1)


def _in_batches(model: Any, images: np.ndarray) -> np.ndarray:
    """The model's outputs, in batches that fit into memory."""
    function = tf.function(lambda batch: model(batch, training=False))
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
    """The measurements of the files, in turns, with one thread."""
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
