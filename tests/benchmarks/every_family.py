"""The cheapest network of every family through every stage that makes networks smaller, to an int8 file.

    python tests/benchmarks/every_family.py [--networks squeezenet_1.1 …] [--runs runs/every_family]

Each is distilled, pruned by channels, split, pruned to zeros, quantized, clustered and exported, with a few images of
the digits: what is shown is that it can be done, and what each stage leaves. Runs are kept, so an interrupted call
goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import recording

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from every_stage import through_every_stage
from variants import cheapest_first

KEYS = (
    *("network", "family", "px", "distill_macs", "channels_macs", "decompose_macs", "zeros", "values", "bytes"),
    *("zipped_bytes", "refused", "seconds"),
)


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    networks = [parameter.id for parameter in cheapest_first(lambda spec: True) if not parameter.marks]
    arguments.add_argument("--runs", type=Path, default=Path("runs/every_family"))
    arguments.add_selection("--networks", choices=networks, default=tuple(networks))
    options = arguments.parse_args()
    for network in options.networks:
        with recording(arguments.call(options), network, flag="--networks") as book:
            found = through_every_stage(network, options.runs)
            book.rests_on(*found["runs"])
            book.add(**{key: found.get(key) for key in KEYS})
        print(f"\n{tables.markdown(tables.of('every_family'), book.tables['rows'])}")


if __name__ == "__main__":
    main()
