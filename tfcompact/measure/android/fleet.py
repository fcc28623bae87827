"""Measures exported files on Android devices, or counts their ARM64 instructions under emulation.

Devices are measured side by side, one thread each. On a device every file, delegate and number of threads has its
turn in each of several rounds, so that what warms the device warms all of them. A row is written after each turn and
carries the flag `partial` until its last round is in: nothing that was measured is lost with a cable. No TensorFlow
here; what brings a file to run is a back end's (`backends`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfcompact.errors import UnknownName, UserError
from tfcompact.measure.android import adb, connected_phones
from tfcompact.measure.android.phone import Phone
from tfcompact.measure.android.phone_options import Config
from tfcompact.measure.android.reference_answer import Subject
from tfcompact.measure.android.session import Keep, Place, Save, SaveFailure
from tfcompact.measure.backends.backend import Backend
from tfcompact.records.artifact import Artifact
from tfcompact.records.measurement import Accuracy, Measurement
from tfcompact.runs import measurements, store
from tfcompact.runs.scan import read_json


@dataclass(frozen=True)
class Measured:
    """The rows that were written, and one line for each thing that failed."""

    rows: tuple[Measurement, ...]
    failures: tuple[str, ...] = ()


def backend_of(config: Config) -> Backend:
    """The back end that was asked for. Raises `UserError` where what it needs is not there."""
    module = importlib.import_module(f"tfcompact.measure.{config.facts.module}")
    backend: Backend = module.from_options(config)
    return backend


def measure_run(
    run: store.Run, root: Path, config: Config | None = None, log: Callable[[str], None] = lambda line: None
) -> Measured:
    """Every file of an export run, on every device asked for. Rows and logs are written under `root`.

    A device is not given the test images: the accuracy in a row is what this computer measured of the same file,
    where it did. Whether the device gives the same answers is told by the row's `output`, and by the flags
    `output_differs` (then there is no accuracy) and `output_unchecked`. Raises `UserError` where nothing could be
    measured at all.
    """
    config = config or Config()
    if run.stage != "export" or not run.artifacts:
        raise UserError(f"{run.name} is no export run; try: make export MODEL={run.model}")
    artifacts = [a for a in run.artifacts if not config.formats or a.format in config.formats]
    if not artifacts:
        there = ", ".join(a.format for a in run.artifacts)
        raise UserError(f"{run.name} has no {' or '.join(config.formats)} file; it has {there}")
    backend = backend_of(config)
    phones: tuple[Phone, ...] = ()
    if config.facts.device == "android":
        phones = connected_phones.connected(adb.Adb(config.adb, config.adb_port), config.serial, log)

    known = _accuracies(root, run.model)
    if unknown := [a.format for a in artifacts if a.sha256 not in known]:
        log(f"no accuracy of {', '.join(unknown)} yet, so none in these rows; first: make measure MODEL={run.model}")

    def save(row: Measurement, text: str) -> None:
        measurements.save_measurement(root, with_accuracy(row), text)

    def save_failure(key: str, text: str) -> Path:
        return measurements.save_failure(root, run.model, key, text)

    def with_accuracy(row: Measurement) -> Measurement:
        accuracy = None if row.validity.get("output_differs") else known.get(row.artifact_sha256)
        return dataclasses.replace(row, accuracy=accuracy)

    files = [(run.path / a.path, a) for a in artifacts]
    measured = measure(files, phones, config, backend, save=save, save_failure=save_failure, log=log)
    if not measured.rows:
        raise UserError(measured.failures[0] if measured.failures else "nothing was measured")
    return Measured(tuple(map(with_accuracy, measured.rows)), measured.failures)


def _accuracies(root: Path, model: str) -> dict[str, Accuracy]:
    """What this computer measured, by the file's sha256. A damaged row is not ours to complain of: reports do."""
    found = {}
    for file in sorted((root / model / measurements.MEASUREMENTS).glob("*.json")):
        with contextlib.suppress(UserError):
            row = Measurement.from_json(read_json(file))
            if row.device.kind == "host" and row.accuracy is not None:
                found[row.artifact_sha256] = row.accuracy
    return found


def measure(
    artifacts: Sequence[tuple[Path, Artifact]],
    phones: Sequence[Any],
    config: Config,
    backend: Backend,
    *,
    save: Save,
    save_failure: SaveFailure | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Measured:
    """Every file on every device (`Phone`; none for the emulated one), with every delegate and number of threads.

    `save` is called with a row the moment it is there, and `save_failure` with what was said where a file did not
    run. What fails on one device or for one file does not stop the others: it is told by `log` and in the result. An
    interruption ends what is under way on every device. Raises `UserError` where a file is not what its artifact
    says, or does not run on this computer, whose answers are what a device's are compared with.
    """
    delegates = config.delegates or backend.delegates[:1]
    for delegate in delegates:
        if delegate not in backend.delegates:
            raise UnknownName(f"delegate of {backend.name}", delegate, backend.delegates)
    files = [Subject.of(path, artifact, delegates) for path, artifact in artifacts]
    stop = threading.Event()
    keep = Keep(save, save_failure)
    places = [Place(one, files, delegates, config, backend, keep, log, stop) for one in (phones or (None,))]
    with ThreadPoolExecutor(max_workers=len(places)) as pool:
        pending = [pool.submit(place.measure) for place in places]
        try:
            for future in pending:
                future.result()
        except BaseException:  # an interruption too; leaving the pool waits for the other devices' threads
            stop.set()
            for one in phones:
                one.adb.interrupt()
            raise
    return Measured(
        tuple(row for place in places for row in place.rows.values()),
        tuple(line for place in places for line in place.failures),
    )
