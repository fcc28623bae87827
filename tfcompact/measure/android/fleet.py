"""Measures exported files on Android phones, side by side, one thread each.

On a phone every file, delegate and number of threads has its turn in each of several rounds, so that what warms the
phone warms all of them. No TensorFlow here; what brings a file to run is a back end's (`measure.backends`).
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tfcompact.measure.android import adb, connected_phones
from tfcompact.measure.android.phone import Phone
from tfcompact.measure.android.phone_options import Config
from tfcompact.measure.android.rounds import PhoneRounds, Plan
from tfcompact.measure.backends.backend import Backend
from tfcompact.measure.measurer import File, Keep, Log, Measured, quiet
from tfcompact.measure.reference_answer import references
from tfcompact.options import require_choice
from tfcompact.records.measurement import Accuracy


@dataclass(frozen=True)
class Fleet:
    """The `Measurer` of all phones asked for. `accuracies` are those that this computer measured, by sha256.

    A phone is not given the test images: the accuracy in a row is what this computer measured of the same file, where
    it did. Whether the phone gives the same answers is told by the row's `output`, and by the flags `output_differs`
    (then there is no accuracy) and `output_unchecked`.
    """

    config: Config
    accuracies: Mapping[str, Accuracy] = field(default_factory=dict)

    def measure(self, files: Sequence[File], keep: Keep, log: Log) -> Measured:
        """The rows of every file on every phone. Raises `UserError` where the back end, or a phone, is not there."""
        config = self.config
        backend = backend_of(config)
        phones = connected_phones.connected(adb.Adb(config.adb, config.adb_port), config.serial, log)
        return measure(files, phones, config, backend, keep, log, self.accuracies)


def backend_of(config: Config) -> Backend:
    """The back end that was asked for. Raises `UserError` where what it needs is not there."""
    module = importlib.import_module(f"tfcompact.measure.{config.facts.module}")
    backend: Backend = module.from_options(config)
    return backend


def measure(
    files: Sequence[File],
    phones: Sequence[Phone],
    config: Config,
    backend: Backend,
    keep: Keep,
    log: Log = quiet,
    accuracies: Mapping[str, Accuracy] | None = None,
) -> Measured:
    """The rows of every file on every phone, with every delegate and number of threads.

    An interruption ends what is under way on every phone. Raises `UserError` where no file is what its artifact says
    and runs on this computer, whose answers are what a phone's are compared with.
    """
    delegates = config.delegates or backend.delegates[:1]
    for delegate in delegates:
        require_choice(f"delegate of {backend.name}", delegate, backend.delegates)
    usable, failures = references(files, delegates, accuracies or {}, log)
    plan = Plan(usable, delegates, config, backend, keep, log, threading.Event())
    all_rounds = [PhoneRounds(phone, plan) for phone in phones]
    with ThreadPoolExecutor(max_workers=len(all_rounds)) as pool:
        pending = [pool.submit(rounds.measure) for rounds in all_rounds]
        try:
            for future in pending:
                future.result()
        except BaseException:  # an interruption too; leaving the pool waits for the other phones' threads
            plan.stop.set()
            for phone in phones:
                phone.adb.interrupt()
            raise
    return Measured(
        tuple(row for rounds in all_rounds for row in rounds.rows.values()),
        (*failures, *(line for rounds in all_rounds for line in rounds.failures)),
    )
