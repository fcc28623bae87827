"""The training pipeline: batch numbers in, augmented and normalized batches out, nothing remembered in between."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tfcompact.data.augment import Augment, Layers, boxes, crops
from tfcompact.data.feed import Reader
from tfcompact.data.images import normalize
from tfcompact.frameworks import Dataset, Tensor, tf
from tfcompact.records.artifact import Normalization


def training_batches(
    *,
    records: Reader,
    labels: npt.NDArray[np.int64],
    proportions: npt.NDArray[np.float32],
    classes: int,
    px: int,
    batch: int,
    steps: int,
    normalization: Normalization,
    augment: Augment,
    flip: bool,
    least_crop: float,
    seed: int,
    start_epoch: int,
    epochs: int,
) -> Dataset:
    """The batches `start_epoch * steps` to `epochs * steps` of an endless sequence (see `ImageSet.training`).

    `records(rows)` adds to the graph what reads `uint8 [batch, side, side, 3]`, whole images stretched to a square;
    `proportions` is their true height / width. An epoch's order is a pseudo-random permutation that is computed place
    by place (`index_shuffle`), so no epoch has to be walked through to reach the next. Where the set is smaller than
    a batch, the batch goes round it again.
    """
    count = len(labels)
    layers = Layers(augment)
    run_key = np.array([seed % 2**31, seed // 2**31 % 2**31], np.int32)

    def load(number: Tensor) -> tuple[Tensor, Tensor]:
        epoch, step = tf.cast(number // steps, tf.int32), number % steps
        places = (step * batch + tf.range(batch, dtype=tf.int64)) % count
        key = tf.random.experimental.stateless_fold_in(run_key, epoch)
        rows = tf.random.experimental.index_shuffle(places, key, tf.constant(count - 1, tf.int64))
        drawn = tf.random.experimental.stateless_fold_in(key, tf.cast(step, tf.int32))
        area = least_crop if augment.crop else None
        images = crops(records(rows), boxes(drawn, tf.gather(proportions, rows), flip=flip, least_area=area), px)
        images, targets = layers(drawn, images, tf.one_hot(tf.gather(labels, rows), classes))
        images = normalize(tf.ensure_shape(images, (batch, px, px, 3)), normalization)
        return images, tf.ensure_shape(targets, (batch, classes))

    numbers: Dataset = tf.data.Dataset.range(start_epoch * steps, epochs * steps)
    return numbers.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)
