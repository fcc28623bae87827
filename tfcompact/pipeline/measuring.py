"""Measurements of an export run's files. No TensorFlow here: phones are asked, and this machine timed, without it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfcompact.errors import UserError
from tfcompact.measure import any_device
from tfcompact.measure.accuracy import TestImages
from tfcompact.measure.measurer import Log, Measured, quiet
from tfcompact.pipeline.subject import Subject
from tfcompact.runs import store


def measured(
    subject: Subject, config: any_device.Config | None = None, parent: str | None = None, log: Log = quiet
) -> Measured:
    """The rows of every file of the newest export (or of `parent`), saved beside the runs, and what failed.

    By the type of `config` it is this machine that is measured (unless another is given), with test accuracy, or
    phones, or an emulated processor. Raises `UserError` where nothing could be measured at all.
    """
    root = subject.target.runs
    run = export_run(subject, parent)
    return any_device.measure_run(run, root, config, test_images=lambda: images_to_test(subject, run), log=log)


def export_run(subject: Subject, name: str | None) -> store.Run:
    """The export run called `name`, or the newest. Raises `UserError` where there is none."""
    root, model = subject.target.runs, subject.spec.name
    if name is not None:
        run = store.find(root, model, name)
        if not run.artifacts:
            raise UserError(f"{name} has no exported files; needed here: an export run")
        return run
    newest = store.newest(root, model, lambda run: bool(run.artifacts))
    if newest is None:
        raise UserError(f"no finished export run of {model} under {root}; try: make export MODEL={model}")
    return newest


def images_to_test(subject: Subject, run: store.Run) -> TestImages:
    """The test split of the run's images, batch by batch."""
    data = subject.images(run)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        count = data.sizes["test"]
        for start in range(0, count, 256):
            yield data.arrays("test", px=run.px, start=start, limit=min(start + 256, count))

    return TestImages(batches, "test", data.digest)
