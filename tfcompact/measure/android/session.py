"""Turns of files on devices, and the row that is kept after each; one device to a `Place`.

A row carries the flag `partial` until its last round is in, and the device's state after it: nothing that was
measured is lost with a cable. No TensorFlow here.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tfcompact.errors import UserError
from tfcompact.files import cache_directory
from tfcompact.measure.android import adb, affinity, guards, phone_facts
from tfcompact.measure.android.phone_options import Config
from tfcompact.measure.android.reference_answer import DIFFERS, Subject
from tfcompact.measure.backends.backend import Backend, Job, Outcome, RunFailed
from tfcompact.measure.host import FEWEST_RUNS, steadiness
from tfcompact.records import backends
from tfcompact.records.device import Device, DeviceState
from tfcompact.records.measurement import SCHEMA, Measurement, OutputCheck
from tfcompact.runs import measurements

Save = Callable[[Measurement, str], None]
"""Keeps a row and the log of its calls; called again, with more samples, after each round."""
SaveFailure = Callable[[str, str], Path]
"""Keeps the log of a row of that key that failed, and says where."""


class Keep(NamedTuple):
    """What keeps rows, and the logs of those that failed. Both raise `UserError` where it cannot be written."""

    row: Save
    failure: SaveFailure | None = None


class NotKept(UserError):
    """The disk does not take what is measured: there is no sense in measuring more."""


@dataclass(eq=False)
class _Series:
    """One file with one delegate and number of threads on one device, and what its rounds have given so far."""

    file: Subject
    delegate: str
    threads: int
    outcomes: list[Outcome] = field(default_factory=list)
    flags: dict[str, bool] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    before: phone_facts.Reading | None = None
    after: phone_facts.Reading | None = None
    check: OutputCheck | None = None
    started: str = ""
    rounds_done: int = 0  # with the device's state after them
    failed: bool = False

    @property
    def label(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.file.artifact.model} {self.file.artifact.format}, {self.delegate}, {threads}"

    @property
    def ran(self) -> str:
        """The delegate for the row: a fallback never takes the place of a row that was measured as asked."""
        ran = self.outcomes[-1].delegate
        return self.delegate if ran == self.delegate else f"{ran}-instead-of-{self.delegate}"

    def raise_flags(self, flags: dict[str, bool]) -> None:
        for name, value in flags.items():
            self.flags[name] = self.flags.get(name, False) or value


class Place:
    """One device and all that is measured on it."""

    def __init__(
        self,
        one: Any,
        files: Sequence[Subject],
        delegates: Sequence[str],
        config: Config,
        backend: Backend,
        keep: Keep,
        log: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        self.phone, self.config, self.backend = one, config, backend
        self._save, self._log, self._stop = keep, log, stop
        self.rows: dict[str, Measurement] = {}
        self.failures: list[str] = []
        self.series = [_Series(file, d, threads) for file in files for d in delegates for threads in config.threads]
        self.rounds = config.turns
        self.facts: phone_facts.Facts | None = None
        self.mask = ""
        self.unpinned = False

    def measure(self) -> None:
        """All rounds of all series. What goes wrong with the device itself ends it, and is in `failures`.

        An interruption ends it too, and is no failure: what was measured until then is kept.
        """
        try:
            with contextlib.ExitStack() as held:
                if self.phone is not None:
                    self.facts = phone_facts.facts(self.phone)
                    held.enter_context(alone(self.facts.device))
                    self.phone.forget_unused()
                    self.mask, self.unpinned = affinity.pinning(self.config.cores, self.facts, self._log)
                    self._log(f"{self.facts.device.name}: {self.facts.device.processor}, {self.facts.device.system}")
                self.backend.prepare(self.phone)
                for turn in range(self.rounds):
                    for k in range(len(self.series)):
                        series = self.series[(turn + k) % len(self.series)]
                        if not series.failed and not self._stop.is_set():
                            self._turn(series, turn)
        except adb.Interrupted:
            return
        except adb.DeviceGone as error:
            self._fail(str(error))
            try:
                for series in self.series:
                    if series.outcomes and series.rounds_done < self.rounds:
                        series.log.append(f"# {error}")
                        self._keep(series)
            except NotKept as unkept:
                self._fail(str(unkept))
        except UserError as error:
            self._fail(str(error))

    def _turn(self, series: _Series, turn: int) -> None:
        """One call of the back end between two readings of the device's state, and the row written anew.

        It is written before the second reading too, which a device may not live to give.
        """
        head = f"# {_now()}, round {turn + 1} of {self.rounds}"
        try:
            remote = "" if self.phone is None else self.phone.push_by_sha256(series.file.path)
            cooled = None
            if self.phone is not None:
                cooled = guards.cool_down(
                    lambda: phone_facts.read(self.phone),
                    seconds=self.config.cooldown_seconds,
                    celsius=self.config.cool_celsius,
                    waiting=lambda state: self._log(
                        f"{self._device().name}: waits until it is cool ({_heat(state)})"
                    ),
                    sleep=self._stop.wait,
                )
                series.before = series.before or cooled.reading
            if self._stop.is_set():
                return
            started = _now()
            head = f"# {started}, round {turn + 1} of {self.rounds}"
            series.started = series.started or started
            outcome = self.backend.run(self.phone, self._job(series, remote, turn))
            series.log.append(f"{head}\n{_said(outcome.command, outcome.log)}")
            if series.outcomes and outcome.delegate != series.outcomes[-1].delegate:
                raise UserError(
                    f"it ran as {series.outcomes[-1].delegate} in one round and as {outcome.delegate} in the next"
                )
            if outcome.output is not None:
                series.check = series.file.check(outcome.output, series.delegate)
                series.raise_flags({"output_differs": series.check.difference > DIFFERS})
            series.raise_flags(outcome.flags)
            series.outcomes.append(outcome)
            if cooled is not None:
                self._keep(series)
                series.after = phone_facts.read(self.phone)
                told = guards.flags(cooled.reading, series.after, cooled.cool)
                if backends.facts(self.backend.name).needs_screen:  # and has a flag of its own, `screen_off`
                    told.pop("screen_on", None)
                series.raise_flags(told)
            series.rounds_done += 1
            self._keep(series)
        except (adb.DeviceGone, adb.Interrupted, NotKept):
            raise
        except UserError as error:
            if isinstance(error, RunFailed):
                series.log.append(f"{head}\n{_said(error.command, error.log)}\n# {error}")
            else:
                series.log.append(f"# {error}")
            self._give_up(series, error)

    def _give_up(self, series: _Series, error: UserError) -> None:
        """Has no more rounds of the series: says why, and keeps what there is of it, and the log of all its turns."""
        series.failed = True
        where = ""
        try:
            if self._save.failure is not None:
                where = f"; its log: {self._save.failure(self._key(series), _text(series.log))}"
        except UserError as unkept:
            raise NotKept(str(unkept)) from None
        finally:
            self._fail(f"{series.label}: {error}{where}")
        if series.outcomes:
            self._keep(series)

    def _key(self, series: _Series) -> str:
        """The name of the series' row, also of one that is not measured."""
        unmeasured = replace(series, outcomes=[Outcome("", series.delegate, "", "")])
        return self._row(series if series.outcomes else unmeasured).key

    def _job(self, series: _Series, remote: str, turn: int) -> Job:
        config, sustained = self.config, self.config.sustained_seconds
        return Job(
            path=series.file.path,
            artifact=series.file.artifact,
            delegate=series.delegate,
            threads=series.threads,
            image=series.file.image,
            remote=remote,
            warmup=config.warmup,
            warmup_seconds=config.warmup_seconds,
            repeats=math.ceil(config.repeats / self.rounds),
            min_seconds=sustained or config.min_seconds / self.rounds,
            max_seconds=config.max_seconds + sustained,
            affinity=self.mask,
            profile=config.profile and turn == 0,
        )

    def _keep(self, series: _Series) -> None:
        row = self._row(series)
        row = replace(row, log=f"{measurements.measurement_name(row)}.log")
        try:
            self._save.row(row, _text(series.log))
        except UserError as error:
            raise NotKept(str(error)) from None
        self.rows[row.key] = row
        if not row.validity["partial"]:
            told = (
                f"{row.instructions:,} instructions"
                if row.instructions is not None
                else f"p50 {_milliseconds(row.percentile_ms(50))}"
            )
            self._log(f"{row.device.name}: {series.label}: {told}")

    def _row(self, series: _Series) -> Measurement:
        artifact, outcomes = series.file.artifact, series.outcomes
        first = outcomes[0]
        wall_ms = tuple(ms for outcome in outcomes for ms in outcome.wall_ms)
        cores = bin(int(self.mask, 16)).count("1") if self.mask else self._device().cores
        memory = [outcome.peak_memory_mb for outcome in outcomes if outcome.peak_memory_mb is not None]
        validity = series.flags | steadiness(wall_ms) | {"partial": series.rounds_done < self.rounds}
        count = first.summary.count if first.summary else len(wall_ms)
        if first.summary or wall_ms:  # of the rounds that there were
            asked = min(self.config.repeats, len(outcomes) * math.ceil(self.config.repeats / self.rounds))
            validity["cut_short"] = count < asked
        if self.phone is not None:
            validity["threads_exceed_cores"] = series.threads > cores
            validity["output_unchecked"] = series.check is None
            validity["few_runs"] = count < FEWEST_RUNS
            validity["unpinned"] = self.unpinned
        return Measurement(
            schema=SCHEMA,
            **artifact.measured,
            device=self._device(),
            runtime=first.runtime,
            delegate=series.ran,
            threads=series.threads,
            warmup_runs=first.warmup_runs,
            wall_ms=wall_ms,
            process_ms=tuple(ms for outcome in outcomes for ms in outcome.process_ms),
            xnnpack_partitions=first.partitions,
            delegated_nodes=first.delegated_nodes,
            total_nodes=first.total_nodes,
            peak_memory_mb=max(memory) if memory else None,
            accuracy=None,
            started=series.started,
            validity=validity,
            instructions=first.instructions,
            backend=self.backend.name,
            mode="sustained" if self.config.sustained_seconds else "burst",
            summary=first.summary,
            cold=first.cold,
            operators=first.operators,
            output=series.check,
            before=series.before.state if series.before else None,
            after=series.after.state if series.after else None,
            affinity=self.mask,
            command=first.command,
        )

    def _device(self) -> Device:
        if self.facts is not None:
            return self.facts.device
        device: Device = self.backend.device  # type: ignore[attr-defined]  # of a back end that needs no phone
        return device

    def _fail(self, line: str) -> None:
        where = f"{self.facts.device.name}: " if self.facts is not None and self.facts.device.name not in line else ""
        self.failures.append(where + line)
        self._log(f"failed: {where}{line}")


@contextlib.contextmanager
def alone(device: Device) -> Iterator[None]:
    """While it lasts no other process of this computer measures the device. Raises `UserError` where one does."""
    locks = cache_directory() / "locks"
    locks.mkdir(exist_ok=True)
    with (locks / device.name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is measuring {device.name}; wait for it, or stop it first") from None
        yield


def _said(command: str, log: str) -> str:
    """A back end's log, with the command line in front unless it has it, or there is none."""
    return log if not command or log.startswith(f"$ {command}\n") else f"$ {command}\n{log}"


def _text(log: Sequence[str]) -> str:
    return "\n\n".join(log) + "\n"


def _milliseconds(value: float | None) -> str:
    return "not told" if value is None else f"{value:.2f} ms"


def _heat(state: DeviceState) -> str:
    battery = "" if state.battery_celsius is None else f", battery {state.battery_celsius:.1f} degrees"
    return f"thermal status {state.thermal_status}{battery}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
