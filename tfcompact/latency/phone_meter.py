"""What finds the costs of files on a phone, for latency tables. No TensorFlow here."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfcompact.errors import UserError
from tfcompact.latency.cost_table import Setting
from tfcompact.latency.probe_files import chain, noise
from tfcompact.measure.android import adb, guards, phone_facts
from tfcompact.measure.android.phone import Phone
from tfcompact.measure.backends.backend import Backend, Job, Outcome
from tfcompact.measure.measurer import Log, quiet
from tfcompact.records.artifact import Artifact, Normalization
from tfcompact.records.device import Device
from tfcompact.tflite.runtime import open_interpreter, partitions

TRIES = 3
"""How often files are timed on a phone that slows itself down meanwhile, before it is given up."""


class PhoneMeter:
    """Times files on a phone through a back end: the median of all runs of each, in ms.

    Before each call of `costs` the phone is waited for until it is cool, and what it measured while it slowed itself
    down is measured again: a table has no place for a warning.
    """

    together = 16

    def costs_between(self, files: Sequence[Path]) -> None:  # noqa: ARG002
        """None: the back ends run a file over and over."""

    def __init__(
        self,
        backend: Backend,
        phone: Phone,
        device: Device,
        *,
        threads: int = 1,
        delegate: str = "xnnpack",
        affinity: str = "",
        cooldown_seconds: float = 120.0,
        cool_celsius: float = 38.0,
        tell: Log = quiet,
    ) -> None:
        """Brings to the phone what the runs need. Two of the options are as in `phone_options.Config`."""
        self._backend, self._phone, self._affinity = backend, phone, affinity
        self._threads, self._delegate = threads, delegate
        self._name, self._tell = device.name, tell
        self._cooldown_s, self._cool_celsius = cooldown_seconds, cool_celsius
        self._pushed: set[str] = set()
        phone.forget_unused()
        backend.prepare(phone)
        with tempfile.TemporaryDirectory() as scratch:
            probe = Path(scratch) / "probe.tflite"
            probe.write_bytes(chain("MAX_POOL_2D", 1))
            with self._tidy():
                runtime = self._outcome(probe).runtime
        self.setting = Setting(device, backend.name, runtime, delegate, threads, "ms", affinity)

    def costs(self, files: Sequence[Path]) -> list[float]:
        """The median of one inference of each file in ms. The files are removed from the phone afterwards.

        Raises `UserError` where another delegate ran a file than was asked for, or tells no time, and where the phone
        slowed itself down in each of `TRIES` tries.
        """
        with self._tidy():
            for _ in range(TRIES):
                cooled = guards.cool_down(
                    lambda: phone_facts.read(self._phone),
                    seconds=self._cooldown_s,
                    celsius=self._cool_celsius,
                    waiting=lambda state: self._tell(f"{self._name}: waits until it is cool"),
                )
                costs = [_median(self._outcome(file), file) for file in files]
                raised = guards.flags(cooled.reading, phone_facts.read(self._phone), cooled.cool)
                slower = [name for name in ("throttled", "frequency_dropped") if raised.get(name)]
                if not slower:
                    return costs
                said = " and ".join(slower).replace("_", " ")
                self._tell(f"{self._name}: {said} while {len(files)} files were timed, so these times do not count")
        raise UserError(
            f"{self._name} was {said} in each of {TRIES} tries to time the same files; cool it, take it off its "
            "charger, or take --affinity little, then give the same command again: it goes on from there"
        )

    @contextlib.contextmanager
    def _tidy(self) -> Iterator[None]:
        """Removes from the phone, at its end, the files that were brought meanwhile, unless it has gone."""
        self._pushed.clear()
        try:
            yield
        finally:
            with contextlib.suppress(adb.AdbError):
                self._phone.remove(self._pushed)

    def _outcome(self, file: Path) -> Outcome:
        """What the back end finds of a file. Raises `UserError` where another delegate ran it than was asked for."""
        content = file.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        size = len(content)
        remote = self._phone.push_by_sha256(file)
        self._pushed.add(remote)
        artifact = Artifact("operator", "latency-table", file.name, "int8", sha256, size, 0, 0, Normalization())
        job = Job(
            path=file,
            artifact=artifact,
            delegate=self._delegate,
            threads=self._threads,
            image=_image(content),
            remote=remote,
            warmup=5,
            repeats=50,
            min_seconds=0.05,
            max_seconds=10.0,
            affinity=self._affinity,
        )
        outcome = self._backend.run(self._phone, job)
        taken = self._delegate != "xnnpack" or partitions(content).count > 0
        if outcome.delegate != self._delegate and taken:
            raise UserError(f"{self._backend.name} ran an operator by {outcome.delegate} instead of {self._delegate}")
        return outcome


def _median(outcome: Outcome, file: Path) -> float:
    """The median of one inference in ms. Raises `UserError` where the back end does not tell it."""
    if outcome.wall_ms:
        return float(np.median(outcome.wall_ms))
    if outcome.summary is None or outcome.summary.p50_ms is None:
        raise UserError(f"{outcome.runtime} told no median of {file}; use --backend native")
    return outcome.summary.p50_ms


def _image(content: bytes) -> bytes:
    """Noise as the bytes of the only input of a file."""
    (detail,) = open_interpreter(content, 1, "reference").get_input_details()
    return noise(detail["shape"], detail["dtype"]).tobytes()
