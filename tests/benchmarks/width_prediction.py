"""Networks of widths that no table holds, and members of large spaces, predicted and then counted whole.

    python tests/benchmarks/width_prediction.py [--of mobilenet_v2_0.5 mnasnet] [--device cortex-a76]

A network's table has its operators and those of eight drawings of other widths (`latency-table --widths 8`); ten more
drawings are predicted. A space's table has the operators of `--draws`
members (`latency-table --space … --draws`); ten others are predicted. 64 px, ten classes. `interpolated` is the share
of the predicted cost that no measured operator had. Counted are the instructions of the whole int8 file, XNNPACK, one
thread, on an emulated processor.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from recorded import digest, tables
from recorded.arguments import Arguments
from recorded.record import Book, recording

from tfcompact import models
from tfcompact.compress.channels.narrowing import of_random_widths
from tfcompact.export import candidate
from tfcompact.files import write_json
from tfcompact.latency import cost_table, meters, table_making
from tfcompact.latency.interpolation import Interpolated
from tfcompact.models.architecture import Architecture, build
from tfcompact.models.space import Space

NETWORKS = ("mobilenet_v1_0.5", "mobilenet_v2_0.5", "mobilenet_v3_small")
SPACES = ("mnasnet", "mobilenet_v3_small space", "mobilenet_v3_large space")
PX, CLASSES, WIDTHS, HELD_OUT = 64, 10, 8, 10
FIRST = 1000  # number of the first drawing that is held out: tables are made of those from 1 on


def files_of_network(name: str, kept: Path) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """Names and files of what the table is made of, and of what is held out."""
    known = candidate.networks([name], px=PX, classes=CLASSES, widths=WIDTHS, kept=kept)
    held = []
    for number in range(FIRST, FIRST + HELD_OUT):

        def make(number: int = number) -> bytes:
            step = 8 if number % 2 else 16
            whole = models.build(name, px=PX, classes=CLASSES)
            return candidate.int8_file(of_random_widths(whole, random.Random(number), step=step))

        key = f"{name}-held-out{number}"
        held.append((key, candidate.keeping(kept, key, make)))
    return list(known), held


def files_of_space(name: str, draws: int, kept: Path) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """The same of a space."""
    space = Space.named(name.removesuffix(" space")).at(PX, CLASSES)
    drawn = space.drawn(draws)
    rng = random.Random(FIRST)
    held: list[tuple[str, bytes]] = []
    while len(held) < HELD_OUT:
        member = space.sample(rng)
        if member not in drawn:
            key = f"{name.replace(' ', '-')}-held-out{len(held)}"
            held.append((key, candidate.keeping(kept, key, partial(_built, member))))
    return list(candidate.networks([], drawn, kept=kept)), held


def _built(member: Architecture) -> bytes:
    return candidate.int8_file(build(member))


def measure(name: str, device: str, draws: int, cache: Path, book: Book) -> None:
    """The table of one network or space, and a row for each of those that are held out."""
    kept = cache / "networks"
    known, held = files_of_space(name, draws, kept) if name in SPACES else files_of_network(name, kept)
    meter = meters.ProxyMeter(device)
    path = cache / f"{name.replace(' ', '-')}-{device}.json"
    prices = Interpolated(table_making.make_table(known, meter, path, extend=True, log=_to_stderr))
    counted = _counted([kept / f"{key}.tflite" for key, _ in held], meter, path.with_suffix(".whole.json"))
    for (key, content), cost in zip(held, counted, strict=True):
        predicted, interpolated = prices.predict(prices.read(content))
        error = 100 * (predicted / cost - 1)
        book.add(
            "networks", of=name, network=key, cost=cost, predicted=predicted, error=error, share=100 * interpolated
        )
    rows = book.tables["networks"]
    errors = [abs(row["error"]) for row in rows]
    book.add(
        of=name,
        device=device,
        table_networks=len(known),
        operators=len(prices.table.alone),
        networks=len(rows),
        share=statistics.median(row["share"] for row in rows),
        error=statistics.median(errors),
        error_largest=max(errors),
        bias=statistics.median(row["error"] for row in rows),
        spearman=cost_table.rank_correlation([row["predicted"] for row in rows], [row["cost"] for row in rows]),
    )


def _counted(paths: Sequence[Path], meter: meters.Meter, kept: Path) -> list[float]:
    """The cost of each file as a whole, kept for an interrupted call."""
    if not kept.exists():
        write_json(kept, meter.costs(paths))
    found: list[float] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_selection("--of", choices=NETWORKS + SPACES, default=NETWORKS + SPACES)
    arguments.add_argument("--device", default="cortex-a76")
    arguments.add_argument("--draws", type=int, default=40, help="members that a space's table is made of (40)")
    arguments.add_argument("--cache", type=Path, default=Path("build/width-prediction"))
    options = arguments.parse_args()
    cache = options.cache / digest.whole()
    for name in options.of:
        with recording(arguments.call(options), name, flag="--of", threads=1) as book:
            measure(name, options.device, options.draws, cache, book)
        print(f"\n{tables.markdown(tables.of('width_prediction'), book.tables['rows'])}")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
