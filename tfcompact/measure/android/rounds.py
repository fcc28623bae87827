"""The rounds of all series on one phone, and the row that is kept after each turn.

A row carries the flag `partial` until its last round is in, and the device's state after it: nothing that was
measured is lost with a cable. No TensorFlow here.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tfcompact.errors import UserError
from tfcompact.measure.android import adb, affinity, guards, phone_facts
from tfcompact.measure.android.phone import Phone
from tfcompact.measure.android.phone_options import Config
from tfcompact.measure.android.series import Series, Where
from tfcompact.measure.backends.backend import Backend, RunFailed, with_command
from tfcompact.measure.exclusive import exclusive
from tfcompact.measure.measurer import Keep, Log
from tfcompact.measure.reference_answer import Reference
from tfcompact.records import backends
from tfcompact.records.device import DeviceState
from tfcompact.records.measurement import Measurement
from tfcompact.runs import measurements


class NotKept(UserError):
    """The disk does not take what is measured: there is no sense in measuring more."""


@dataclass(frozen=True)
class Plan:
    """What is measured on every phone, and how. Where `stop` is set, no other run begins."""

    references: Sequence[Reference]
    delegates: Sequence[str]
    config: Config
    backend: Backend
    keep: Keep
    log: Log
    stop: threading.Event


class PhoneRounds:
    """All that is measured on one phone: the `rows` that were kept, by their keys, and a line for each failure."""

    def __init__(self, phone: Phone, plan: Plan) -> None:
        self.phone, self.plan = phone, plan
        self.rows: dict[str, Measurement] = {}
        self.failures: list[str] = []
        self._name = ""  # of the device, as soon as it has told
        self._series: list[Series] = []

    def measure(self) -> None:
        """Measures all series. What goes wrong with the device itself ends it, and is in `failures`.

        An interruption ends it too, and is no failure: what was measured until then is kept.
        """
        plan = self.plan
        try:
            facts = phone_facts.facts(self.phone)
            self._name = facts.device.name
            with exclusive(self._name, f"measuring {self._name}"):
                self.phone.forget_unused()
                pinning = affinity.pinning(plan.config.cores, facts, plan.log)
                plan.log(f"{self._name}: {facts.device.processor}, {facts.device.system}")
                plan.backend.prepare(self.phone)
                where = Where(facts.device, pinning, plan.backend.name, plan.config)
                self._series = [
                    Series(where, reference, delegate, threads)
                    for reference in plan.references
                    for delegate in plan.delegates
                    for threads in plan.config.threads
                ]
                self._all_turns()
        except adb.Interrupted:
            return
        except UserError as error:
            self._fail(str(error))

    def _all_turns(self) -> None:
        """Every series has its turn in every round, another first in each; a device that goes leaves partial rows."""
        try:
            for turn in range(self.plan.config.turns):
                for k in range(len(self._series)):
                    series = self._series[(turn + k) % len(self._series)]
                    if not series.failed and not self.plan.stop.is_set():
                        self._turn(series, turn)
        except adb.DeviceGone as error:
            self._fail(str(error))
            for series in self._series:
                if series.outcomes and not series.whole:
                    series.log.append(f"# {error}")
                    self._keep(series)

    def _turn(self, series: Series, turn: int) -> None:
        """One call of the back end between two readings of the device's state, and the row written anew.

        It is written before the second reading too, which a device may not live to give.
        """
        plan, head = self.plan, self._head(turn)
        try:
            remote = self.phone.push_by_sha256(series.reference.path)
            cooled = self._cooled()
            if plan.stop.is_set():
                return
            head = self._head(turn)
            series.begin(cooled.reading, _now())
            series.add(plan.backend.run(self.phone, series.job(remote, turn)), head)
            self._keep(series)
            after = phone_facts.read(self.phone)
            series.end(after, self._flags(cooled, after))
            self._keep(series)
        except (adb.DeviceGone, adb.Interrupted, NotKept):
            raise
        except RunFailed as error:
            self._give_up(series, error, f"{head}\n{with_command(error.command, error.log)}\n# {error}")
        except UserError as error:
            self._give_up(series, error, f"# {error}")

    def _cooled(self) -> guards.Cooled:
        """Waits until the device is cool, or long enough."""
        return guards.cool_down(
            lambda: phone_facts.read(self.phone),
            seconds=self.plan.config.cooldown_seconds,
            celsius=self.plan.config.cool_celsius,
            waiting=lambda state: self.plan.log(f"{self._name}: waits until it is cool ({_heat(state)})"),
            sleep=self.plan.stop.wait,
        )

    def _flags(self, cooled: guards.Cooled, after: phone_facts.Reading) -> dict[str, bool]:
        """What the device's state before and after a turn says of it."""
        told = guards.flags(cooled.reading, after, cooled.cool)
        if backends.facts(self.plan.backend.name).needs_screen:  # and has a flag of its own, `screen_off`
            told.pop("screen_on", None)
        return told

    def _give_up(self, series: Series, error: UserError, said: str) -> None:
        """Has no more rounds of the series: says why, and keeps what there is of it, and the log of all its turns."""
        series.failed = True
        series.log.append(said)
        where = ""
        try:
            where = f"; its log: {self.plan.keep.failure(series.key, series.text)}"
        except UserError as unkept:
            raise NotKept(str(unkept)) from None
        finally:
            self._fail(f"{series.label}: {error}{where}")
        if series.outcomes:
            self._keep(series)

    def _keep(self, series: Series) -> None:
        """Keeps the series' row, and tells of it where it is whole."""
        row = series.row()
        row = replace(row, log=f"{measurements.measurement_name(row)}.log")
        try:
            self.plan.keep.row(row, series.text)
        except UserError as error:
            raise NotKept(str(error)) from None
        self.rows[row.key] = row
        if series.whole:
            p50 = row.percentile_ms(50)
            told = "not told" if p50 is None else f"{p50:.2f} ms"
            self.plan.log(f"{self._name}: {series.label}: p50 {told}")

    def _fail(self, line: str) -> None:
        where = f"{self._name}: " if self._name and self._name not in line else ""
        self.failures.append(where + line)
        self.plan.log(f"failed: {where}{line}")

    def _head(self, turn: int) -> str:
        """The line above what is said in a turn."""
        return f"# {_now()}, round {turn + 1} of {self.plan.config.turns}"


def _heat(state: DeviceState) -> str:
    battery = "" if state.battery_celsius is None else f", battery {state.battery_celsius:.1f} degrees"
    return f"thermal status {state.thermal_status}{battery}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
