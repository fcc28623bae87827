"""What our training loop costs over a bare Keras `model.fit` of the same network on the same batches.

    python tests/benchmarks/fit_overhead.py path/to/photos [--model mobilenet_v2_0.35] [--px 96] [--rounds 12]

Both train for an epoch in turns, with validation at its end. Ours adds the moving average of all weights, seeds,
checkpoint, metrics.csv, TensorBoard events and progress. Prints the median of the paired ratios, their spread, and
the ratio of the fastest epochs, which other work on the machine moves least.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import recording
from rich.console import Console

from tfcompact import models
from tfcompact.data import open_images
from tfcompact.frameworks import keras, tf
from tfcompact.records.artifact import Normalization
from tfcompact.stages.fit import Config
from tfcompact.training import checkpoint, progress, trainer
from tfcompact.training.context import Context
from tfcompact.training.optimizers import optimizer_for


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("--model", default="mobilenet_v2_0.35")
    arguments.add_argument("--px", type=int, default=96)
    arguments.add_argument("--rounds", type=int, default=12)
    options = arguments.parse_args()
    with recording(arguments.call(options)) as book, tempfile.TemporaryDirectory() as folder:
        data = open_images(options.data, cache=Path(folder, "cache"))
        config = Config(epochs=options.rounds + 1)
        console = Console(quiet=True)
        context = Context(
            models.spec(options.model), data, options.px, Normalization(), 0, Path(folder, "run"), console
        )
        context.directory.mkdir()
        steps = data.steps_per_epoch(config.batch)

        def network():
            keras.utils.set_random_seed(0)
            return models.build(options.model, px=options.px, classes=len(data.classes))

        def batches(epoch: int):
            return data.training(
                px=options.px,
                batch=config.batch,
                normalization=context.normalization,
                augment=config.augment,
                seed=0,
                start_epoch=epoch,
                epochs=epoch + 1,
            )

        validation = data.batches(
            "validation", px=options.px, batch=config.batch, normalization=context.normalization
        )
        one_hot = validation.map(lambda x, y: (x, tf.one_hot(y, len(data.classes))))

        bare = network()
        bare.compile(
            optimizer_for(config, steps, bare),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing),
            metrics=["accuracy"],
        )
        ours = trainer.Trainer(network(), config, data)
        ours.compile(optimizer=optimizer_for(config, steps, ours.network))
        callback = progress.Epochs(checkpoint.State(ours, context), config, context, steps)

        def epoch_of_bare(epoch: int) -> None:
            bare.fit(batches(epoch), steps_per_epoch=steps, verbose=0, validation_data=one_hot)

        def epoch_of_ours(epoch: int) -> None:
            ours.fit(
                batches(epoch),
                steps_per_epoch=steps,
                initial_epoch=epoch,
                epochs=epoch + 1,
                verbose=0,
                callbacks=[callback],
            )

        seconds: dict[str, list[float]] = {"bare": [], "ours": []}
        cpu: dict[str, list[float]] = {"bare": [], "ours": []}
        for epoch in range(options.rounds + 1):  # the first is for tracing, and fills the cache
            for name, run in sorted({"bare": epoch_of_bare, "ours": epoch_of_ours}.items(), reverse=bool(epoch % 2)):
                start, busy = time.perf_counter(), time.process_time()
                run(epoch)
                seconds[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - busy)
        for what, times in (("wall time", seconds), ("processor time", cpu)):
            ratios = sorted(a / b for a, b in zip(times["ours"][1:], times["bare"][1:], strict=True))
            tenth = len(ratios) // 10
            book.add(
                what=what,
                ratio=statistics.median(ratios),
                ratio_p10=ratios[tenth],
                ratio_p90=ratios[-1 - tenth],
                fastest=min(times["ours"][1:]) / min(times["bare"][1:]),
                our_median_s=statistics.median(times["ours"][1:]),
                bare_median_s=statistics.median(times["bare"][1:]),
                epochs=options.rounds,
                steps=steps,
                batch=config.batch,
                network=options.model,
                px=options.px,
            )
    print(tables.markdown(tables.of("fit_overhead"), book.tables["rows"]))


if __name__ == "__main__":
    main()
