"""Whole networks predicted from a latency table, against their measurement.

    python tests/benchmarks/latency_prediction.py --cache /tmp/latency --devices host cortex-a76 cortex-a53

The table is made of the few networks that have every layer of the space (`Space.covering`); 40 other networks, drawn
with a seed, are only measured whole and predicted: nothing about them, and no whole network at all, goes into the
table. Prints, for each device, median, 90th percentile and largest error, and Spearman's rank correlation, as
Markdown. What was built and measured is kept in the cache as long as tfcompact is the same, and the same call goes on
from there. Each device is a part of the record.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from recorded import digest, tables
from recorded.arguments import Arguments
from recorded.record import recording

from tfcompact.export.candidate import int8_file, keeping
from tfcompact.files import write_json
from tfcompact.latency import cost_table, meters, table_making
from tfcompact.models import space
from tfcompact.models.architecture import Architecture, build

SPACE = space.Space(
    px=(64, 96),
    width=(0.5, 1.0),
    classes=10,
    stem=16,
    head=640,
    rows=(
        space.Choices(out=16, stride=1, expansion=(1,), act=("relu6",)),
        space.Choices(24, 2, (1, 2), (3, 6), (3, 5), (False, True), ("relu6",)),
        space.Choices(40, 2, (1, 2), (3, 6), (3, 5), (False, True), ("relu6",)),
        space.Choices(80, 2, (1, 2), (3, 6), (3, 5), (False, True), ("h_swish",)),
        space.Choices(112, 1, (1, 2), (3, 6), (3, 5), (False, True), ("h_swish",)),
        space.Choices(160, 2, (1, 2), (3, 6), (3, 5), (False, True), ("h_swish",)),
    ),
)
GOAL_ERROR, GOAL_RANKS = 5.0, 0.98
"""Of the emulated processors, whose counts do not scatter: median error in percent, Spearman's correlation."""


def main() -> int:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("--cache", type=Path, default=Path("build/latency-prediction"))
    arguments.add_selection("--devices", default=["host", "cortex-a76", "cortex-a53"])
    arguments.add_argument("--networks", type=int, default=40)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--build-only", action="store_true", help="make the files and measure nothing")
    options = arguments.parse_args()
    covering = SPACE.covering()
    held_out = _drawn(options.networks, options.seed, covering)
    cache = options.cache / digest.whole()
    if options.build_only:
        _files(cache, [*covering, *held_out])
        return 0
    rows = []
    for name in options.devices:
        with recording(arguments.call(options), name, flag="--devices", threads=1) as book:
            book.continued = (cache / f"{name}.json").exists()
            rows.append(book.add(**_judged(name, _files(cache, covering), _files(cache, held_out), cache)))
    print(f"{SPACE.size} networks in the space, table made of {len(covering)}, {len(held_out)} others predicted\n")
    print(tables.markdown(tables.of("latency_prediction"), rows))
    missed = [row for row in rows if row["error"] > GOAL_ERROR or row["spearman"] < GOAL_RANKS]
    return int(any(row["unit"] == "instructions" for row in missed))


def _judged(name: str, made_of: Sequence[Path], judged: Sequence[Path], cache: Path) -> dict[str, object]:
    """What a table of one device predicts, against what was measured."""
    meter = meters.HostMeter() if name == "host" else meters.ProxyMeter(name)
    networks = ((file.stem, file.read_bytes()) for file in made_of)
    table = table_making.make_table(networks, meter, cache / f"{name}.json", extend=True, log=_to_stderr)
    measured = np.array(_whole(judged, meter, cache / f"{name}-whole.json"))
    predicted = np.array([table.predict(file) for file in judged])
    errors = 100 * np.abs(predicted / measured - 1)
    median, p90 = np.percentile(errors, (50, 90))
    return {
        "device": table.setting.device.name,
        "unit": table.setting.unit,
        "operators": len(table.alone),
        "networks": len(judged),
        "table_networks": len(made_of),
        "space": SPACE.size,
        "lowest": float(measured.min()),
        "highest": float(measured.max()),
        "error": float(median),
        "error_p90": float(p90),
        "error_largest": float(errors.max()),
        "spearman": float(cost_table.rank_correlation(predicted, measured)),
    }


def _drawn(count: int, seed: int, without: Sequence[Architecture]) -> list[Architecture]:
    """`count` different architectures, none of `without`."""
    rng = random.Random(seed)
    drawn: list[Architecture] = []
    while len(drawn) < count:
        candidate = SPACE.sample(rng)
        if candidate not in drawn and candidate not in without:
            drawn.append(candidate)
    return drawn


def _files(cache: Path, architectures: Sequence[Architecture]) -> list[Path]:
    """Their int8 files; those that are missing are made now."""
    return [_file(cache / "networks", architecture) for architecture in architectures]


def _file(directory: Path, architecture: Architecture) -> Path:
    name = hashlib.sha256(json.dumps(architecture.to_json(), sort_keys=True).encode()).hexdigest()[:12]
    keeping(directory, name, lambda: int8_file(build(architecture)))
    return directory / f"{name}.tflite"


def _whole(files: Sequence[Path], meter: meters.Meter, kept: Path) -> list[float]:
    """The measured cost of each file, kept by its content's hash."""
    known = json.loads(kept.read_text()) if kept.exists() else {}
    names = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    missing = [(name, file) for name, file in zip(names, files, strict=True) if name not in known]
    for i in range(0, len(missing), meter.together):
        batch = missing[i : i + meter.together]
        costs = meter.costs([file for _, file in batch])
        known |= {name: cost for (name, _), cost in zip(batch, costs, strict=True)}
        write_json(kept, known)
    return [known[name] for name in names]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
