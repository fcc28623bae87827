"""An `ImageSet` in memory, for what trains: coloured squares in noise, a few classes of them."""

import copy

import numpy as np

from tfcompact.data.images import normalize
from tfcompact.frameworks import tf


class FakeImages:
    """The interface of `tfcompact.data.ImageSet`, with images made up from a fixed seed."""

    name, digest, native_px, notes, flippable = "squares", "0" * 64, 8, (), True

    def __init__(self, *, train: int = 64, classes: int = 3, px: int = 8, spoilt: bool = False) -> None:
        self.classes = tuple(f"class {i}" for i in range(classes))
        self.sizes = {"train": train, "validation": 24, "test": 24}
        self.images, self.labels = {}, {}
        for i, (split, count) in enumerate(self.sizes.items()):
            rng = np.random.default_rng(i)
            labels = np.sort(rng.integers(0, classes, count)) if split == "train" else np.arange(count) % classes
            pixels = rng.normal(128, 50, (count, px, px, 3))
            pixels[np.arange(count), ..., labels % 3] += 40
            self.images[split] = np.clip(pixels, 0, 255).astype(np.uint8)
            self.labels[split] = labels.astype(np.int64)
        self.spoilt = spoilt

    def steps_per_epoch(self, batch: int, images: int = 0) -> int:
        return max(1, min(images or self.sizes["train"], self.sizes["train"]) // batch)

    def held_out(self, count):
        """As `ImageSet.held_out`: training images in the place of the validation split."""
        found = copy.copy(self)
        for part in ("images", "labels"):
            held, rest = np.split(getattr(self, part)["train"], [count])
            setattr(found, part, {"train": rest, "validation": held, "test": rest[:0]})
        found.sizes = {split: len(labels) for split, labels in found.labels.items()}
        return found

    def class_weights(self) -> tuple[float, ...]:
        count = np.bincount(self.labels["train"], minlength=len(self.classes))
        return tuple(float(w) for w in self.sizes["train"] / (len(self.classes) * count))

    def training(self, *, px, batch, normalization, augment, seed, start_epoch=0, epochs, epoch_images=0):
        order = [
            np.random.default_rng((seed, epoch)).permutation(self.sizes["train"])[
                : self.steps_per_epoch(batch, epoch_images) * batch
            ]
            for epoch in range(start_epoch, epochs)
        ]
        rows = np.concatenate(order)
        images = normalize(self.images["train"].astype(np.float32), normalization)
        if self.spoilt:
            images[0] = np.nan
        labels = np.eye(len(self.classes), dtype=np.float32)[self.labels["train"]]
        return (
            tf.data.Dataset.from_tensor_slices(rows)
            .map(lambda row: (tf.gather(images, row), tf.gather(labels, row)))
            .batch(batch, drop_remainder=True)
        )

    def batches(self, split, *, px, batch, normalization, limit=None):
        images, labels = self.arrays(split, px=px, limit=limit)
        if normalization is not None:
            images = normalize(images.astype(np.float32), normalization)
        return tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch)

    def arrays(self, split, *, px, limit=None):
        return self.images[split][:limit], self.labels[split][:limit]
