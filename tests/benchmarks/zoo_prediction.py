"""Networks of the zoo at full size, predicted from this computer's latency table, against their measurement.

    python tests/benchmarks/zoo_prediction.py --cache /tmp/zoo

The table holds the networks' operators, each measured alone, and what it costs to fetch a byte of weights; no whole
network goes into it. Each network is measured in two ways, three times: alone, over and over, and in turns with the
others, `TURN` runs of each at a time; the lowest median counts. The first is predicted as it is, the second with
`between=True`. Prints both errors, and those of the sum of operators alone, as Markdown.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from recorded import digest, tables
from recorded.arguments import Arguments
from recorded.record import recording

from tfcompact.export import candidate
from tfcompact.files import write_json
from tfcompact.latency import cost_table, meters, table_making
from tfcompact.latency.operator_bytes import weight_bytes
from tfcompact.latency.probe_files import noise
from tfcompact.tflite import fused_groups
from tfcompact.tflite.runtime import Interpreter, open_interpreter

NETWORKS = (
    *("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet_a1", "efficientnet_lite0"),
    *("efficientnet_b0", "shufflenet_v2", "squeezenet_1.1", "googlenet_bn", "inception_v3", "densenet_121"),
    "nasnet_mobile",
)
TURN = 3
ROUNDS = 3
RUNS = 30  # timed, of each network in each round and way
GOAL_MEDIAN, GOAL_LARGEST, GOAL_RANKS = 5.0, 10.0, 0.99


def main() -> int:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("--cache", type=Path, default=Path("build/zoo-prediction"))
    arguments.add_argument("--networks", nargs="+", default=list(NETWORKS))
    arguments.add_argument("--build-only", action="store_true", help="make the files and measure nothing")
    options = arguments.parse_args()
    cache = options.cache / digest.whole()
    files = dict(candidate.networks(options.networks, kept=cache / "networks"))
    if options.build_only:
        return 0
    meter = meters.HostMeter()
    with recording(arguments.call(options), threads=1) as book:
        book.continued = (cache / "host.json").exists()
        table = table_making.make_table(files.items(), meter, cache / "host.json", extend=True, log=_to_stderr)
        rows = [book.add(**row) for row in _rows(table, files, cache / "whole.json")]
    print(tables.markdown(tables.of("zoo_prediction"), rows))
    missed = False
    for way in ("again", "between"):
        errors = np.abs([row[f"{way}_error"] for row in rows])
        ranks = cost_table.rank_correlation(
            [row[f"{way}_predicted"] for row in rows], [row[f"{way}_ms"] for row in rows]
        )
        plain = np.abs([row[f"{way}_plain_error"] for row in rows])
        print(
            f"{way}: median {np.median(errors):.1f} %, largest {errors.max():.1f} %, Spearman {ranks:.3f}; "
            f"without fetching {np.median(plain):.1f} % and {plain.max():.1f} %"
        )
        missed |= bool(np.median(errors) > GOAL_MEDIAN or errors.max() > GOAL_LARGEST or ranks < GOAL_RANKS)
    return int(missed)


def _rows(table: cost_table.Table, files: dict[str, bytes], kept: Path) -> list[dict[str, object]]:
    """A row for each network: measured both ways, predicted both ways, and by the operators alone."""
    measured = json.loads(kept.read_text()) if kept.exists() else {}
    if not measured:
        loaded = {name: _loaded(content) for name, content in files.items()}
        measured = {"again": _lowest(loaded, _alone), "between": _lowest(loaded, _in_turns)}
        write_json(kept, measured)
    rows: list[dict[str, object]] = []
    for name, content in files.items():
        network = fused_groups.read(content)
        plain = table.invoke + table.partition * network.partitions + sum(map(table.cost, network.configurations))
        row: dict[str, object] = {
            "network": name,
            "weights_mb": sum(map(weight_bytes, network.configurations)) / 1e6,
        }
        for way in ("again", "between"):
            took, said = measured[way][name], table.predict(network, between=way == "between")
            row |= {
                f"{way}_ms": took,
                f"{way}_predicted": said,
                f"{way}_error": 100 * (said / took - 1),
                f"{way}_plain_error": 100 * (plain / took - 1),
            }
        rows.append(row)
    return rows


def _loaded(content: bytes) -> Interpreter:
    interpreter = open_interpreter(content, 1, "xnnpack")
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], noise(detail["shape"], detail["dtype"]))
    return interpreter


def _lowest(
    loaded: dict[str, Interpreter], medians: Callable[[Sequence[Interpreter]], list[float]]
) -> dict[str, float]:
    """The lowest of `ROUNDS` medians of each network, in ms."""
    rounds = [medians(list(loaded.values())) for _ in range(ROUNDS)]
    return dict(zip(loaded, map(min, zip(*rounds, strict=True)), strict=True))


def _alone(loaded: Sequence[Interpreter]) -> list[float]:
    """The median of each, run over and over."""
    medians = []
    for interpreter in loaded:
        interpreter.invoke()
        medians.append(float(np.median([_ms(interpreter) for _ in range(RUNS)])))
    return medians


def _in_turns(loaded: Sequence[Interpreter]) -> list[float]:
    """The median of each, `TURN` runs at a time in turns with the others."""
    times: list[list[float]] = [[] for _ in loaded]
    for _ in range(RUNS // TURN):
        for interpreter, found in zip(loaded, times, strict=True):
            found += [_ms(interpreter) for _ in range(TURN)]
    return [float(np.median(found)) for found in times]


def _ms(interpreter: Interpreter) -> float:
    start = time.perf_counter_ns()
    interpreter.invoke()
    return (time.perf_counter_ns() - start) / 1e6


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
