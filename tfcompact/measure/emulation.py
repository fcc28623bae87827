"""Instructions of exported files on an emulated ARM64 processor: no phone, and no times. No TensorFlow here."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfcompact.errors import UserError
from tfcompact.measure.backends.arm_processors import DEFAULT_PROCESSOR, PROCESSORS
from tfcompact.measure.backends.backend import Job, Outcome, with_command
from tfcompact.measure.backends.instruction_proxy import InstructionProxy
from tfcompact.measure.backends.native import DELEGATES
from tfcompact.measure.measurer import File, Keep, Log, Measured
from tfcompact.measure.reference_answer import DIFFERS, Reference, references
from tfcompact.options import opt, require_choice
from tfcompact.records.device import Device
from tfcompact.records.formats import FORMATS
from tfcompact.records.measurement import SCHEMA, Accuracy, Measurement
from tfcompact.runs import measurements


@dataclass(frozen=True)
class Config:
    """How instructions are counted: always on one thread, since two do not share work the same way twice."""

    cpu: str = opt(DEFAULT_PROCESSOR, f"the emulated processor: {', '.join(PROCESSORS)}")
    delegates: tuple[str, ...] = opt((), f"delegates to count with, one row for each; {DELEGATES[0]} unless given")
    formats: tuple[str, ...] = opt((), "only files of these formats; all of the export")

    def __post_init__(self) -> None:
        require_choice("emulated processor", self.cpu, PROCESSORS)
        for delegate in self.delegates:
            require_choice("delegate", delegate, DELEGATES)
        for format in self.formats:
            require_choice("format", format, FORMATS)


@dataclass(frozen=True)
class Emulation:
    """The `Measurer` of an emulated processor. `accuracies` are those that this computer measured, by sha256."""

    config: Config
    accuracies: Mapping[str, Accuracy] = field(default_factory=dict)

    def measure(self, files: Sequence[File], keep: Keep, log: Log) -> Measured:
        """The rows of every file with every delegate. Raises `UserError` where the emulator is not there."""
        backend = InstructionProxy(self.config.cpu)
        delegates = self.config.delegates or DELEGATES[:1]
        usable, failures = references(files, delegates, self.accuracies, log)
        backend.prepare()
        device, rows = backend.device, []
        for reference in usable:
            for delegate in delegates:
                label = f"{reference.artifact.model} {reference.artifact.format}, {delegate}"
                try:
                    outcome = backend.run(_job(reference, delegate))
                    row = _row(reference, delegate, outcome, device)
                except UserError as error:
                    failures.append(f"{label}: {error}")
                    log(f"failed: {label}: {error}")
                    continue
                keep.row(row, f"{with_command(outcome.command, outcome.log)}\n")
                rows.append(row)
                log(f"{row.device.name}: {label}: {row.instructions:,} instructions")
        return Measured(tuple(rows), tuple(failures))


def _job(reference: Reference, delegate: str) -> Job:
    return Job(reference.path, reference.artifact, delegate, threads=1, image=reference.image)


def _row(reference: Reference, delegate: str, outcome: Outcome, device: Device) -> Measurement:
    """The row of a file. Raises `UserError` where its answer has another size than this computer's."""
    check = None if outcome.output is None else reference.check(outcome.output, delegate)
    differs = check is not None and check.difference > DIFFERS
    row = Measurement(
        schema=SCHEMA,
        **reference.artifact.measured,
        **outcome.measured,
        device=device,
        delegate=outcome.ran_as(delegate),
        threads=1,
        wall_ms=(),
        process_ms=(),
        peak_memory_mb=None,
        accuracy=None if differs else reference.accuracy,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        validity=outcome.flags | ({"output_unchecked": True} if check is None else {"output_differs": differs}),
        backend=InstructionProxy.name,
        output=check,
    )
    return replace(row, log=f"{measurements.measurement_name(row)}.log")
