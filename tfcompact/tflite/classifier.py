"""A `.tflite` file as a classifier: pictures in, labels out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tfcompact.data.images import fit_square
from tfcompact.errors import UserError
from tfcompact.records.artifact import Normalization
from tfcompact.tflite import metadata
from tfcompact.tflite.flatbuffer import Source, described
from tfcompact.tflite.runtime import LiteModel


@dataclass(frozen=True)
class Prediction:
    """The most probable labels, in falling order. `latency_ms` is one run: no decoding, resizing, normalizing."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    latency_ms: float


class Classifier:
    """A file with its labels: photograph in, labels out. What the app uses."""

    def __init__(self, source: Source, *, threads: int = 1) -> None:
        self.model = LiteModel(source, threads=threads)
        self.metadata = metadata.read(source)
        if len(self.labels) != self.model.classes:
            raise UserError(
                f"{described(source)} has {self.model.classes} outputs but {len(self.labels)} labels; "
                "export it again with: make export"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the outputs."""
        return self.metadata.labels

    @property
    def normalization(self) -> Normalization:
        """What the network expects of a pixel."""
        return self.metadata.normalization

    def classify(self, image: np.ndarray, *, top: int = 5) -> Prediction:
        """The `top` most probable labels of an RGB photograph, uint8 `[h, w, 3]` of any size."""
        batch = self.model.prepared(fit_square(image, self.model.image_px)[np.newaxis])
        start = time.perf_counter_ns()
        outputs = self.model.raw(batch)
        elapsed_ms = (time.perf_counter_ns() - start) / 1e6
        probabilities = self.model.dequantized(outputs)[0]
        best = np.argsort(-probabilities, kind="stable")[:top]
        return Prediction(
            tuple(self.labels[i] for i in best), tuple(float(probabilities[i]) for i in best), elapsed_ms
        )
