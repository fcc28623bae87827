"""Augmentation: what training does to an image so that it never sees the same one twice.

Random crop and flip are the default; both are one gather of pixels (`crops`). The others are layers of keras_cv on
float32 images in 0..255, before normalization.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfcompact.data.randomness import stateless
from tfcompact.frameworks import Layer, Tensor, keras_cv, tf
from tfcompact.options import opt, require

ASPECT = 4 / 3  # of a crop, at most, either way: the range of Szegedy et al. 2014, arXiv:1409.4842, section 6


@dataclass(frozen=True)
class Augment:
    """What to switch on. The defaults are a flip and a random resized crop; 0 switches the others off."""

    flip: bool | None = opt(None, "mirror half of the images; default: where the data allow it (not digits)")
    crop: bool = opt(True, "take a random part of the image instead of its centre square")
    crop_area: float | None = opt(None, "least share of the image in a crop, in (0, 1]; default: what suits the data")
    jitter: float = opt(0.0, "change brightness, contrast and saturation by up to this share, in [0, 1]")
    rand_augment: int = opt(0, "RandAugment: operations applied to each image")
    rand_augment_magnitude: float = opt(0.3, "RandAugment: how strong they are, in [0, 1]")
    erase: float = opt(0.0, "blank a random rectangle with sides up to this share of the image's, in [0, 1]")
    mixup: float = opt(0.0, "MixUp: alpha of its beta distribution; 0.2 is usual")
    cutmix: float = opt(0.0, "CutMix: alpha of its beta distribution; 1.0 is usual; with mixup, half of the batches")

    def __post_init__(self) -> None:
        if self.crop_area is not None:
            require(0 < self.crop_area <= 1, "crop_area", self.crop_area, "in (0, 1]")
        for name in ("jitter", "rand_augment_magnitude", "erase"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        for name in ("rand_augment", "mixup", "cutmix"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 (off) or more")


NO_AUGMENT = Augment(flip=False, crop=False)


def boxes(seed: Tensor, proportions: Tensor, *, flip: bool, least_area: float | None) -> Tensor:
    """Random crops as float32 `[n, 4]` of y1, x1, y2, x2 in 0..1; x1 > x2 stands for a mirrored one.

    `proportions [n]` is height / width of each image. A crop's area is uniform in [least_area, 1] of the image's, its
    width / height uniform in [3/4, 4/3] in the picture as it is seen; one that would stick out is scaled down to fit.
    With `least_area` None, it is the centre square. The area, the aspect and the flip are drawn by keras_cv's layers.
    """
    count = tf.shape(proportions)[0]
    flips = keras_cv.layers.RandomFlip("horizontal")
    crop = keras_cv.layers.RandomCropAndResize((1, 1), (least_area or 1.0, 1.0), (1 / ASPECT, ASPECT))
    with stateless(seed, flips, crop) as draws:
        if least_area is None:
            area, aspect, where = tf.minimum(proportions, 1 / proportions), 1.0, tf.constant(0.5)
        else:
            area = crop.crop_area_factor(shape=(count,))
            aspect = crop.aspect_ratio_factor(shape=(count,))
            where = draws.uniform((2, count))
        mirrored = flips.get_random_transformation_batch(count)["flip_horizontals"][:, 0] > 1 - flips.rate
    height, width = tf.sqrt(area / aspect / proportions), tf.sqrt(area * aspect * proportions)
    too_large = tf.maximum(1.0, tf.maximum(height, width))
    size = tf.stack([height, width]) / too_large
    (y1, x1), (y2, x2) = tf.unstack((1 - size) * where), tf.unstack((1 - size) * where + size)
    if flip:
        x1, x2 = tf.where(mirrored, x2, x1), tf.where(mirrored, x1, x2)
    return tf.stack([y1, x1, y2, x2], axis=1)


def crops(images: Tensor, boxes: Tensor, px: int) -> Tensor:
    """`uint8 [n, s, s, 3]` and boxes `[n, 4]` to float32 `[n, px, px, 3]` in 0..255: keras_cv's crop and flip in one.

    keras_cv's RandomCropAndResize ends in the same operation, but an image at a time, after RandomFlip went over
    float32 copies of all pixels.
    """
    return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), (px, px))


class Layers:
    """The keras_cv layers of an `Augment`, applied with all random numbers from a seed."""

    def __init__(self, augment: Augment) -> None:
        layers, span = keras_cv.layers, (0, 255)
        self.by_image: list[Layer] = []  # layers that take one image at a time
        self.by_batch: list[Layer] = []
        if augment.rand_augment:
            self.by_image.append(
                layers.RandAugment(span, augment.rand_augment, magnitude=augment.rand_augment_magnitude)
            )
        if share := augment.jitter:
            self.by_batch += [
                layers.RandomBrightness(factor=share, value_range=span),
                layers.RandomContrast(factor=share, value_range=span),
                layers.RandomSaturation((0.5 - share / 2, 0.5 + share / 2)),  # 0.5 leaves it as it is
            ]
        if augment.erase:
            self.by_batch.append(layers.RandomCutout(augment.erase, augment.erase, fill_value=127.0))
        mixes = [layers.MixUp(augment.mixup)] if augment.mixup else []
        mixes += [layers.CutMix(augment.cutmix)] if augment.cutmix else []
        if mixes:
            self.by_batch.append(layers.RandomChoice(mixes, batchwise=True) if len(mixes) > 1 else mixes[0])

    def __call__(self, seed: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images `[n, px, px, 3]` in 0..255 and one-hot labels `[n, classes]`, both float32, augmented."""
        for k, layer in enumerate(self.by_image):
            seeds = tf.random.stateless_uniform(
                (tf.shape(images)[0], 2), tf.random.experimental.stateless_fold_in(seed, 1000 + k),
                minval=None, maxval=None, dtype=tf.int32,
            )  # fmt: skip

            def one(image_and_seed: tuple[Tensor, Tensor], layer: Layer = layer) -> Tensor:
                with stateless(image_and_seed[1], layer):
                    return layer(image_and_seed[0])

            images = tf.map_fn(one, (images, seeds), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32))
        for k, layer in enumerate(self.by_batch):
            with stateless(tf.random.experimental.stateless_fold_in(seed, 2000 + k), layer):
                mixed = layer({"images": images, "labels": labels})
            images, labels = mixed["images"], mixed["labels"]
        return images, labels
