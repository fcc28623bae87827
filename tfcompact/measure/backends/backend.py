"""What runs a file elsewhere than on this computer: a job in, an outcome out.

Devices, guards before and after, and the row that is saved are not a back end's. No TensorFlow here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tfcompact.errors import UserError
from tfcompact.measure.android.phone import Phone
from tfcompact.records.artifact import Artifact
from tfcompact.records.measurement import ColdStart, OperatorTime, Summary


@dataclass(frozen=True)
class Job:
    """One file to run on one device with one delegate and number of threads.

    `path` is the file on this computer, `remote` where it was pushed to on the phone (absent under emulation).
    `image` is the input, one image as the file takes it, to be fed in the check of the output. Times are in seconds;
    `affinity` is a mask of cores in hexadecimal, empty for no pinning. `profile` asks for the times of operators, in
    a run of its own.
    """

    path: Path
    artifact: Artifact
    delegate: str
    threads: int
    image: bytes
    remote: str = ""
    warmup: int = 10
    warmup_seconds: float = 0.5
    repeats: int = 100
    min_seconds: float = 1.0
    max_seconds: float = 150.0
    affinity: str = ""
    profile: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a back end found out. `log` is all that it said, `output` the raw bytes of the answer to `Job.image`.

    `delegate` is what really ran: another one than was asked for is a fallback, and `flags` say so
    (`{"fell_back": true}`). `affinity` is the mask of cores that was in force, None where nobody looked. Of an
    emulated device only `instructions`, of one inference, may be filled, and no time.
    """

    runtime: str
    delegate: str
    command: str
    log: str
    wall_ms: tuple[float, ...] = ()
    process_ms: tuple[float, ...] = ()
    warmup_runs: int = 0
    summary: Summary | None = None
    cold: ColdStart | None = None
    operators: tuple[OperatorTime, ...] = ()
    partitions: int | None = None
    delegated_nodes: int | None = None
    total_nodes: int | None = None
    peak_memory_mb: float | None = None
    output: bytes | None = None
    instructions: int | None = None
    affinity: str | None = None
    flags: dict[str, bool] = field(default_factory=dict)

    @property
    def measured(self) -> dict[str, Any]:
        """The fields of a `Measurement` that one call gives for all."""
        return {
            "runtime": self.runtime,
            "warmup_runs": self.warmup_runs,
            "xnnpack_partitions": self.partitions,
            "delegated_nodes": self.delegated_nodes,
            "total_nodes": self.total_nodes,
            "instructions": self.instructions,
            "summary": self.summary,
            "cold": self.cold,
            "operators": self.operators,
            "command": self.command,
        }

    def ran_as(self, asked: str) -> str:
        """The delegate for the row: a fallback never takes the place of a row that was measured as asked."""
        return asked if self.delegate == asked else f"{self.delegate}-instead-of-{asked}"


def with_command(command: str, log: str) -> str:
    """The log with the command line in front, unless it has it, or there is none."""
    return log if not command or log.startswith(f"$ {command}\n") else f"$ {command}\n{log}"


class RunFailed(UserError):
    """A file did not run on a device, with the command line and all that was said, for the log that is kept of it."""

    def __init__(self, message: str, *, command: str = "", log: str = "") -> None:
        super().__init__(message)
        self.command, self.log = command, log


class Backend(Protocol):
    """One way to run a file on a phone.

    `name` is that of its row in `records.backends`; `delegates` are those that it takes, the default first.
    """

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def delegates(self) -> tuple[str, ...]:
        """What can run a file's operators there."""

    def prepare(self, phone: Phone) -> None:
        """Brings to the phone what the runs need, once.

        Raises `UserError` where something is missing, with the option or command that provides it.
        """

    def run(self, phone: Phone, job: Job) -> Outcome:
        """What running the file gives.

        Raises `UserError`, in one line, where it does not run: `RunFailed` where there is something to be read of it,
        `adb.DeviceGone` where the phone went away. What was timed is not given up for what comes after: an answer
        that cannot be fetched, or a profile that fails, is left out, with a flag (`answer_lost`, `profile_failed`).
        """
