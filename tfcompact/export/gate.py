"""What a file must satisfy before it is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tfcompact.data.images import normalize
from tfcompact.errors import RejectedArtifact, UserError
from tfcompact.frameworks import Model, Tensor, keras, tf
from tfcompact.options import opt, require, require_choice
from tfcompact.records.artifact import Normalization
from tfcompact.records.formats import FORMATS, INTEGER, USUAL
from tfcompact.tflite import divergence, flatbuffer, metadata, runtime

Checks = dict[str, float]
"""What was measured of a file, by name."""

OBSERVED_IMAGES = 256  # training images whose activations are the ranges of an int16x8 file
CONFIDENCE = 1.645
"""Standard deviations of a one-sided interval of 95 %: a file is refused where a limit lies beyond that of what was
measured, for accuracy and agreement alike. Of few images a differing answer or two is chance."""


@dataclass(frozen=True)
class Config:
    """What is exported and what it must satisfy."""

    formats: tuple[str, ...] = opt(USUAL, f"files to write: {', '.join(FORMATS)}")
    images: int = opt(500, "validation images on which each file is compared with its Keras model")
    largest_loss: float = opt(1.0, "accuracy a file may lose against its Keras model, in percentage points")
    least_agreement: float = opt(95.0, "images, in percent, on which file and Keras model must name the same class")
    samples: int = opt(8, "validation images to lay beside the files, for the app's gallery")

    def __post_init__(self) -> None:
        require(len(self.formats) > 0, "formats", self.formats, "one or more")
        for name in self.formats:
            require_choice("format", name, FORMATS)
        require(self.images >= 1, "images", self.images, "1 or more")
        require(self.largest_loss >= 0, "largest_loss", self.largest_loss, "0 or more")
        require(0 <= self.least_agreement <= 100, "least_agreement", self.least_agreement, "in [0, 100]")
        require(self.samples >= 0, "samples", self.samples, "0 or more")


@dataclass(frozen=True, eq=False)
class Source:
    """A Keras model as the converter takes it, logits out, and what a file says of where it comes from.

    For integer files the model is what `for_xnnpack.shipped` gives.
    """

    model: Model
    name: str
    run: str
    normalization: Normalization
    classes: tuple[str, ...]
    facts: dict[str, int]  # parameters and macs, for the record


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a file is judged on: uint8 `[n, px, px, 3]` and class indices `[n]` of the validation split.

    `calibration` are images of the training split, uint8 too, for operators without ranges of their own.
    """

    images: np.ndarray
    labels: np.ndarray
    calibration: np.ndarray


def pass_gate(content: bytes, source: Source, format: str, config: Config, evidence: Evidence) -> Checks:
    """What was measured of a file that passes. Raises `RejectedArtifact` at the first check that it fails."""

    def refuse(reason: str) -> RejectedArtifact:
        return RejectedArtifact(f"{source.name} as {format}: {reason}; the file was not written")

    everywhere = set(flatbuffer.OPERATORS.values()) - {"CUSTOM"}
    foreign = [name for name in flatbuffer.operators(content) if name not in everywhere]
    if foreign:
        raise refuse(f"operator {foreign[0]} is not one that every TFLite runtime has")
    strays = flatbuffer.stray_floats(content) if format in (*INTEGER, "int16x8") else []
    if strays:
        raise refuse(f"{len(strays)} tensors stayed float, the first is {strays[0]}")
    said = metadata.read(content)
    if (said.labels, said.normalization) != (source.classes, source.normalization):
        raise refuse("its metadata does not read back as written")

    file = runtime.LiteModel(content)
    given = file(evidence.images)
    expected = _probabilities(source.model, evidence.images, source.normalization)
    step = file.output_quantization.scale if file.output_quantization else 0.0
    checks = compare(given, expected, evidence.labels, step)
    lost = 100 * (checks["keras_accuracy"] - checks["accuracy"])
    if 100 * most_agreement(checks["agreement"], len(given)) < config.least_agreement:
        where = _first_difference(content, source.model, source.normalization, evidence.images[:8])
        raise refuse(
            f"it agrees with its Keras model on {checks['agreement']:.1%} of {len(given)} images, "
            f"less than {config.least_agreement:g} %; {where}"
        )
    right = expected.argmax(1) == evidence.labels, given.argmax(1) == evidence.labels
    if 100 * least_loss(*right) > config.largest_loss:
        where = _first_difference(content, source.model, source.normalization, evidence.images[:8])
        raise refuse(f"it lost {lost:.1f} points of accuracy, more than {config.largest_loss:g}; {where}")
    pieces = runtime.partitions(content)
    return checks | {
        "xnnpack_partitions": pieces.count,
        "xnnpack_nodes": pieces.delegated_nodes,
        "nodes": pieces.total_nodes,
    }


def most_agreement(share: float, images: int) -> float:
    """The upper end of Wilson's interval of a share that was found on so many images."""
    spread = CONFIDENCE**2 / images
    middle = share + spread / 2
    return (middle + CONFIDENCE * math.sqrt(share * (1 - share) / images + spread / images / 4)) / (1 + spread)


def least_loss(before: np.ndarray, after: np.ndarray) -> float:
    """The lower end of the interval of the accuracy lost, given which of the same images were right before and after.

    What is alike on both sides does not widen it: it is of the difference, image by image.
    """
    change, images = before.astype(float) - after.astype(float), len(before)
    return float(change.mean() - CONFIDENCE * math.sqrt(change.var() / images + (CONFIDENCE / images / 2) ** 2))


def compare(given: np.ndarray, expected: np.ndarray, labels: np.ndarray, step: float) -> Checks:
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


def _probabilities(model: Model, images: np.ndarray, normalization: Normalization) -> np.ndarray:
    """The Keras model's answers to uint8 images, float32 `[n, classes]`."""

    def answers(batch: Tensor) -> Tensor:
        probabilities: Tensor = tf.nn.softmax(model(batch, training=False))
        return probabilities

    run = tf.function(answers)
    parts = [
        run(normalize(images[i : i + 32].astype(np.float32), normalization)).numpy()
        for i in range(0, len(images), 32)
    ]
    return np.concatenate(parts)


def _first_difference(content: bytes, model: Model, normalization: Normalization, images: np.ndarray) -> str:
    """A clause that names the first layer whose output in the file is mostly noise against the Keras model's."""
    layers = [layer.name for layer in model.layers[1:]]
    every_layer: Model = keras.Model(model.input, [layer.output for layer in model.layers[1:]])
    outputs = every_layer(normalize(images.astype(np.float32), normalization), training=False)
    reference = {name: value.numpy() for name, value in zip(layers, outputs, strict=True)}
    values = divergence.by_layer(runtime.tensor_values(content, images), layers)
    try:
        found = divergence.first_divergence(reference, values)
    except UserError as error:
        return str(error)
    if found is None:
        return "no single layer stands out: rounding differences add up from layer to layer"
    return f"the two part at layer {found.name} (signal to noise {found.sqnr_db:.1f} dB)"
