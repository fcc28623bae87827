"""`tfcompact measure`: the files of an export run on this machine, on phones, or emulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tfcompact.cli import arguments, device_options, opened
from tfcompact.errors import UserError
from tfcompact.measure import host
from tfcompact.measure.android import fleet
from tfcompact.options import opt
from tfcompact.pipeline import measuring
from tfcompact.pipeline.target import Target
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
    device: Literal["host", "android", "emulated"] = opt(
        "host", "this machine (host), phones by adb (android), or ARM64 instructions counted (emulated)"
    )


def run(name: str, words: Sequence[str], help: str) -> None:
    """Measures, prints the table of the new rows, and says what failed."""
    owners = device_options.owners()
    extra = device_options.described(owners)
    extra.append(("parent", str | None, opt(None, "export run to measure")))
    command = arguments.command(Where, Target, host.Config, fleet.Config, extra=extra)
    options = arguments.parse(command, name, words, help)
    given = device_options.given(options, words)
    device_options.refuse_foreign(options.device, given, owners)
    options = device_options.with_run(options, given)

    failures: tuple[str, ...] = ()
    if options.device == "host":
        pipeline = opened.pipeline(options)
        console = pipeline.console
        rows = pipeline.measure(arguments.part(options, host.Config), options.parent)
    else:  # no TensorFlow here: it is not needed to ask a phone
        opened.check_network(options.model, options.runs)
        console = opened.console()
        config = device_options.android_config(options, "backend" in given)
        found = measuring.export_run(options.runs, options.model, options.parent)
        measured = fleet.measure_run(
            found, options.runs, config, lambda line: console.print(line, highlight=False, markup=False)
        )
        rows, failures = list(measured.rows), measured.failures
    keys = set(map(measurements.measurement_name, rows))
    shown = [row for row in report_files.rows(options.runs, options.model) if row.key in keys]
    terminal.print_table(console, shown, options.runs)
    print(options.runs / options.model / measurements.MEASUREMENTS)
    if failures:
        raise UserError(f"{len(failures)} failed, the rest is saved; the first: {failures[0]}")
