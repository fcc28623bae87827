"""How long the main job takes on the built-in digits, from nothing to measured files.

    python tests/benchmarks/main_job.py [--networks mobilenet_v2 inception_v3]

Each network is one call of `tfcompact train` in a directory of its own that is removed afterwards, so nothing is
taken from an earlier run. Nothing else should be running.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import recording

from tfcompact.runs import measurements, store

GOALS_MINUTES = {"mobilenet_v2": 5, "inception_v3": 15}


def timed(name: str) -> dict[str, Any]:
    """Wall and processor minutes of the main job, the image size it chose and what came out."""
    with tempfile.TemporaryDirectory() as folder:
        start, busy = time.perf_counter(), sum(os.times()[2:4])
        command = [sys.executable, "-m", "tfcompact", "train", "--model", name, "--runs", folder]
        subprocess.run(command, check=True, stdout=sys.stderr)
        minutes = (time.perf_counter() - start) / 60
        cpu_minutes = (sum(os.times()[2:4]) - busy) / 60
        artifacts = {a.format: a for a in store.newest(Path(folder), name, lambda run: bool(run.artifacts)).artifacts}
        rows = {row.format: row for row in measurements.measurements(Path(folder), name) if row.accuracy is not None}
        return {
            "px": artifacts["int8"].image_px,
            "minutes": minutes,
            "cpu_minutes": cpu_minutes,
            "goal_minutes": GOALS_MINUTES[name],
            "float_accuracy": 100 * rows["float32"].accuracy.top1,
            "int8_accuracy": 100 * rows["int8"].accuracy.top1,
        }


def main() -> int:
    arguments = Arguments(__file__, __doc__)
    arguments.add_selection("--networks", choices=tuple(GOALS_MINUTES), default=tuple(GOALS_MINUTES))
    options = arguments.parse_args()
    rows = []
    for name in options.networks:
        with recording(arguments.call(options), name, flag="--networks") as book:
            rows.append(book.add(network=name, **timed(name)))
    print(f"\n{tables.markdown(tables.of('main_job'), rows)}")
    return int(any(row["minutes"] > row["goal_minutes"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
