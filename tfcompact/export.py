"""From a Keras model to verified `.tflite` files. Export is a gate: a file that fails a check is not written."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfcompact import divergence, lite, metadata
from tfcompact.backend import keras, silenced, tf
from tfcompact.data.images import normalize
from tfcompact.errors import RejectedArtifact, UserError
from tfcompact.options import opt, require, require_choice
from tfcompact.types import FORMATS as ALL_FORMATS
from tfcompact.types import Artifact, Normalization

FORMATS = tuple(name for name in ALL_FORMATS if name != "int16x8")
"""What is written unless told otherwise: XNNPACK runs nothing of an int16x8 file, so few want one."""
INTEGER = ("uint8", "int8")
OBSERVED_IMAGES = 256  # training images whose activations are the ranges of an int16x8 file
SINGLE_IMAGES = 2  # a loss of so few images is no evidence, whatever its share


@dataclass(frozen=True)
class Config:
    """What is exported and what it must satisfy."""

    formats: tuple[str, ...] = opt(FORMATS, "files to write: uint8, int8, float32, float16, dynamic, int16x8")
    images: int = opt(500, "validation images on which each file is compared with its Keras model")
    largest_loss: float = opt(1.0, "accuracy a file may lose against its Keras model, in percentage points")
    least_agreement: float = opt(95.0, "images, in percent, on which file and Keras model must name the same class")
    samples: int = opt(8, "validation images to lay beside the files, for the app's gallery")

    def __post_init__(self) -> None:
        require(len(self.formats) > 0, "formats", self.formats, "one or more")
        for name in self.formats:
            require_choice("format", name, ALL_FORMATS)
        require(self.images >= 1, "images", self.images, "1 or more")
        require(self.largest_loss >= 0, "largest_loss", self.largest_loss, "0 or more")
        require(0 <= self.least_agreement <= 100, "least_agreement", self.least_agreement, "in [0, 100]")
        require(self.samples >= 0, "samples", self.samples, "0 or more")


@dataclass(frozen=True, eq=False)
class Source:
    """A Keras model as the converter takes it, logits out, with the run that made it, its images' normalization, its
    class names. For integer files it is what `quantization.deployable` gives."""

    model: Any
    name: str
    run: str
    normalization: Normalization
    classes: tuple[str, ...]
    facts: dict[str, int]  # parameters and macs, for the record


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a file is judged on: uint8 `[n, px, px, 3]` and class indices `[n]` of the validation split."""

    images: np.ndarray
    labels: np.ndarray
    calibration: np.ndarray


def convert(model: Any, format: str, calibration: np.ndarray) -> bytes:
    """The `.tflite` bytes of `model` (logits `[n, classes]`) with a softmax at its end and the batch fixed to 1.

    For `uint8` and `int8` the model is what `quantization.deployable` gives; its ranges count, and `calibration`,
    normalized images `[n, px, px, 3]`, only covers operators that have none. For `int16x8` it is a lowered float
    network (HARD_SWISH has no 16-bit kernel); the largest values over `calibration` are its ranges, which are
    symmetric (TFLite's 16x8 scheme).
    """
    require_choice("format", format, ALL_FORMATS)
    probabilities = keras.layers.Softmax(name="probabilities")(model.output)
    network = keras.Model(model.input, probabilities)
    shape = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    function = tf.function(lambda image: network(image, training=False)).get_concrete_function(shape)
    # The converter saves whatever owns the variables; of a Keras model it would trace every layer anew, for half a
    # minute.
    owner = tf.Module()
    owner.variables_of_the_network = network.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner)
    if format != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if format == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if format in INTEGER:
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, format)
    if format == "int16x8":
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    with silenced():
        return bytes(converter.convert())


def export(source: Source, format: str, config: Config, evidence: Evidence, directory: Path) -> Artifact:
    """Writes `model.<format>.tflite` to `directory` if it passes every check, and returns its record.

    Raises `RejectedArtifact` that says which check failed, and where agreement is lost, at which layer.
    """
    if format == "int16x8":
        from tfcompact.lowering import lower

        source = dataclasses.replace(source, model=lower(source.model))
    content = metadata.attach(
        convert(source.model, format, normalize(evidence.calibration.astype(np.float32), source.normalization)),
        name=source.name,
        description=f"Image classifier, {len(source.classes)} classes, {format}. Made by tfcompact.",
        labels=source.classes,
        normalization=source.normalization,
        model=source.name,
        run=source.run,
    )
    checks = _pass_gate(content, source, format, config, evidence)
    path = directory / f"model.{format}.tflite"
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    file = lite.LiteModel(path)
    return Artifact(
        model=source.name,
        run=directory.name.removesuffix(".partial"),
        path=path.name,
        format=format,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        image_px=file.image_px,
        classes=file.classes,
        normalization=source.normalization,
        input=file.input_quantization,
        output=file.output_quantization,
        checks=source.facts | checks,
    )


def _pass_gate(content: bytes, source: Source, format: str, config: Config, evidence: Evidence) -> dict[str, Any]:
    """What was measured on the way through. Raises `RejectedArtifact` at the first check that fails."""

    def refuse(reason: str) -> RejectedArtifact:
        return RejectedArtifact(f"{source.name} as {format}: {reason}; the file was not written")

    foreign = [name for name in lite.operators(content) if name.startswith(("CUSTOM", "Flex", "FLEX"))]
    builtin = set(vars(lite.schema.BuiltinOperator))
    foreign += [name for name in lite.operators(content) if name not in builtin]
    if foreign:
        raise refuse(f"operator {foreign[0]} is not one that every TFLite runtime has")
    strays = lite.stray_floats(content) if format in (*INTEGER, "int16x8") else []
    if strays:
        raise refuse(f"{len(strays)} tensors stayed float, the first is {strays[0]}")
    said = metadata.read(content)
    if (said.labels, said.normalization) != (source.classes, source.normalization):
        raise refuse("its metadata does not read back as written")

    file = lite.LiteModel(content)
    given = file(evidence.images)
    expected = _probabilities(source.model, evidence.images, source.normalization)
    step = file.output_quantization.scale if file.output_quantization else 0.0
    checks = compare(given, expected, evidence.labels, step)
    lost = 100 * (checks["keras_accuracy"] - checks["accuracy"])
    if 100 * checks["agreement"] < config.least_agreement:
        where = _first_difference(content, source.model, source.normalization, evidence.images[:8])
        raise refuse(
            f"it agrees with its Keras model on {checks['agreement']:.1%} of {len(given)} images, "
            f"less than {config.least_agreement:g} %; {where}"
        )
    # Of few images, a single one may be more than the limit.
    if lost > config.largest_loss and round(lost / 100 * len(given)) > SINGLE_IMAGES:
        where = _first_difference(content, source.model, source.normalization, evidence.images[:8])
        raise refuse(f"it lost {lost:.1f} points of accuracy, more than {config.largest_loss:g}; {where}")
    pieces = lite.partitions(content)
    return checks | {
        "xnnpack_partitions": pieces.count,
        "xnnpack_nodes": pieces.delegated_nodes,
        "nodes": pieces.total_nodes,
    }


def compare(given: np.ndarray, expected: np.ndarray, labels: np.ndarray, step: float) -> dict[str, Any]:
    """A file's probabilities `[n, classes]` against its Keras model's, as shares of the `n` images.

    Where the file's own step cannot tell the class that Keras names from the file's first (a tie in 8 bits), they
    agree. `step` is 0 for float output.
    """
    chosen = expected.argmax(1)
    behind = given.max(1) - given[np.arange(len(given)), chosen]
    return {
        "images": len(labels),
        "accuracy": float(np.mean(given.argmax(1) == labels)),
        "keras_accuracy": float(np.mean(expected.argmax(1) == labels)),
        "agreement": float(np.mean(behind < step / 2) if step else np.mean(given.argmax(1) == chosen)),
        "largest_probability_difference": float(np.abs(given - expected).max()),
    }


def _probabilities(model: Any, images: np.ndarray, normalization: Normalization) -> np.ndarray:
    run = tf.function(lambda batch: tf.nn.softmax(model(batch, training=False)))
    parts = [
        run(normalize(images[i : i + 32].astype(np.float32), normalization)).numpy()
        for i in range(0, len(images), 32)
    ]
    return np.concatenate(parts)


def _first_difference(content: bytes, model: Any, normalization: Normalization, images: np.ndarray) -> str:
    """Names the first layer whose output in the file is mostly noise against the Keras model's."""
    layers = [layer.name for layer in model.layers[1:]]
    outputs = keras.Model(model.input, [layer.output for layer in model.layers[1:]])(
        normalize(images.astype(np.float32), normalization), training=False
    )
    reference = {name: value.numpy() for name, value in zip(layers, outputs, strict=True)}
    values = divergence.by_layer(lite.tensor_values(content, images), layers)
    try:
        found = divergence.first_divergence(reference, values)
    except UserError as error:
        return str(error)
    if found is None:
        return "no single layer stands out: rounding differences add up from layer to layer"
    return f"the two part at layer {found.name} (signal to noise {found.sqnr_db:.1f} dB)"


def model_card(source: Source, artifacts: Sequence[Artifact], lines: Sequence[str]) -> str:
    """A Markdown page on what the files are, how they were made, how good they are and what they expect."""
    first = artifacts[0]
    mean, std = first.normalization.mean, first.normalization.std
    rows = [
        f"| `{a.path}` | {a.bytes / 1e6:.2f} | {a.checks['accuracy']:.1%} | {a.checks['agreement']:.1%} "
        f"| {a.checks['xnnpack_partitions']} | `{a.sha256[:12]}` |"
        for a in artifacts
    ]
    classes = ", ".join(source.classes[:20]) + (" …" if len(source.classes) > 20 else "")
    return "\n".join(
        [
            f"# {source.name}",
            "",
            f"An image classifier of {len(source.classes)} classes: {classes}.",
            "",
            "## Files",
            "",
            "| file | MB | validation accuracy | agreement with Keras | XNNPACK partitions | sha256 |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Accuracy and agreement were measured on {first.checks['images']} validation images when the files were "
            "written.",
            "",
            "## Input and output",
            "",
            f"One RGB image of {first.image_px} x {first.image_px}. The uint8 file takes pixels as they are, 0..255, "
            "the int8 file pixel - 128,",
            f"the others float32 (pixel - {mean[0]:g}) / {std[0]:g} as their metadata says. Output: one probability "
            "a class, in the order of `labels.txt`.",
            "",
            "## How it was made",
            "",
            *[f"- {line}" for line in lines],
            "",
            "## Limits",
            "",
            "It knows only the classes above and puts every image into one of them. Its accuracy holds for images "
            "like those it was trained on.",
            "",
        ]
    )
