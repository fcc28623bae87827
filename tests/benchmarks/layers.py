"""Which layers rounding hurts, and what keeping the worst of them float buys and costs, on photographs.

    python tests/benchmarks/layers.py path/to/flowers [--model mobilenet_v3_large] [--px 64] [--keep-float 3]

A short training and a short quantization-aware training, then `tfcompact sensitivity` of the latter. Each layer alone
is rounded, the rest is float. The runs are kept; the ranking is made anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording
from rich.console import Console

from tfcompact.pipeline.pipeline import Pipeline
from tfcompact.pipeline.recipe import configured
from tfcompact.pipeline.target import Target
from tfcompact.runs import store

VALIDATION = 500
FLOATS = ("float32, the run's weights", "float32, before quantization")  # the last files of the comparison


def ranking(run: store.Run, keep_float: int) -> dict[str, Any]:
    """What `tfcompact sensitivity` writes of a run."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        words = ["--keep-float", str(keep_float), "--validation-images", str(VALIDATION), "--limit", "0"]
        files = ["--json", str(out / "ranking.json"), "--out", str(out / "mixed.tflite")]
        command = [sys.executable, "-m", "tfcompact", "sensitivity", str(run.path), *words, *files]
        subprocess.run(command, check=True, stdout=sys.stderr)
        content: dict[str, Any] = json.loads((out / "ranking.json").read_text())
        return content


def add(found: dict[str, Any], name: str, px: int, book: Book) -> None:
    """The ranking as rows: `layers` with the worst first, `together` and `files`."""
    for row in found["rows"]:
        unit = row["unit"]
        book.add(
            "layers",
            layer="/".join(unit["layers"]),
            kind=unit["kind"],
            output="x".join(map(str, unit["output"])),
            sqnr_db=row["sqnr_db"],
            kernel_db=row["kernel_db"],
            output_db=row["output_db"],
            agreement=100 * row["agreement"],
        )
    together = {"network": name, "px": px, "layers": len(found["rows"]), "sqnr_db": found["all_db"]}
    book.add("together", **together, agreement=100 * found["all_agreement"], training_images=found["images"])
    names = ("uint8", f"mixed, the worst {len(found['kept_float'])} float", *FLOATS)
    for title, file in zip(names, found["files"], strict=True):
        book.add(
            "files",
            file=title,
            mb=file["bytes"] / 1e6,
            accuracy=100 * file["accuracy"],
            agreement=100 * file["agreement"],
            sqnr_db=file["sqnr_db"],
            partitions=file["partitions"],
            ratio=file["ratio"],
            kept_float=len(found["kept_float"]),
        )


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("--model", default="mobilenet_v3_large")
    arguments.add_argument("--px", type=int, default=64)
    arguments.add_argument("--keep-float", type=int, default=3)
    arguments.add_argument("--runs", type=Path, default=Path("runs/layers"))
    options = arguments.parse_args()
    with recording(arguments.call(options)) as book:
        target = Target(options.model, data=options.data, px=options.px, runs=options.runs)
        pipeline = Pipeline(target, Console(stderr=True))
        fit = pipeline.run(configured("fit", {"epochs": 4}))
        qat = pipeline.run(configured("quantize", {"epochs": 1}), fit.name)
        book.rests_on(fit, qat)
        add(ranking(qat, options.keep_float), options.model, options.px, book)
        validation = pipeline.images(fit).sizes["validation"]
        book.add("images", validation_images=min(validation, VALIDATION))
    for table in ("layers", "files"):
        print(f"\n{tables.markdown(tables.of('layers', table), book.tables[table][:20])}")


if __name__ == "__main__":
    main()
