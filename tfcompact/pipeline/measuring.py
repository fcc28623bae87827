"""Measurements of an export run's files. No TensorFlow here: phones are asked, and this machine timed, without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tfcompact.data.imageset import ImageSet
from tfcompact.errors import UserError
from tfcompact.measure import host
from tfcompact.measure.android import fleet, phone_options
from tfcompact.records.measurement import Measurement
from tfcompact.runs import measurements, store


def export_run(root: Path, model: str, name: str | None) -> store.Run:
    """The export run called `name`, or the newest of `model`. Raises `UserError` where there is none."""
    if name is not None:
        run = store.find(root, model, name)
        if not run.artifacts:
            raise UserError(f"{name} has no exported files; needed here: an export run")
        return run
    newest = store.newest(root, model, lambda run: bool(run.artifacts))
    if newest is None:
        raise UserError(f"no finished export run of {model} under {root}; try: make export MODEL={model}")
    return newest


def measured(
    run: store.Run,
    root: Path,
    config: host.Config | phone_options.Config,
    images: Callable[[store.Run], ImageSet],
    log: Callable[[str], None],
) -> list[Measurement]:
    """The rows of every file of the run, saved under `root`."""
    if isinstance(config, phone_options.Config):
        return list(fleet.measure_run(run, root, config, log).rows)
    data, px = images(run), run.px
    count = min(data.sizes["test"], config.images or data.sizes["test"])

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, count, 256):
            yield data.arrays("test", px=px, start=start, limit=min(start + 256, count))

    test = host.TestImages(batches, "test", data.digest)
    subjects = [
        host.Subject(run.path / artifact.path, artifact, threads, config.delegate, test, config.softmax)
        for threads in config.threads
        for artifact in run.artifacts
    ]
    rows = host.measure_interleaved(subjects, config)
    for row in rows:
        measurements.save_measurement(root, row)
    return rows
