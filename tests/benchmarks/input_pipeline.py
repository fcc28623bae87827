"""Images per second into a network: tfcompact against Keras' own loader, on a folder CLASS/*.jpg.

    python tests/benchmarks/input_pipeline.py path/to/flowers

Both give batches of 32 normalized 224 px images with the same augmentation (flip, random resized crop of 0.35 to 1 of
the area) and prefetch. Ours runs from its filled cache: the steady state from the second epoch on. Keras runs as its
guide writes it: `image_dataset_from_directory`, keras_cv layers in `map`, `prefetch`; also with the decoded images
kept in memory by `cache()`, which needs 0.6 MB for each. The pipelines take turns, so that whatever else the machine
does meets all of them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import recording

from tfcompact.data import Augment, open_images
from tfcompact.data.images import normalize
from tfcompact.frameworks import keras, keras_cv, tf
from tfcompact.records.artifact import Normalization

AREA, ASPECT = (0.35, 1.0), (3 / 4, 4 / 3)
FOREVER = 10_000  # epochs


def ours(folder: Path, px: int, batch: int, cache: Path) -> Any:
    """tfcompact's training batches."""
    images = open_images(str(folder), cache=cache)
    return images.training(
        px=px, batch=batch, normalization=Normalization(), augment=Augment(crop_area=AREA[0]), seed=0, epochs=FOREVER
    )


def stock(folder: Path, px: int, batch: int, *, cached: bool) -> Any:
    """The same from Keras' loader and keras_cv's layers, as their guides put them together."""
    data = keras.utils.image_dataset_from_directory(
        folder, image_size=(px, px), batch_size=batch, label_mode="categorical", seed=0
    )
    if cached:
        data = data.cache()
    flip = keras_cv.layers.RandomFlip("horizontal")
    crop = keras_cv.layers.RandomCropAndResize((px, px), AREA, ASPECT)

    def augment(images: Any, labels: Any) -> tuple[Any, Any]:
        return normalize(crop(flip(images)), Normalization()), labels

    return data.map(augment, num_parallel_calls=tf.data.AUTOTUNE).repeat().prefetch(tf.data.AUTOTUNE)


def timed(batches: Iterator[Any], steps: int) -> tuple[float, float, int]:
    """Wall seconds, process seconds and images of the next `steps` batches."""
    wall, process = time.perf_counter(), time.process_time()
    images = sum(int(next(batches)[0].shape[0]) for _ in range(steps))
    return time.perf_counter() - wall, time.process_time() - process, images


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("folder", type=Path, help="photographs, CLASS/*.jpg")
    arguments.add_argument("--px", type=int, default=224)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--steps", type=int, default=40, help="batches per round")
    options = arguments.parse_args()
    with recording(arguments.call(options)) as book, tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        first = ours(options.folder, options.px, options.batch, Path(cache))
        filled_s = time.perf_counter() - began  # verifying and decoding everything; import of TensorFlow included
        pipelines = {
            "tfcompact": first,
            "Keras": stock(options.folder, options.px, options.batch, cached=False),
            "Keras with `cache()` in memory": stock(options.folder, options.px, options.batch, cached=True),
        }
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
        for turn in range(options.rounds):
            for name, data in pipelines.items():
                # A fresh iterator each time: one that waits in the background would fill its buffers meanwhile.
                batches = iter(data)
                timed(batches, 100 if turn == 0 and "cache()" in name else 10)
                wall, process, images = timed(batches, options.steps)
                samples[name].append((images / wall, 1000 * process / images))
                del batches
        for name, rows in samples.items():
            rates = [rate for rate, _ in rows]
            ratios = [a / b for (a, _), (b, _) in zip(samples["tfcompact"], rows, strict=True)]
            book.add(
                pipeline=name,
                images_per_s=statistics.median(rates),
                lowest=min(rates),
                highest=max(rates),
                cpu_ms=statistics.median(process for _, process in rows),
                ours_faster=None if name == "tfcompact" else statistics.median(ratios),
                rounds=options.rounds,
                steps=options.steps,
                batch=options.batch,
                px=options.px,
                first_opening_s=filled_s if name == "tfcompact" else None,
            )
    print(f"TensorFlow {tf.__version__}, default thread pools\n")
    print(tables.markdown(tables.of("input_pipeline"), book.tables["rows"]))


if __name__ == "__main__":
    main()
