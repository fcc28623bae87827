"""The command line. Each stage's options, help and make target follow from its `Config`; nothing is written twice.

Only the chosen command's modules are imported, so `tfcompact --help` answers before TensorFlow could load.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from tfcompact.cli import arguments
from tfcompact.errors import UnknownName, UserError
from tfcompact.records.device import DeviceKind


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0, 2 for a `UserError`, 130 where it was interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        _print_help()
        return 0
    if words[0] == "--version":
        from tfcompact import __version__

        print(__version__)
        return 0
    name, rest = words[0], words[1:]
    try:
        if name not in COMMANDS:
            raise UnknownName("command", name, COMMANDS)
        COMMANDS[name](name, rest)
    except UserError as error:
        print(f"tfcompact {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; {_INTERRUPTED.get(name, _GOES_ON)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
    return 0


def _train(name: str, words: Sequence[str]) -> None:
    """Train, quantize, export, measure and report: from images to a verified int8 file"""
    from tfcompact.options import opt
    from tfcompact.runs.store import ROOT

    @dataclasses.dataclass(frozen=True)
    class Train(_target()):  # type: ignore[misc]
        recipe: str = opt("default", "a file of tfcompact/recipes without .toml, or a .toml file of your own")
        weights: str | None = opt(
            None, "what to start from: imagenet, a run's directory or a file; random unless given"
        )
        epochs: int | None = opt(None, "epochs of the recipe's first step; the recipe's own unless given")
        set: tuple[str, ...] = opt((), "any step's option, by its id: fit.learning_rate=0.001 quantize.epochs=5")

    options = _parse(Train, name, words)
    overrides: dict[str, dict[str, Any]] = {}
    for item in options.set:
        arguments.add_override(overrides, item)
    from tfcompact.pipeline.recipe import load_recipe

    first = overrides.setdefault(load_recipe(options.recipe)[0].id, {})
    first |= {name: value for name in ("epochs", "weights") if (value := getattr(options, name)) is not None}
    pipeline = _pipeline(options)
    run = pipeline.train(options.recipe, overrides)

    from tfcompact.report import report_files, terminal

    rows = [row for row in report_files.rows(options.runs or ROOT, options.model) if row.run == run.name]
    terminal.print_table(pipeline.console, rows, options.runs)
    report_files.write(options.runs)
    print(f"\nthe file for an app: {run.path / run.artifacts[0].path}\nreport: {options.runs / 'report'}\n{run.path}")


def _stage(name: str, words: Sequence[str]) -> None:
    from tfcompact.options import opt
    from tfcompact.stages import stage

    config_class = stage(name).Config
    command = arguments.command(
        _target(), config_class, extra=[("parent", str | None, opt(None, "run to start from, e.g. fit-3f9a10c2"))]
    )
    options = _parse(command, name, words)
    run = _pipeline(options).run(name, arguments.part(options, config_class), options.parent)
    print(run.path)


def _export(name: str, words: Sequence[str]) -> None:
    """Write verified .tflite files (uint8, int8, float32, float16, dynamic) with metadata"""
    from tfcompact.export.gate import Config
    from tfcompact.options import opt

    command = arguments.command(_target(), Config, extra=[("parent", str | None, opt(None, "run to export"))])
    options = _parse(command, name, words)
    print(_pipeline(options).export(arguments.part(options, Config), options.parent).path)


def _measure(name: str, words: Sequence[str]) -> None:
    """Latency and memory of the exported files: on this machine, with test accuracy, or on Android devices"""
    from tfcompact.cli import device_options
    from tfcompact.options import opt

    @dataclasses.dataclass(frozen=True)
    class Run:
        run: Annotated[
            Path | None,
            arguments.positional(),
            arguments.shown_as("RUN", "directory of an export run, instead of --model and --parent"),
        ] = None
        device: DeviceKind = opt(
            "host", "this machine (host), phones by adb (android), or ARM64 instructions counted (emulated)"
        )

    owners = device_options.owners()
    extra = device_options.described(owners)
    extra.append(("parent", str | None, opt(None, "export run to measure")))
    configs = device_options.CONFIGS.values()
    options = _parse(arguments.command(Run, _target(), *configs, extra=extra), name, words)
    given = device_options.given(options, words)
    device_options.refuse_foreign(options.device, given, owners)
    options = device_options.with_run(options, given)
    config = device_options.config(options)

    from tfcompact.report import report_files, terminal
    from tfcompact.runs import measurements

    pipeline = _pipeline(options)
    measured = pipeline.measure(config, options.parent)
    keys = set(map(measurements.measurement_name, measured.rows))
    rows = [row for row in report_files.rows(options.runs, options.model) if row.key in keys]
    terminal.print_table(pipeline.console, rows, options.runs)
    print(options.runs / options.model / measurements.MEASUREMENTS)
    if measured.failures:
        raise UserError(f"{len(measured.failures)} failed, the rest is saved; the first: {measured.failures[0]}")


def _report(name: str, words: Sequence[str]) -> None:
    """Tables (terminal, Markdown, CSV) and the accuracy-latency-size plot of all measurements"""
    from tfcompact.options import opt
    from tfcompact.report import report_files, terminal
    from tfcompact.runs.store import ROOT

    @dataclasses.dataclass(frozen=True)
    class Report:
        model: str | None = opt(None, "only this architecture")
        runs: Path = opt(ROOT, "directory of all runs")
        out: Path | None = opt(None, "directory for report.md, report.csv and pareto.png; <runs>/report unless given")

    options = _parse(Report, name, words)
    _known(options.model)
    written = report_files.write(options.runs, options.model, options.out)  # tells where nothing was measured yet
    terminal.print_table(_console(), report_files.rows(options.runs, options.model), options.runs)
    for path in written:
        print(path)


def _runs(name: str, words: Sequence[str]) -> None:
    """All runs: what made them, when, from which parent"""
    from tfcompact.options import opt
    from tfcompact.report import terminal
    from tfcompact.runs.store import ROOT

    @dataclasses.dataclass(frozen=True)
    class Runs:
        model: str | None = opt(None, "only this architecture")
        runs: Path = opt(ROOT, "directory of all runs")

    options = _parse(Runs, name, words)
    _known(options.model)
    terminal.print_runs(_console(), options.runs, options.model)


def _models(name: str, words: Sequence[str]) -> None:
    """All architectures with parameters, multiply-adds, published accuracy, and where weights are"""
    from tfcompact.options import opt
    from tfcompact.report import architectures

    @dataclasses.dataclass(frozen=True)
    class Models:
        family: str | None = opt(None, "only this family")
        sort: str = opt("family", "family, name, parameters, macs or accuracy")

    options = _parse(Models, name, words)
    console = _console()
    table, legend = architectures.models_table(options.family, options.sort, console.width)
    console.print(table)
    console.print(f"\n{legend}", highlight=False, markup=False)


def _describe(name: str, words: Sequence[str]) -> None:
    """An architecture block by block: shapes, operators, parameters, multiply-adds, memory, traffic, energy"""
    from tfcompact.options import opt

    @dataclasses.dataclass(frozen=True)
    class Describe:
        model: Annotated[
            str,
            arguments.positional(),
            arguments.shown_as("MODEL", "name of an architecture; tfcompact models lists them"),
        ]
        px: int | None = opt(None, "side of the images in px; the published size unless given")
        classes: int | None = opt(None, "number of classes; the published one unless given")
        bits: typing.Literal[8, 32] = opt(8, "of a number: 8 for int8, 32 for float32")
        layers: bool = opt(False, "layer by layer instead: output shape, parameters, multiply-adds")

    options = _parse(Describe, name, words)
    from tfcompact import models
    from tfcompact.report import architectures

    models.spec(options.model)  # an unknown name is told before TensorFlow loads
    console = _console()
    model = models.build(options.model, px=options.px, classes=options.classes)
    title = f"{options.model}, {model.input_shape[1]} px, {model.output_shape[-1]} classes"
    if options.layers:
        console.print(title, architectures.layers_table(model), sep="\n", highlight=False)
        return
    from tfcompact.networks.costs import PRECISIONS
    from tfcompact.networks.operators import profile

    costs = profile(model, PRECISIONS[options.bits])
    table, sums, legend = architectures.blocks_table(costs, console.width)
    console.print(f"{title}, {costs.precision.name}\n", table, f"\n{sums}\n", legend, sep="\n", highlight=False)


def _sensitivity(name: str, words: Sequence[str]) -> None:
    """What each layer's rounding alone costs a quantized run, and a file with the worst layers left float"""
    from tfcompact import files
    from tfcompact.options import opt
    from tfcompact.sensitivity import sensitivity_tables, study

    @dataclasses.dataclass(frozen=True)
    class Run:
        run: Annotated[
            Path, arguments.positional(), arguments.shown_as("RUN", "directory of a run with a quantized network")
        ]

    @dataclasses.dataclass(frozen=True)
    class Images:
        data: str | None = opt(None, "the run's images, where they are elsewhere now")
        cache: Path | None = opt(None, "directory of decoded images; <runs>/cache unless given")
        skip_unreadable: bool = opt(False, "leave out images that cannot be read, and list them")

    options = _parse(arguments.command(Run, study.Config, Images), name, words)
    config, console = arguments.part(options, study.Config), _console()
    run = study.quantized_run(options.run)

    def log(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    data = study.open_data(run, options.data, options.cache, options.skip_unreadable, log)
    work = study.Study(run, data, config)
    ranking = work.ranking(_bar)
    table, summary, legend = sensitivity_tables.ranking_table(ranking, config.limit, console.width)
    console.print(f"{run.model} {run.name}\n", table, f"\n{summary}\n", legend, sep="\n", highlight=False)
    comparison = work.comparison(ranking) if config.keep_float else None
    if comparison is not None:
        out, table = work.write(comparison), sensitivity_tables.files_table(comparison.rows)
        console.print(f"\nkept float: {', '.join(comparison.kept)}\n", table, sep="\n", highlight=False)
        log(f"\n{sensitivity_tables.FILES_LEGEND}\n{out}")
    if config.json:
        files.write_json(config.json, study.as_json(run, ranking, comparison))


def _bar(units: Sequence[Any]) -> Iterable[Any]:
    """The units, with a bar of progress where a person is watching."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(units, "layers", console=console, transient=True, disable=not console.is_terminal)


def _latency_table(name: str, words: Sequence[str]) -> None:
    """Costs of every operator of networks or of a search space on a device, to predict whole networks from"""
    from tfcompact.latency.meters import Config
    from tfcompact.options import opt

    @dataclasses.dataclass(frozen=True)
    class Networks:
        models: tuple[str, ...] = opt((), "architectures, or .tflite files")
        space: Path | None = opt(None, "the TOML or JSON file of a search space, as tfcompact/space.py describes it")
        px: int | None = opt(None, "side of the images in px, of architectures; the published size unless given")
        classes: int | None = opt(None, "number of classes, of architectures; the published one unless given")
        out: Path = opt(Path("latency-table.json"), "the table")
        extend: bool = opt(False, "add to the table that is there")

    options = _parse(arguments.command(Networks, Config), name, words)
    if not options.models and options.space is None:
        raise UserError("there is nothing to measure; give --models or --space")
    from tfcompact.export import candidate
    from tfcompact.latency import meters, table_making
    from tfcompact.models.space import Space

    console = _console()

    def log(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    networks = candidate.networks(
        options.models,
        Space.load(options.space).covering() if options.space else (),
        px=options.px,
        classes=options.classes,
        kept=table_making.networks_of(options.out),
    )
    with meters.meter(arguments.part(options, Config), log) as meter:
        table = table_making.make_table(networks, meter, options.out, extend=options.extend, log=log)
    console.print(f"{len(table.alone)} operators: {table.setting}", highlight=False, markup=False)
    print(options.out)


COMMANDS: dict[str, Callable[[str, Sequence[str]], None]] = {
    "train": _train,
    "fit": _stage,
    "quantize": _stage,
    "export": _export,
    "measure": _measure,
    "report": _report,
    "models": _models,
    "describe": _describe,
    "sensitivity": _sensitivity,
    "latency-table": _latency_table,
    "runs": _runs,
}
_GOES_ON = "what was finished is kept, and the same command goes on from there"
_INTERRUPTED = {
    "measure": "rows that were saved are kept, those of phones that lack rounds as *.partial.json; the same command "
    "measures everything anew",
}
_STAGE_HELP = {
    "fit": "Train a network, or go on with a training that was interrupted",
    "quantize": "Quantization-aware training of a fitted network; --epochs 0 is post-training quantization",
}


def _print_help() -> None:
    from rich.table import Table

    console = _console()
    console.print("[bold]tfcompact[/]: from a folder of photographs to a verified int8 TFLite file\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, command in COMMANDS.items():
        table.add_row(f"[cyan]{name}[/]", _help(name, command))
    console.print(table)
    console.print(
        "\n[bold]tfcompact COMMAND --help[/] lists a command's options. For example:\n\n"
        "  tfcompact train --model mobilenet_v2 --data path/to/photos\n"
        "  tfcompact describe mobilenet_v3_small\n",
        highlight=False,
    )


def _help(name: str, command: Callable[..., None]) -> str:
    return _STAGE_HELP.get(name) or (command.__doc__ or "")


def _parse(command: type, name: str, words: Sequence[str]) -> Any:
    return arguments.parse(command, name, words, _help(name, COMMANDS[name]))


def _target() -> Any:
    from tfcompact.pipeline.target import Target

    return Target


def _pipeline(options: Any) -> Any:
    from tfcompact import models

    models.spec(options.model)  # an unknown name is told before TensorFlow loads
    from tfcompact.pipeline.pipeline import Pipeline

    return Pipeline(arguments.part(options, _target()), _console())


def _known(model: str | None) -> None:
    from tfcompact import models

    if model is not None:
        models.spec(model)


def _console() -> Any:
    from rich.console import Console

    return Console()


if __name__ == "__main__":
    sys.exit(main())
