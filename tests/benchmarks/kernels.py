"""Every operator of exported int8 files by itself: XNNPACK's kernel against the reference kernel, in output steps.

    python tests/benchmarks/kernels.py runs/leaderboard/*/export-*/model.int8.tflite

Each operator gets what the reference kernels gave the tensors it reads, for one image of noise and one of a gradient.
Prints, for each kind of operator, how many there are, and the largest difference.
"""

from __future__ import annotations

import argparse
import collections
import sys
from pathlib import Path

import numpy as np

from tfcompact.tflite import pieces, runtime

ALLOWED = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    count: collections.Counter[str] = collections.Counter()
    largest: dict[str, int] = {}
    where: dict[str, str] = {}
    for file in options.files:
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
    print(f"{len(options.files)} files, {sum(count.values())} operators, 2 images each\n")
    print("| operator | how many | largest difference, steps | where |")
    print("|---|---|---|---|")
    for kind, number in sorted(count.items()):
        print(f"| {kind} | {number} | {largest[kind]} | {where[kind] if largest[kind] else ''} |")
    return int(max(largest.values()) > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
