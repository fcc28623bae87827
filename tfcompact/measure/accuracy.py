"""How often a file is right, on test images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tfcompact.records.measurement import Accuracy
from tfcompact.tflite import runtime


@dataclass(frozen=True, eq=False)
class TestImages:
    """What accuracy is judged on, with where it comes from.

    Each call of `batches` begins anew to give uint8 `[n, px, px, 3]` and class indices `[n]`: only one batch need be
    in memory.
    """

    __test__ = False  # pytest would take the name for a test's

    batches: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]
    split: str
    data_digest: str

    def first(self, count: int | None) -> TestImages:
        """The first `count` of these images; all where that is None, or more."""
        if count is None:
            return self
        most = count

        def batches() -> Iterable[tuple[np.ndarray, np.ndarray]]:
            left = most
            for images, labels in self.batches():
                yield images[:left], labels[:left]
                left -= len(labels)
                if left <= 0:
                    return

        return TestImages(batches, self.split, self.data_digest)


def accuracy_of(model: runtime.LiteModel, test: TestImages) -> Accuracy:
    """The shares of `test` whose label is the model's first, and among its first five.

    Equal probabilities, frequent in 8 bits, count in the order of the classes.
    """
    first = among_five = count = 0
    for images, labels in test.batches():
        order = np.argsort(-model(images), axis=1, kind="stable")
        hits = order[:, :5] == labels[:, np.newaxis]
        first, among_five, count = first + hits[:, 0].sum(), among_five + hits.any(axis=1).sum(), count + len(labels)
    return Accuracy(float(first / count), float(among_five / count), count, test.split, test.data_digest)
