"""What runs a file on a device: one interface for the four ways that `measure.android` knows.

A back end gets a `Job` and gives an `Outcome`; devices, guards before and after, and the row that is saved are
`measure.android`'s. No TensorFlow here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tfcompact.errors import UserError
from tfcompact.records.artifact import Artifact
from tfcompact.records.measurement import ColdStart, OperatorTime, Summary


@dataclass(frozen=True)
class Job:
    """One file to run on one device with one delegate and number of threads.

    `path` is the file on this computer, `remote` where it was pushed to on the device (absent for a back end that
    needs no push). `image` is the input, one image as the file takes it, to be fed in the check of the output.
    Times are in seconds; `affinity` is a mask of cores in hexadecimal, empty for no pinning. `profile` asks for the
    times of operators, in a run of its own.
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
    (`{"fell_back": true}`). Of an emulated device only `instructions`, of one inference, may be filled, and no time.
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
    flags: dict[str, bool] = field(default_factory=dict)


class RunFailed(UserError):
    """A file did not run on a device, with the command line and all that was said, for the log that is kept of it."""

    def __init__(self, message: str, *, command: str = "", log: str = "") -> None:
        super().__init__(message)
        self.command, self.log = command, log


class Backend(Protocol):
    """One way to run a file. `delegates` are those that it takes, the default first."""

    name: str
    delegates: tuple[str, ...]

    def prepare(self, phone: Any) -> None:
        """Brings to the device (`adb.Phone`; None for the proxy) what the runs need, once.

        Raises `UserError` where something is missing, with the option or command that provides it.
        """

    def run(self, phone: Any, job: Job) -> Outcome:
        """Runs the file. Raises `UserError`, in one line, where it does not run: `RunFailed` where there is something
        to be read of it, `adb.DeviceGone` where the device went away.

        What was timed is not given up for what comes after: an answer that cannot be fetched, or a profile that
        fails, is left out of the `Outcome`, with a flag (`answer_lost`, `profile_failed`).
        """
