"""One road for this computer, phones and emulation: every file of an export run measured, every row saved.

What differs between devices is a `Measurer`'s; which one it is, is decided by the options' type. No TensorFlow here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tfcompact.errors import UserError
from tfcompact.measure import emulation, host
from tfcompact.measure.accuracy import TestImages
from tfcompact.measure.android import fleet, phone_options
from tfcompact.measure.measurer import File, Log, Measured, Measurer, quiet
from tfcompact.records.measurement import Accuracy, Measurement
from tfcompact.runs import measurements, store
from tfcompact.runs.scan import read_json

Config = host.Config | phone_options.Config | emulation.Config


def measure_run(
    run: store.Run,
    root: Path,
    config: Config | None = None,
    *,
    test_images: Callable[[], TestImages] | None = None,
    log: Log = quiet,
) -> Measured:
    """The rows of every file of an export run, measured as `config` says, and what failed; the rows are under `root`.

    `test_images` opens what accuracy is judged on, which is done on this computer alone: elsewhere a row has the
    accuracy that this computer measured of the same file, where it did. `log` hears of progress. Raises `UserError`
    where nothing could be measured at all.
    """
    config = config or host.Config()
    files = _files(run, config.formats)
    measured = _measurer(run, root, config, test_images).measure(files, _Beside(root, run.model), log)
    if not measured.rows:
        raise UserError(measured.failures[0] if measured.failures else "nothing was measured")
    return measured


def _files(run: store.Run, formats: tuple[str, ...]) -> list[File]:
    """The run's files of these formats, all where none is named. Raises `UserError` where there is none."""
    if not run.artifacts:
        raise UserError(f"{run.name} is no export run; try: make export MODEL={run.model}")
    files = [File(run.path / a.path, a) for a in run.artifacts if not formats or a.format in formats]
    if not files:
        there = ", ".join(artifact.format for artifact in run.artifacts)
        raise UserError(f"{run.name} has no {' or '.join(formats)} file; it has {there}")
    return files


def _measurer(run: store.Run, root: Path, config: Config, test_images: Callable[[], TestImages] | None) -> Measurer:
    """What measures as `config` says, which its type tells."""
    if isinstance(config, host.Config):
        return host.ThisComputer(config, test_images)
    accuracies = _accuracies(root, run.model)
    if isinstance(config, emulation.Config):
        return emulation.Emulation(config, accuracies)
    return fleet.Fleet(config, accuracies)


def _accuracies(root: Path, model: str) -> dict[str, Accuracy]:
    """The accuracies that this computer measured, by the file's sha256. Of damaged rows reports complain, not we."""
    found = {}
    for file in sorted((root / model / measurements.MEASUREMENTS).glob("*.json")):
        with contextlib.suppress(UserError):
            row = Measurement.from_json(read_json(file))
            if row.device.kind == "host" and row.accuracy is not None:
                found[row.artifact_sha256] = row.accuracy
    return found


@dataclass(frozen=True)
class _Beside:
    """Keeps rows and logs in the runs directory, beside the runs of `model`."""

    root: Path
    model: str

    def row(self, row: Measurement, log: str | None = None) -> None:
        measurements.save_measurement(self.root, row, log)

    def failure(self, key: str, log: str) -> Path:
        return measurements.save_failure(self.root, self.model, key, log)
