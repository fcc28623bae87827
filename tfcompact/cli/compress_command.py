"""`tfcompact compress`: every way of making a network smaller, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfcompact.cli import arguments, opened
from tfcompact.comparison import comparing, comparison_files, comparison_plan, comparison_tables
from tfcompact.comparison.line import lines
from tfcompact.errors import UnknownName
from tfcompact.measure.backends.arm_processors import PROCESSORS
from tfcompact.options import opt, require
from tfcompact.pipeline.target import Target


@dataclass(frozen=True)
class Compress(Target):
    """Options of `compress`."""

    plan: str = opt(
        "default", "what is compared: a file of tfcompact/comparison/plans without .toml, or a .toml file of your own"
    )
    rows: tuple[str, ...] = opt((), "only these rows of the plan, by their names; all of it unless given")
    seeds: int = opt(1, "seeds of every row, from --seed on")
    parent: str | None = opt(None, "a finished run to begin with instead of the plan's step base, e.g. fit-3f9a10c2")
    set: tuple[str, ...] = opt((), "any step's option, by its name in the plan: base.epochs=30 qat.epochs=3")
    test_images: int | None = opt(None, "test images to judge accuracy on; all unless given")
    processors: tuple[str, ...] | None = opt(
        None, f"emulated processors to count instructions on: {', '.join(PROCESSORS)}; all where QEMU is, or none"
    )
    out: Path | None = opt(None, "directory for the report; <runs>/report/compress/<model> unless given")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.seeds >= 1, "seeds", self.seeds, "1 or more")
        require(self.test_images is None or self.test_images >= 1, "test_images", self.test_images, "1 or more")
        for name in self.processors or ():
            if name not in (*PROCESSORS, "none"):
                raise UnknownName("emulated processor", name, [*PROCESSORS, "none"])


def run(name: str, words: Sequence[str], help: str) -> None:
    """Runs the plan row by row, prints the table, and writes the report."""
    options: Compress = arguments.part(arguments.parse(Compress, name, words, help), Compress)
    overrides: dict[str, dict[str, object]] = {}
    for item in options.set:
        arguments.add_override(overrides, item)
    wanted = comparison_plan.load(options.plan, overrides)
    if options.rows:
        wanted = wanted.only(options.rows)
    opened.check_network(options.model, options.runs)
    console = opened.console()
    if options.processors is None:
        processors = comparing.emulated(console)
    else:
        processors = tuple(name for name in options.processors if name != "none")
    comparison = comparing.Comparison(
        wanted,
        arguments.part(options, Target),
        console,
        options.seeds,
        processors,
        options.test_images,
        options.parent,
    )
    results = comparison.results()
    title = f"{options.model}: {comparison.images_text}"
    out = options.out or options.runs / "report" / "compress" / options.model
    written = comparison_files.write(results, title, out)
    found = lines(results)
    table, legend = comparison_tables.terminal_table(found, console.width)
    console.print(f"\n{title}\n", table, f"\n{legend}", sep="\n", highlight=False)
    for line in comparison_tables.failures(found):
        console.print(f"failed: {line}", highlight=False, markup=False)
    for path in written:
        print(path)
