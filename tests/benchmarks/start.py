"""How long the command line takes before it says something, with the import of nothing heavy.

    python tests/benchmarks/start.py [--times 7]

Wall time of `tfcompact --help` and of `tfcompact models`, each in processes of its own, in turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from recorded import tables
from recorded.arguments import Arguments
from recorded.record import recording

COMMANDS = ("--help", "models")


def seconds(word: str) -> float:
    """Wall seconds of one command."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tfcompact", word], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("--times", type=int, default=7)
    options = arguments.parse_args()
    with recording(arguments.call(options), threads=1) as book:
        for word in COMMANDS:
            seconds(word)  # writes the byte code
        turns = [{word: seconds(word) for word in COMMANDS} for _ in range(options.times)]
        for word in COMMANDS:
            found = [turn[word] for turn in turns]
            book.add(
                typed=f"tfcompact {word}",
                lowest=min(found),
                median=statistics.median(found),
                highest=max(found),
                times=options.times,
            )
    print(tables.markdown(tables.of("start"), book.tables["rows"]))


if __name__ == "__main__":
    main()
