"""An opened image set: its splits, and its pixels as `tf.data` datasets or arrays."""

from __future__ import annotations

import copy
import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfcompact.data.augment import Augment
from tfcompact.data.batches import training_batches
from tfcompact.data.cache import Store
from tfcompact.data.collection import Collection, cores
from tfcompact.data.feed import Reader, from_files, from_memory, from_python
from tfcompact.data.images import Pixels, fit_square, normalize, stretch
from tfcompact.data.splits import SPLITS, Split, split
from tfcompact.errors import UserError
from tfcompact.frameworks import Dataset, Tensor, tf
from tfcompact.records.artifact import Normalization

MARGIN = 8 / 7  # resolution of the pixels kept for training crops against the crop's: 256 px for 224
PLACEHOLDERS = 10  # files of one content from which on they are told, though of one class and split
LISTED = 20  # duplicates named one by one; of more, the number


class ImageSet:
    """Labelled images in three splits.

    `digest` is a sha256 over class, content hash and split of every image: file names do not enter. `sizes` counts
    images by split, `native_px` is the median short side, `notes` tells of skipped files and duplicates, one line
    each. `flippable`: whether a mirrored image still belongs to its class (for `Augment.flip` left open).
    """

    def __init__(self, collection: Collection, cache: Path, *, max_bytes: int) -> None:
        self._images, self._cache, self._max_bytes = collection, cache, max_bytes
        self.name, self.classes = collection.name, collection.classes
        self.flippable = collection.flippable
        splits = (
            [name or "train" for name in collection.given]
            if collection.is_split
            else split(collection.classes, collection.labels.tolist(), collection.content, collection.given)
        )
        self._members = {name: self._ordered([i for i, s in enumerate(splits) if s == name]) for name in SPLITS}
        self.sizes: dict[Split, int] = {name: len(members) for name, members in self._members.items()}
        self.native_px = int(np.median(collection.sizes.min(axis=1)))
        self.notes = (*collection.notes, *_duplicates(collection, splits))
        rows = sorted(
            f"{collection.classes[label]}\t{content.hex()}\t{name}\n"
            for label, content, name in zip(collection.labels, collection.content, splits, strict=True)
        )
        self.digest = hashlib.sha256("".join(rows).encode()).hexdigest()
        self._stores: dict[tuple[str, int], Store] = {}

    def steps_per_epoch(self, batch: int, images: int = 0) -> int:
        """Whole batches in `images` of the training split, or in all of it where that is less or 0; at least 1."""
        return max(1, min(images or self.sizes["train"], self.sizes["train"]) // batch)

    def held_out(self, count: int) -> ImageSet:
        """The same images with `count` training images, balanced over classes, in the place of the validation split.

        They are no longer in the training split; the test split is empty. Whoever judges by them leaves the real
        validation and test images unseen. Raises `UserError` where no training image would be left.
        """
        held, rest = np.split(self._members["train"], [min(count, len(self._members["train"]))])
        if not len(rest):
            raise UserError(f"{count} images cannot be held out: there are {len(held)} to train with; hold out fewer")
        found = copy.copy(self)
        found._members = {"train": rest, "validation": held, "test": rest[:0]}
        found.sizes = {name: len(members) for name, members in found._members.items()}
        return found

    def class_weights(self) -> tuple[float, ...]:
        """For each class the inverse of its frequency in training, scaled to a mean of 1 over the training images."""
        count = np.bincount(self._labels("train"), minlength=len(self.classes))
        return tuple(float(w) for w in self.sizes["train"] / (len(self.classes) * count))

    def training(
        self,
        *,
        px: int,
        batch: int,
        normalization: Normalization,
        augment: Augment,
        seed: int,
        start_epoch: int = 0,
        epochs: int,
        epoch_images: int = 0,
    ) -> Dataset:
        """A `tf.data.Dataset` of normalized float32 `[batch, px, px, 3]` and one-hot float32 `[batch, classes]`.

        `steps_per_epoch(batch, epoch_images) * (epochs - start_epoch)` batches, each epoch in another order; with
        `epoch_images` it is the first so many of that order. Every batch is a function of `seed`, its epoch and its
        place in it: what epoch k gives does not depend on where one started. Decodes into the cache first, with a
        progress bar, what is not there yet.
        """
        members = self._members["train"]
        sizes = self._images.sizes[members]
        # Not more than there is to see: a small image gains nothing from being kept enlarged.
        side = max(1, min(math.ceil(px * MARGIN), round(float(np.median(np.sqrt(sizes.prod(axis=1)))))))
        return training_batches(
            records=self._reader("stretch", side, members, batch),
            labels=self._labels("train"),
            proportions=(sizes[:, 0] / sizes[:, 1]).astype(np.float32),
            classes=len(self.classes),
            px=px,
            batch=batch,
            steps=self.steps_per_epoch(batch, epoch_images),
            normalization=normalization,
            augment=augment,
            flip=self.flippable if augment.flip is None else augment.flip,
            least_crop=self._images.least_crop if augment.crop_area is None else augment.crop_area,
            seed=seed,
            start_epoch=start_epoch,
            epochs=epochs,
        )

    def batches(
        self, split: Split, *, px: int, batch: int, normalization: Normalization | None, limit: int | None = None
    ) -> Dataset:
        """A `tf.data.Dataset` of images after `images.fit_square` `[n, px, px, 3]` and int64 labels `[n]`.

        Images are normalized float32, or uint8 where `normalization` is None. The order is fixed; with `limit`, the
        first so many of it, which are balanced over classes. The last batch may be smaller.
        """
        members = self._members[split][:limit]
        labels = self._labels(split)[:limit]
        read = self._reader("fit", px, members, 1)

        def load(row: Tensor) -> tuple[Tensor, Tensor]:
            return read(tf.stack([row]))[0], tf.gather(labels, row)

        def finish(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            if normalization is None:
                return images, labels
            pixels: Tensor = tf.cast(images, tf.float32)
            return normalize(pixels, normalization), labels

        places: Dataset = tf.data.Dataset.range(len(members))
        data = places.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(batch)
        return data.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def arrays(
        self, split: Split, *, px: int, start: int = 0, limit: int | None = None
    ) -> tuple[Pixels, npt.NDArray[np.int64]]:
        """The same images and labels as `batches`, at once: uint8 `[n, px, px, 3]` and int64 `[n]`. No TensorFlow.

        Those at places `start` up to `limit` of the split's order.
        """
        members = self._members[split][start:limit]
        self._store("fit", px, members)
        return self._records("fit", px, members), self._labels(split)[start:limit]

    def _labels(self, split: Split) -> npt.NDArray[np.int64]:
        """The labels of a split, in its order."""
        return self._images.labels[self._members[split]]

    def _ordered(self, members: Sequence[int]) -> npt.NDArray[np.int64]:
        """The images by content hash, the classes taking turns: independent of names, each beginning balanced."""
        turn: Counter[int] = Counter()
        keyed = []
        for i in sorted(members, key=lambda i: self._images.content[i]):
            label = int(self._images.labels[i])
            keyed.append((turn[label], label, i))
            turn[label] += 1
        return np.array([i for _, _, i in sorted(keyed)], np.int64)

    def _transformed(self, kind: str, side: int, i: int) -> Pixels:
        """The record of one image: `fit` for evaluation, `stretch` for training."""
        if kind == "fit":
            return fit_square(self._images.load(i, None), side)
        return stretch(self._images.load(i, side), side)

    def _store(self, kind: str, side: int, members: npt.NDArray[np.int64]) -> Store:
        """The store of this kind and size, with the members decoded into it as far as it is to hold them."""
        if (kind, side) not in self._stores:
            path = self._cache / "pixels" / self._images.key / f"{kind}-{side}"
            self._stores[kind, side] = Store(path, side, max_bytes=self._max_bytes)
        self._stores[kind, side].fill(
            [self._images.content[i] for i in members],
            lambda k: self._transformed(kind, side, int(members[k])),
            title=f"Decoding {self.name} to {side} px",
        )
        return self._stores[kind, side]

    def _records(self, kind: str, side: int, members: npt.NDArray[np.int64]) -> Pixels:
        """`uint8 [n, side, side, 3]`: from the store, or made now; either way the same."""
        out = np.empty((len(members), side, side, 3), np.uint8)
        store = self._stores.get((kind, side))

        def copy(k: int) -> None:
            content = self._images.content[i := int(members[k])]
            kept = store is not None and content in store
            out[k] = store.read(content) if store is not None and kept else self._transformed(kind, side, i)

        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(copy, range(len(members))))
        return out

    def _reader(self, kind: str, side: int, members: npt.NDArray[np.int64], count: int) -> Reader:
        """What adds to a graph the reading of `count` records, given their places among `members`."""
        if kind == "stretch" and self._images.in_memory:
            return from_memory(self._records(kind, side, members))
        store = self._store(kind, side, members)
        contents = [self._images.content[i] for i in members]
        if all(content in store for content in contents):
            return from_files([store.file(content) for content in contents], side, count, keep=store)
        return from_python(lambda rows: self._records(kind, side, members[rows]), side, count)


def _duplicates(images: Collection, splits: Sequence[Split]) -> list[str]:
    """One line for each content that occurs in several splits or under several labels."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, content in enumerate(images.content):
        groups[content].append(i)
    lines = []
    for group in groups.values():
        if len(group) == 1:
            continue
        names = " and ".join(images.describe(i) for i in group[:3])
        labels = sorted({images.classes[images.labels[i]] for i in group})
        if len(group) >= PLACEHOLDERS:
            lines.append(f"{len(group)} copies of one image, perhaps a placeholder: {names}")
        if len(labels) > 1:
            lines.append(f"the same image under {' and '.join(map(repr, labels))}: {names}")
        if len(places := sorted({splits[i] for i in group})) > 1:
            lines.append(f"the same image in {' and '.join(places)}: {names}")
    lines.sort()
    return lines if len(lines) <= LISTED else [*lines[:LISTED], f"and {len(lines) - LISTED} more duplicates"]
