"""A training step of ours against PyTorch's with timm's network in channels-last, in turns.

    python3.11 tests/torch_reference/environment.py
    python tests/benchmarks/training_speed.py [--networks mobilenet_v3_small …] [--rounds 15]

Batch 32, two threads, AdamW, smoothed labels, images already in memory. Ours is a whole step of the training loop,
with its moving average of the weights. Both take `--steps` steps in turns; the ratio is their time over ours: of more
than 1, ours is faster. These are speeds of x86 and show nothing of a phone's.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording

from tfcompact import models
from tfcompact.frameworks import keras, tf
from tfcompact.stages.fit import Config
from tfcompact.training.optimizers import optimizer_for
from tfcompact.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "torch_reference"))
import environment  # noqa: E402

NETWORKS = {  # ours -> timm's name and the side of the images
    "mobilenet_v2_0.35": ("mobilenetv2_035", 64),
    "mobilenet_v2": ("mobilenetv2_100", 96),
    "mobilenet_v3_small": ("mobilenetv3_small_100", 96),
    "efficientnet_lite0": ("efficientnet_lite0", 96),
    "inception_v3": ("inception_v3", 128),
    "densenet_121": ("densenet121", 64),
}
BATCH, THREADS, CLASSES = 32, 2, 10


def ours(name: str, px: int) -> Callable[[int], float]:
    """What takes a number of steps of our training loop, and gives the seconds."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = rng.random((BATCH, px, px, 3), np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, BATCH)]
    data = tf.data.Dataset.from_tensors((tf.constant(images), tf.constant(labels))).repeat()
    config = Config()
    model = models.build(name, px=px, classes=CLASSES)
    trainer = Trainer(model, config, SimpleNamespace(classes=tuple(map(str, range(CLASSES)))))
    trainer.compile(optimizer=optimizer_for(config, 100, model))

    images_in_turn = iter(data)
    step = trainer.make_train_function()

    def take(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            logs = step(images_in_turn)
        float(next(iter(logs.values())))  # until the last one has ended
        return time.perf_counter() - start

    return take


@contextmanager
def theirs(name: str, px: int) -> Iterator[Callable[[int], float]]:
    """The same of PyTorch, in a process of its own."""
    command = [environment.python(), ROOT / "tests/torch_reference/train.py", name, str(px), str(BATCH), str(THREADS)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        reader, writer = process.stdout, process.stdin
        assert reader.readline().strip() == "ready"

        def take(steps: int) -> float:
            writer.write(f"{steps}\n")
            writer.flush()
            return float(reader.readline())

        yield take
        writer.close()


def measure(name: str, options: Any, book: Book) -> None:
    """Both in turns, after a turn of each that is not counted."""
    timm_name, px = NETWORKS[name]
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    with theirs(timm_name, px) as their_steps:
        sides = {"ours": ours(name, px), "theirs": their_steps}
        for turn in range(options.rounds + 1):
            for side in sorted(sides, reverse=bool(turn % 2)):
                took = sides[side](options.steps)
                if turn:
                    seconds[side].append(took)
    ratios = sorted(b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True))
    tenth = len(ratios) // 10
    book.add(
        network=name,
        px=px,
        our_ms=1000 * statistics.median(seconds["ours"]) / options.steps,
        their_ms=1000 * statistics.median(seconds["theirs"]) / options.steps,
        ratio=statistics.median(ratios),
        ratio_p10=ratios[tenth],
        ratio_p90=ratios[-1 - tenth],
        rounds=options.rounds,
        steps=options.steps,
    )


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--steps", type=int, default=8, help="in a turn (8)")
    arguments.add_selection("--networks", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    options = arguments.parse_args()
    if reason := environment.hindrance():
        sys.exit(reason)
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    for name in options.networks:
        with recording(arguments.call(options), name, flag="--networks", threads=THREADS) as book:
            measure(name, options, book)
        print(f"\n{tables.markdown(tables.of('training_speed'), book.tables['rows'])}")


if __name__ == "__main__":
    main()
