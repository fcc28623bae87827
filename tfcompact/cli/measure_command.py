"""`tfcompact measure`: the files of an export run on this machine, on phones, or emulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tfcompact.cli import arguments, device_options, opened
from tfcompact.errors import UserError
from tfcompact.options import opt
from tfcompact.pipeline.target import Target
from tfcompact.records.device import DeviceKind
from tfcompact.report import report_files, terminal
from tfcompact.runs import measurements


@dataclass(frozen=True)
class Where:
    """Which run, and where."""

    run: Annotated[
        Path | None,
        arguments.positional(),
        arguments.shown_as("RUN", "directory of an export run, instead of --model and --parent"),
    ] = None
    device: DeviceKind = opt(
        "host", "this machine (host), phones by adb (android), or ARM64 instructions counted (emulated)"
    )


def run(name: str, words: Sequence[str], help: str) -> None:
    """Measures, prints the table of the new rows, and says what failed."""
    owners = device_options.owners()
    extra = device_options.described(owners)
    extra.append(("parent", str | None, opt(None, "export run to measure")))
    command = arguments.command(Where, Target, *device_options.CONFIGS.values(), extra=extra)
    options = arguments.parse(command, name, words, help)
    given = device_options.given(options, words)
    device_options.refuse_foreign(options.device, given, owners)
    options = device_options.with_run(options, given)

    pipeline = opened.pipeline(options)
    measured = pipeline.measure(device_options.config(options), options.parent)
    keys = set(map(measurements.measurement_name, measured.rows))
    shown = [row for row in report_files.rows(options.runs, pipeline.spec.name) if row.key in keys]
    terminal.print_table(pipeline.console, shown, options.runs)
    print(options.runs / pipeline.spec.name / measurements.MEASUREMENTS)
    if measured.failures:
        raise UserError(f"{len(measured.failures)} failed, the rest is saved; the first: {measured.failures[0]}")
