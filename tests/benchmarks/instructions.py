"""ARM64 instructions of one inference, on one thread, counted under QEMU as a Cortex-A53 and as a Cortex-A76.

    python tests/benchmarks/instructions.py                            # the default set, made where it is missing
    python tests/benchmarks/instructions.py runs/leaderboard/*/export-*/model.int8.tflite
    python tests/benchmarks/instructions.py ours=a.tflite theirs=b.tflite --cpus cortex-a76

The default set, which is recorded: the nine architectures of against_keras_applications.py, ours and theirs (its
--files are taken from the same folder); MobileNetV3 as our network gives it to the stock converter, without our
lowering; and the exports of a leaderboard, where there is one. Every count is taken --repeats times, in processes
of their own; prints Markdown, and fails where two counts of one file differ. What is counted is kept by the file's
hash, the processor and the program's hash, so a run that was interrupted goes on. It is a proxy for cost and says
nothing in ms.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording

from tfcompact.errors import UserError
from tfcompact.measure.backends import arm_processors, instruction_proxy, runner_answer
from tfcompact.measure.backends.bundle import build_bundle
from tfcompact.runs import store

CPUS = ("cortex-a53", "cortex-a76")
UNLOWERED = ("mobilenet_v3_small", "mobilenet_v3_large")


@dataclass(frozen=True)
class Table:
    """Rows of files: instructions of each column on each processor. `name` is the table's in the record."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Path, ...]], ...]


class Counts:
    """What was counted so far, in one JSON file: key -> the counts of each repeat."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.continued = False  # whether a count was not taken now
        self._kept: dict[str, list[int]] = {}
        with contextlib.suppress(FileNotFoundError):
            self._kept = json.loads(file.read_text())
        self._before = frozenset(self._kept)

    def of(self, path: Path, cpu: str, delegate: str, repeats: int) -> list[int]:
        """The counts of this file, `repeats` of them; those that are missing are taken now."""
        program = f"{build_bundle().digest[:12]}-{instruction_proxy.build_plugin(cpu).name.rpartition('-')[2]}"
        key = f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}-{cpu}-{delegate}-{program}"
        found = self._kept.get(key, [])
        self.continued |= key in self._before
        while len(found) < repeats:
            found = [*found, instruction_proxy.instructions(path, cpu, delegate)]
            self._kept[key] = found
            self._save()
        return found[:repeats]

    def _save(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._kept, indent=1))
        temporary.replace(self._file)


def main() -> int:
    """Counts and prints; 1 where repeats differ, 2 where something is missing."""
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("files", nargs="*", help="LABEL=PATH or PATH; the default set unless given")
    arguments.add_argument("--cpus", nargs="+", default=CPUS, choices=sorted(arm_processors.PROCESSORS))
    arguments.add_argument("--delegate", default="xnnpack", choices=instruction_proxy.DELEGATES)
    arguments.add_argument("--repeats", type=int, default=2)
    arguments.add_argument("--folder", type=Path, default=Path("runs/instructions"), help="the default set's files")
    arguments.add_argument("--exports", type=Path, default=Path("runs/leaderboard"), help="a leaderboard's directory")
    arguments.add_argument("--kept", type=Path, help="JSON file of counts (default: counts.json in the folder)")
    options = arguments.parse_args()
    counts, book = Counts(options.kept or options.folder / "counts.json"), Book()
    whole = contextlib.nullcontext(book) if options.files else recording(arguments.call(options), threads=1)
    try:
        with whole as book:
            tables_of = [given(options.files)] if options.files else default_set(options.folder, options.exports)
            device = instruction_proxy.InstructionProxy(options.cpus[0]).device
            print(
                f"{device.system}, {runner_answer.RUNTIME}, delegate {options.delegate}, 1 thread, batch 1; ", end=""
            )
            print(f"each count taken {options.repeats} times")
            book.add("program", system=device.system, runtime=runner_answer.RUNTIME, delegate=options.delegate)
            unequal = [line for table in tables_of for line in count(table, options, counts, book)]
            book.continued = counts.continued
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for line in unequal:
        print(line, file=sys.stderr)
    return 1 if unequal else 0


def given(files: Sequence[str]) -> Table:
    """The table of files named on the command line."""
    rows = []
    for word in files:
        label, _, path = word.rpartition("=")
        file = Path(path)
        if not file.is_file():
            raise UserError(f"{path} is not there; give LABEL=PATH or PATH of .tflite files")
        rows.append((label or "/".join(file.with_suffix("").parts[-3:]), (file,)))
    return Table("files", "Files", ("instructions",), tuple(rows))


def default_set(folder: Path, exports: Path) -> list[Table]:
    """The tables of the default set; files that are missing are made, which takes TensorFlow and some minutes."""
    import against_keras_applications as against  # imports TensorFlow

    nine = []
    for row in against.ROWS:
        files = tuple(against.kept_in(folder, f"{row.ours}.{side}") for side in ("ours", "theirs"))
        _make(against, row, files, folder)
        nine.append((f"{row.ours}, {row.px} px", files))
    known = {row.ours: row for row in against.ROWS}
    unlowered = []
    for name in UNLOWERED:
        files = tuple(against.kept_in(folder, f"{name}.{side}") for side in ("ours", "unlowered"))
        _make(against, _Unlowered(name, "", known[name].px), files[1:], folder)
        unlowered.append((f"{name}, {known[name].px} px", files))
    title = "int8: the same network lowered, and not"
    found = [Table("unlowered", title, ("lowered", "stock converter"), tuple(unlowered))]
    if pairs := exported(exports):
        found.append(Table("exports", "Exports of the leaderboard", ("int8", "float32"), pairs))
    else:
        print(f"no exports under {exports}, so int8 is not compared with float32\n")
    title = "int8: ours against keras.applications with the stock converter"
    return [*found, Table("applications", title, ("ours", "theirs"), tuple(nine))]  # the slowest last


def exported(root: Path) -> tuple[tuple[str, tuple[Path, Path]], ...]:
    """The int8 and the float32 file of each network's newest export that has both."""
    newest = {}
    for run in store.finished(root, stage="export"):
        files = {artifact.format: run.path / artifact.path for artifact in run.artifacts}
        if {"int8", "float32"} <= set(files):
            newest[run.model] = (files["int8"], files["float32"])
    return tuple(sorted(newest.items()))


def _make(against, row, files: Iterable[Path], folder: Path) -> None:
    """Converts what is missing, from random images, as against_keras_applications.py does."""
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (against.CALIBRATION, row.px, row.px, 3))
    images = ((pixels - 128) / 127.5).astype(np.float32)
    for file in files:
        convert = against._ours if file.name.endswith(".ours.tflite") else against._theirs
        against._kept(folder, file.stem, lambda convert=convert: convert(row, images))


@dataclass(frozen=True)
class _Unlowered:
    """In the place of a `Row` of against_keras_applications.py: our network instead of theirs."""

    ours: str
    theirs: str
    px: int
    raw_pixels: bool = False

    def build(self):
        """Our network, as its family builds it."""
        from tfcompact import models

        return models.build(self.ours, px=self.px)


def count(table: Table, options: argparse.Namespace, counts: Counts, book: Book) -> list[str]:
    """Counts and prints a table; the files whose counts differ, as lines."""
    rows, unequal = [], []
    for label, files in table.rows:
        found = {}
        for cpu in options.cpus:
            for column, file in zip(table.columns, files, strict=True):
                each = counts.of(file, cpu, options.delegate, options.repeats)
                found[f"{column}, {cpu}"] = each[-1]
                if len(set(each)) > 1:
                    unequal.append(f"{file} on {cpu}: {', '.join(map(str, each))}")
        rows.append(book.add(table.name, network=label, **found))
    print(f"\n{table.title}; millions of instructions of one inference:\n")
    print(tables.markdown(tables.of("instructions", table.name), rows), flush=True)
    return unequal


if __name__ == "__main__":
    sys.exit(main())
