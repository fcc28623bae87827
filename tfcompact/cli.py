"""The command line. Each stage's options, help and make target follow from its `Config`; nothing is written twice.

Only the chosen command's modules are imported, so `tfcompact --help` answers before TensorFlow could load.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from tfcompact.errors import UnknownName, UserError


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
        print("\ninterrupted; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
    return 0


def _train(name: str, words: Sequence[str]) -> None:
    """Train, quantize, export, measure and report: from images to a verified int8 file"""
    from tfcompact.options import opt
    from tfcompact.runs import ROOT

    @dataclasses.dataclass(frozen=True)
    class Train(_target()):  # type: ignore[misc]
        recipe: str = opt("default", "a file of tfcompact/recipes, without .toml")
        weights: str | None = opt(
            None, "what to start from: imagenet, a run's directory or a file; random unless given"
        )
        epochs: int | None = opt(None, "epochs of the first training; the recipe's unless given")
        set: tuple[str, ...] = opt((), "any stage's option: --set fit.learning_rate=0.001 quantize.epochs=5")

    options = _parse(Train, name, words)
    overrides: dict[str, dict[str, Any]] = {}
    for item in options.set:
        _add_override(overrides, item)
    if options.epochs is not None:
        overrides.setdefault("fit", {})["epochs"] = options.epochs
    if options.weights is not None:
        overrides.setdefault("fit", {})["weights"] = options.weights
    pipeline = _pipeline(options)
    run = pipeline.train(options.recipe, overrides)

    from tfcompact import report

    rows = [row for row in report.rows(options.runs or ROOT, options.model) if row.run == run.name]
    report.print_table(pipeline.console, rows, options.runs)
    report.write(options.runs)
    print(f"\nthe file for an app: {run.path / run.artifacts[0].path}\nreport: {options.runs / 'report'}\n{run.path}")


def _stage(name: str, words: Sequence[str]) -> None:
    from tfcompact.options import opt
    from tfcompact.stages import stage

    config_class = stage(name).Config
    command = _command(
        _target(), config_class, extra=[("parent", str | None, opt(None, "run to start from, e.g. fit-3f9a10c2"))]
    )
    options = _parse(command, name, words)
    run = _pipeline(options).run(name, _part(options, config_class), options.parent)
    print(run.path)


def _export(name: str, words: Sequence[str]) -> None:
    """Write verified .tflite files (uint8, int8, float32, float16, dynamic) with metadata"""
    from tfcompact.export import Config
    from tfcompact.options import opt

    command = _command(_target(), Config, extra=[("parent", str | None, opt(None, "run to export"))])
    options = _parse(command, name, words)
    print(_pipeline(options).export(_part(options, Config), options.parent).path)


def _measure(name: str, words: Sequence[str]) -> None:
    """Latency, memory and test accuracy of the exported files on this machine"""
    from tfcompact.measure.host import Config
    from tfcompact.options import opt

    command = _command(_target(), Config, extra=[("parent", str | None, opt(None, "export run to measure"))])
    options = _parse(command, name, words)
    pipeline = _pipeline(options)
    keys = {row.key for row in pipeline.measure(_part(options, Config), options.parent)}

    from tfcompact import report, runs

    rows = [row for row in report.rows(options.runs, options.model) if row.key in keys]
    report.print_table(pipeline.console, rows, options.runs)
    print(options.runs / options.model / runs.MEASUREMENTS)


def _report(name: str, words: Sequence[str]) -> None:
    """Tables (terminal, Markdown, CSV) and the accuracy-latency-size plot of all measurements"""
    from tfcompact import report
    from tfcompact.options import opt
    from tfcompact.runs import ROOT

    @dataclasses.dataclass(frozen=True)
    class Report:
        model: str | None = opt(None, "only this architecture")
        runs: Path = opt(ROOT, "directory of all runs")
        out: Path | None = opt(None, "directory for report.md, report.csv and pareto.png; <runs>/report unless given")

    options = _parse(Report, name, words)
    _known(options.model)
    written = report.write(options.runs, options.model, options.out)  # tells where nothing was measured yet
    report.print_table(_console(), report.rows(options.runs, options.model), options.runs)
    for path in written:
        print(path)


def _runs(name: str, words: Sequence[str]) -> None:
    """All runs: what made them, when, from which parent"""
    from tfcompact import report
    from tfcompact.options import opt
    from tfcompact.runs import ROOT

    @dataclasses.dataclass(frozen=True)
    class Runs:
        model: str | None = opt(None, "only this architecture")
        runs: Path = opt(ROOT, "directory of all runs")

    options = _parse(Runs, name, words)
    _known(options.model)
    report.print_runs(_console(), options.runs, options.model)


def _models(name: str, words: Sequence[str]) -> None:
    """All architectures with parameters, multiply-adds, published accuracy, and where weights are"""
    from tfcompact import describe
    from tfcompact.options import opt

    @dataclasses.dataclass(frozen=True)
    class Models:
        family: str | None = opt(None, "only this family")
        sort: str = opt("family", "family, name, parameters, macs or accuracy")

    options = _parse(Models, name, words)
    console = _console()
    table, legend = describe.models_table(options.family, options.sort, console.width)
    console.print(table)
    console.print(f"\n{legend}", highlight=False, markup=False)


def _describe(name: str, words: Sequence[str]) -> None:
    """An architecture block by block: shapes, operators, parameters, multiply-adds, memory, traffic, energy"""
    from tfcompact.options import opt

    @dataclasses.dataclass(frozen=True)
    class Describe:
        model: Annotated[
            str, _positional(), _shown_as("MODEL", "name of an architecture; tfcompact models lists them")
        ]
        px: int | None = opt(None, "side of the images in px; the published size unless given")
        classes: int | None = opt(None, "number of classes; the published one unless given")
        bits: typing.Literal[8, 32] = opt(8, "of a number: 8 for int8, 32 for float32")
        layers: bool = opt(False, "layer by layer instead: output shape, parameters, multiply-adds")

    options = _parse(Describe, name, words)
    from tfcompact import describe, models

    models.spec(options.model)  # an unknown name is told before TensorFlow loads
    console = _console()
    model = models.build(options.model, px=options.px, classes=options.classes)
    title = f"{options.model}, {model.input_shape[1]} px, {model.output_shape[-1]} classes"
    if options.layers:
        console.print(title, describe.layers_table(model), sep="\n", highlight=False)
        return
    from tfcompact.costs import PRECISIONS
    from tfcompact.profile import profile

    costs = profile(model, PRECISIONS[options.bits])
    table, sums, legend = describe.blocks_table(costs, console.width)
    console.print(f"{title}, {costs.precision.name}\n", table, f"\n{sums}\n", legend, sep="\n", highlight=False)


def _sensitivity(name: str, words: Sequence[str]) -> None:
    """What each layer's rounding alone costs a quantized run, and a file with the worst layers left float"""
    from tfcompact import sensitivity
    from tfcompact.options import opt

    @dataclasses.dataclass(frozen=True)
    class Run:
        run: Annotated[Path, _positional(), _shown_as("RUN", "directory of a finished quantize run")]

    @dataclasses.dataclass(frozen=True)
    class Images:
        data: str | None = opt(None, "the run's images, where they are elsewhere now")
        cache: Path | None = opt(None, "directory of decoded images; <runs>/cache unless given")
        skip_unreadable: bool = opt(False, "leave out images that cannot be read, and list them")

    options = _parse(_command(Run, sensitivity.Config, Images), name, words)
    config, console = _part(options, sensitivity.Config), _console()
    run = sensitivity.finished(options.run)
    data = sensitivity.open_data(run, options.data, options.cache, options.skip_unreadable, console)
    sensitivity.sensitivity(run, config, data, console)


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
    "runs": _runs,
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


def _target() -> Any:
    from tfcompact.target import Target

    return Target


def _pipeline(options: Any) -> Any:
    from tfcompact import models

    models.spec(options.model)  # an unknown name is told before TensorFlow loads
    from tfcompact.pipeline import Pipeline

    return Pipeline(_part(options, _target()), _console())


def _known(model: str | None) -> None:
    from tfcompact import models

    if model is not None:
        models.spec(model)


def _console() -> Any:
    from rich.console import Console

    return Console()


def _positional() -> Any:
    import tyro

    return tyro.conf.Positional


def _shown_as(name: str, help: str) -> Any:
    import tyro

    return tyro.conf.arg(metavar=name, help=help)


def _command(*parts: type, extra: Sequence[tuple[str, Any, Any]] = ()) -> type:
    """One flat dataclass with the fields of all parts; `extra` fields win over those of the same name."""
    fields: dict[str, tuple[str, Any, Any]] = {}
    for part in parts:
        hints = typing.get_type_hints(part, include_extras=True)
        for f in dataclasses.fields(part):
            fields[f.name] = (f.name, hints[f.name], _same_default(f))
    fields |= {row[0]: row for row in extra}
    return dataclasses.make_dataclass("Options", list(fields.values()), frozen=True)


def _same_default(f: Any) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=f.default_factory, metadata=f.metadata)
    return dataclasses.field(default=f.default, metadata=f.metadata)


def _parse(command: type, name: str, words: Sequence[str]) -> Any:
    """`words` as an instance of `command`, a dataclass whose fields carry their help in their metadata."""
    import tyro

    hints = typing.get_type_hints(command, include_extras=True)
    annotated = []
    for f in dataclasses.fields(command):
        help = f.metadata.get("help")
        kind = Annotated[hints[f.name], tyro.conf.arg(help=help)] if help else hints[f.name]
        annotated.append((f.name, kind, _same_default(f) if _has_default(f) else dataclasses.field()))
    described = dataclasses.make_dataclass("Options", annotated, frozen=True)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            return tyro.cli(
                described, prog=f"tfcompact {name}", description=_help(name, COMMANDS[name]), args=list(words)
            )
    except SystemExit as stop:
        if stop.code:
            raise UserError(_one_line(heard.getvalue(), name, words, described)) from None
        raise


def _one_line(box: str, name: str, words: Sequence[str], command: type) -> str:
    """What the parser put into a box, as a line; a misspelt option with the nearest one."""
    from tfcompact.errors import suggestion

    known = [f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(command)]
    wrong = [
        word for word in words if word.startswith("--") and word.partition("=")[0].partition(".")[0] not in known
    ]
    if wrong and "Unrecognized" in box:
        return f"no option {wrong[0]}; {suggestion(wrong[0], known)}"
    # A box drawn with lines, or with ASCII where the terminal has no more: a title, then what is wrong.
    lines = [line.strip("│╭╮╰╯─|+ ") for line in box.splitlines()]
    said = [
        line for line in lines if line.strip("-─") and not line.startswith(("For full helptext", "Argument helptext"))
    ]
    line = " ".join(said[1:3] if said[1:2] and said[1].endswith(":") else said[1:2])
    return f"{line or 'these options cannot be read'}; tfcompact {name} --help lists them"


def _has_default(f: Any) -> bool:
    return f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING


def _part(options: Any, part: type) -> Any:
    """The fields of `options` that belong to the dataclass `part`, as an instance of it."""
    return part(**{f.name: getattr(options, f.name) for f in dataclasses.fields(part)})


def _add_override(overrides: dict[str, dict[str, Any]], item: str) -> None:
    """`stage.option=value` into the table. The value is read as TOML; what is not TOML is text."""
    import tomllib

    place, equals, text = item.partition("=")
    stage, dot, option = place.partition(".")
    if not (equals and dot and stage and option):
        raise UserError(f"--set takes stage.option=value, for example fit.epochs=30, not {item!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = overrides.setdefault(stage, {})
    *groups, last = option.split(".")
    for group in groups:  # fit.augment.flip
        table = table.setdefault(group, {})
    table[last] = value


if __name__ == "__main__":
    sys.exit(main())
