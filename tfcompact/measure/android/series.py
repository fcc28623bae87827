"""One file in one setting on one phone: what its rounds have given so far, and the row that it makes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tfcompact.errors import UserError
from tfcompact.measure.android.affinity import Pinning
from tfcompact.measure.android.phone_facts import Reading
from tfcompact.measure.android.phone_options import Config
from tfcompact.measure.backends.backend import Job, Outcome, with_command
from tfcompact.measure.reference_answer import DIFFERS, Reference
from tfcompact.measure.samples import FEWEST_RUNS, steadiness
from tfcompact.records.device import Device
from tfcompact.records.measurement import SCHEMA, Measurement, OutputCheck


class Where(NamedTuple):
    """What all series of a phone have in common. `backend` is the name of the back end."""

    device: Device
    pinning: Pinning
    backend: str
    config: Config

    @property
    def cores(self) -> int:
        """How many cores the runs may use."""
        mask = self.pinning.mask
        return bin(int(mask, 16)).count("1") if mask else self.device.cores


@dataclass(eq=False)
class Series:
    """One file with one delegate and number of threads on one phone, and what its rounds have given so far.

    `started` is the time of the first run. `rounds_done` counts the rounds with the device's state after them; where
    it `failed` there are no more.
    """

    where: Where
    reference: Reference
    delegate: str
    threads: int
    outcomes: list[Outcome] = field(default_factory=list)
    flags: dict[str, bool] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    before: Reading | None = None
    after: Reading | None = None
    check: OutputCheck | None = None
    started: str = ""
    rounds_done: int = 0
    failed: bool = False

    @property
    def label(self) -> str:
        """The series in words, for a line of progress."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.reference.artifact.model} {self.reference.artifact.format}, {self.delegate}, {threads}"

    @property
    def text(self) -> str:
        """All that was said."""
        return "\n\n".join(self.log) + "\n"

    @property
    def whole(self) -> bool:
        """Whether all rounds are in."""
        return self.rounds_done >= self.where.config.turns

    def job(self, remote: str, turn: int) -> Job:
        """What the back end is to run in that round, of a file that was pushed to `remote`."""
        config, sustained = self.where.config, self.where.config.sustained_seconds
        return Job(
            path=self.reference.path,
            artifact=self.reference.artifact,
            delegate=self.delegate,
            threads=self.threads,
            image=self.reference.image,
            remote=remote,
            warmup=config.warmup,
            warmup_seconds=config.warmup_seconds,
            repeats=self._repeats,
            min_seconds=sustained or config.min_seconds / config.turns,
            max_seconds=config.max_seconds + sustained,
            affinity=self.where.pinning.mask,
            profile=config.profile and turn == 0,
        )

    def begin(self, reading: Reading, started: str) -> None:
        """Notes the state and the time before the first run."""
        self.before = self.before or reading
        self.started = self.started or started

    def add(self, outcome: Outcome, head: str) -> None:
        """Takes what a round gave, its log below the line `head`.

        Raises `UserError` where another delegate ran than in the round before, or the answer has another size.
        """
        self.log.append(f"{head}\n{with_command(outcome.command, outcome.log)}")
        if self.outcomes and outcome.delegate != self.outcomes[-1].delegate:
            ran = self.outcomes[-1].delegate
            raise UserError(f"it ran as {ran} in one round and as {outcome.delegate} in the next")
        if outcome.output is not None:
            self.check = self.reference.check(outcome.output, self.delegate)
            self.raise_flags({"output_differs": self.check.difference > DIFFERS})
        self.raise_flags(outcome.flags)
        self.outcomes.append(outcome)

    def end(self, reading: Reading, flags: dict[str, bool]) -> None:
        """Notes the state after a round, and what it says of it."""
        self.after = reading
        self.raise_flags(flags)
        self.rounds_done += 1

    def raise_flags(self, flags: dict[str, bool]) -> None:
        """Adds flags; one that was raised stays raised."""
        for name, value in flags.items():
            self.flags[name] = self.flags.get(name, False) or value

    @property
    def key(self) -> str:
        """The name of the row, also of one that was never measured."""
        if self.outcomes:
            return self.row().key
        return replace(self, outcomes=[Outcome("", self.delegate, "", "")]).row().key

    def row(self) -> Measurement:
        """The row of the rounds so far, of which there must be one."""
        outcomes, first = self.outcomes, self.outcomes[0]
        wall_ms = tuple(ms for outcome in outcomes for ms in outcome.wall_ms)
        memory = [outcome.peak_memory_mb for outcome in outcomes if outcome.peak_memory_mb is not None]
        return Measurement(
            schema=SCHEMA,
            **self.reference.artifact.measured,
            **first.measured,
            device=self.where.device,
            delegate=outcomes[-1].ran_as(self.delegate),
            threads=self.threads,
            wall_ms=wall_ms,
            process_ms=tuple(ms for outcome in outcomes for ms in outcome.process_ms),
            peak_memory_mb=max(memory) if memory else None,
            accuracy=None if self.flags.get("output_differs") else self.reference.accuracy,
            started=self.started,
            validity=self._validity(wall_ms),
            backend=self.where.backend,
            mode="sustained" if self.where.config.sustained_seconds else "burst",
            output=self.check,
            before=self.before.state if self.before else None,
            after=self.after.state if self.after else None,
            affinity=self._affinity,
        )

    @property
    def _affinity(self) -> str:
        """The mask that was in force where it is known, empty where it is that of all cores; else what was asked."""
        in_force = self.outcomes[-1].affinity
        if in_force is None:
            return self.where.pinning.mask
        mask, every = int(in_force, 16), (1 << self.where.device.cores) - 1
        return "" if not self.where.pinning.mask and mask & every == every else f"{mask:x}"

    def _validity(self, wall_ms: tuple[float, ...]) -> dict[str, bool]:
        """What could mislead a reader of the row, and whether it was so."""
        first = self.outcomes[0]
        count = first.summary.count if first.summary else len(wall_ms)
        asked = min(self.where.config.repeats, len(self.outcomes) * self._repeats)  # of the rounds that there were
        return {
            **self.flags,
            **steadiness(wall_ms),
            "partial": not self.whole,
            "cut_short": count < asked,
            "few_runs": count < FEWEST_RUNS,
            "threads_exceed_cores": self.threads > self.where.cores,
            "output_unchecked": self.check is None,
            "unpinned": self.where.pinning.unpinned,
        }

    @property
    def _repeats(self) -> int:
        """How many runs a round has at least."""
        return math.ceil(self.where.config.repeats / self.where.config.turns)
