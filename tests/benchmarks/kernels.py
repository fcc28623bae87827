"""Every operator of exported int8 files by itself: XNNPACK's kernel against the reference kernel, in output steps.

    python tests/benchmarks/kernels.py [FILE.tflite …] [--exports runs/leaderboard]

Without files, those of all exports of a leaderboard, trained for integers and not, which are recorded. Each operator
gets what the reference kernels gave the tensors it reads, for one image of noise and one of a gradient. Prints, for
each kind of operator, how many there are, and the largest difference.
"""

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording

from tfcompact.runs import store
from tfcompact.tflite import pieces, runtime

ALLOWED = 2


def judge(files: Sequence[Path], book: Book) -> None:
    """A row for each kind of operator in these files."""
    count: collections.Counter[str] = collections.Counter()
    largest: dict[str, int] = {}
    where: dict[str, str] = {}
    for file in files:
        px = runtime.LiteModel(file).image_px
        ramp = np.linspace(0, 255, px).astype(np.uint8)
        images = [
            np.random.default_rng(0).integers(0, 256, (px, px, 3)).astype(np.uint8),
            np.stack([np.add.outer(ramp // 2, ramp // 2), *[np.tile(ramp, (px, 1))] * 2], -1),
        ]
        values = [pieces.integers(file, image) for image in images]
        for piece in pieces.pieces(file):
            found = max(pieces.largest_difference(piece, v, "xnnpack", "reference") for v in values)
            count[piece.kind] += 1
            if found > largest.get(piece.kind, -1):
                largest[piece.kind], where[piece.kind] = found, f"{file.parts[-3]}: {piece.name.split(';')[0]}"
    for kind, number in sorted(count.items()):
        steps = largest[kind]
        book.add(operator=kind, how_many=number, steps=steps, where=where[kind] if steps else "", files=len(files))


def main() -> int:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("files", nargs="*", type=Path)
    arguments.add_argument("--exports", type=Path, default=Path("runs/leaderboard"), help="a leaderboard's directory")
    options = arguments.parse_args()
    exports = [] if options.files else store.finished(options.exports, stage="export")
    artifacts = [run.path / a.path for run in exports for a in run.artifacts if a.format == "int8"]
    files = options.files or artifacts
    if not files:
        arguments.error(f"no exports under {options.exports}; name files, or run make leaderboard first")
    book = Book()
    whole = recording(arguments.call(options), threads=1) if exports else contextlib.nullcontext(book)
    with whole as book:
        book.rests_on(*exports)
        judge(files, book)
    rows = book.tables["rows"]
    print(f"{len(files)} files, {sum(row['how_many'] for row in rows)} operators, 2 images each\n")
    print(tables.markdown(tables.of("kernels"), rows))
    return int(max(row["steps"] for row in rows) > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
