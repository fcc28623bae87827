"""ARM64 instructions of one inference, on one thread, counted under QEMU as a Cortex-A53 and as a Cortex-A76.

    python tests/benchmarks/instructions.py                            # the default set, made where it is missing
    python tests/benchmarks/instructions.py runs/leaderboard/*/export-*/model.int8.tflite
    python tests/benchmarks/instructions.py ours=a.tflite theirs=b.tflite --cpus cortex-a76

The default set: the nine architectures of against_keras_applications.py, ours and theirs (its --files are taken from
the same folder); MobileNetV3 as our network gives it to the stock converter, without our lowering; and the exports of
a leaderboard, where there is one. Every count is taken --repeats times, in processes of their own; prints Markdown,
and fails where two counts of one file differ. What is counted is kept by the file's hash, the processor and the
program's hash, so a run that was interrupted goes on. It is a proxy for cost and says nothing in ms.
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

from tfcompact.errors import UserError
from tfcompact.measure.backends import arm_processors, instruction_proxy, runner_answer
from tfcompact.measure.backends.bundle import build_bundle

CPUS = ("cortex-a53", "cortex-a76")
UNLOWERED = ("mobilenet_v3_small", "mobilenet_v3_large")


@dataclass(frozen=True)
class Table:
    """Rows of files: one table of instructions for each column, and the ratio of the second column to the first."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Path, ...]], ...]


class Counts:
    """What was counted so far, in one JSON file: key -> the counts of each repeat."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept: dict[str, list[int]] = {}
        with contextlib.suppress(FileNotFoundError):
            self._kept = json.loads(file.read_text())

    def of(self, path: Path, cpu: str, delegate: str, repeats: int) -> list[int]:
        """The counts of this file, `repeats` of them; those that are missing are taken now."""
        program = f"{build_bundle().digest[:12]}-{instruction_proxy.build_plugin(cpu).name.rpartition('-')[2]}"
        key = f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}-{cpu}-{delegate}-{program}"
        found = self._kept.get(key, [])
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="LABEL=PATH or PATH; the default set unless given")
    parser.add_argument("--cpus", nargs="+", default=CPUS, choices=sorted(arm_processors.PROCESSORS))
    parser.add_argument("--delegate", default="xnnpack", choices=instruction_proxy.DELEGATES)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/instructions"), help="the default set's files")
    parser.add_argument("--exports", type=Path, default=Path("runs/leaderboard"), help="a leaderboard's directory")
    parser.add_argument("--kept", type=Path, help="JSON file of counts (default: counts.json in the folder)")
    options = parser.parse_args()
    counts = Counts(options.kept or options.folder / "counts.json")
    try:
        tables = [given(options.files)] if options.files else default_set(options.folder, options.exports)
        device = instruction_proxy.InstructionProxy(options.cpus[0]).device
        print(f"{device.system}, {runner_answer.RUNTIME}, delegate {options.delegate}, 1 thread, batch 1; ", end="")
        print(f"each count taken {options.repeats} times")
        unequal = [line for table in tables for line in show(table, options, counts)]
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
    return Table("Files", ("instructions",), tuple(rows))


def default_set(folder: Path, exports: Path) -> list[Table]:
    """The tables of the default set; files that are missing are made, which takes TensorFlow and some minutes."""
    import against_keras_applications as against  # imports TensorFlow

    nine = []
    for row in against.ROWS:
        files = tuple(folder / f"{row.ours}.{side}.tflite" for side in ("ours", "theirs"))
        _make(against, row, files, folder)
        nine.append((f"{row.ours}, {row.px} px", files))
    known = {row.ours: row for row in against.ROWS}
    unlowered = []
    for name in UNLOWERED:
        files = tuple(folder / f"{name}.{side}.tflite" for side in ("ours", "unlowered"))
        _make(against, _Unlowered(name, "", known[name].px), files[1:], folder)
        unlowered.append((f"{name}, {known[name].px} px", files))
    tables = [Table("int8: the same network lowered, and not", ("lowered", "stock converter"), tuple(unlowered))]
    pairs = sorted(
        (path.parts[-3], (path, path.with_name("model.float32.tflite")))
        for path in exports.glob("*/export-*/model.int8.tflite")
        if path.with_name("model.float32.tflite").is_file()
    )
    if pairs:
        tables.append(Table("Exports of the leaderboard", ("int8", "float32"), tuple(pairs)))
    else:
        print(f"no exports under {exports}, so int8 is not compared with float32\n")
    title = "int8: ours against keras.applications with the stock converter"
    return [*tables, Table(title, ("ours", "theirs"), tuple(nine))]  # the slowest last


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


def show(table: Table, options: argparse.Namespace, counts: Counts) -> list[str]:
    """Prints a table row by row; the files whose counts differ, as lines."""
    heads = [f"{column}, {cpu}" for cpu in options.cpus for column in table.columns]
    ratios = [f"{table.columns[1]} / {table.columns[0]}, {cpu}" for cpu in options.cpus] if table.columns[1:] else []
    head = ["", *heads, *ratios]
    print(f"\n{table.title}; millions of instructions of one inference:\n")
    print(f"| {' | '.join(head)} |")
    print("|---|" + "---:|" * (len(head) - 1), flush=True)
    unequal = []
    for label, files in table.rows:
        cells, quotients = [], []
        for cpu in options.cpus:
            values = []
            for file in files:
                each = counts.of(file, cpu, options.delegate, options.repeats)
                values.append(each[-1])
                if len(set(each)) > 1:
                    unequal.append(f"{file} on {cpu}: {', '.join(map(str, each))}")
            cells += [f"{value / 1e6:.2f}" for value in values]
            if len(values) > 1:
                quotients.append(f"{values[1] / values[0]:.2f}")
        print(f"| {' | '.join([label, *cells, *quotients])} |", flush=True)
    return unequal


if __name__ == "__main__":
    sys.exit(main())
