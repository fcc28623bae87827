"""Every way of searching, many times, on a space of which every network is trained (`search_table.py`).

    python tests/benchmarks/search_replay.py [--times 100] [--budget 400]

The reward is MnasNet's soft one; the target is the median cost of the space. A proposal that was made before gets its
value and counts nothing. Regret is what the best network so far lacks to the best of the space, in points of reward
(times 100); `won` counts in how many of the repetitions, random search with the same number beside it, a way's best
is the better one, and `p` is the sign test's. Hypervolume is the share of that of all networks.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from recorded import tables
from recorded.arguments import RECORDS, Arguments
from recorded.record import recording
from scipy import stats

from tfcompact.search import rewards
from tfcompact.search.controller import Choices, Told
from tfcompact.search.controllers import CONTROLLERS, controller
from tfcompact.search.fronts import hypervolume

TABLE = RECORDS / "search_table.csv.gz"
AT = (20, 40, 100, 200, 400)
"""Numbers of evaluated networks at which ways are compared."""
MOST_ASKED = 20  # times the budget, after which a way that repeats itself is stopped
BASELINE = "random"


def table() -> tuple[tuple[int, ...], dict[Choices, tuple[float, float]]]:
    """The numbers of options, and accuracy and cost of every network, trained with the first seed."""
    text = gzip.decompress(TABLE.read_bytes()).decode()
    head, *rows = csv.reader(io.StringIO(text))
    places = len(head) - 3
    found = {tuple(map(int, row[:places])): (float(row[-2]), float(row[-1])) for row in rows if int(row[places]) == 0}
    counts = tuple(1 + max(choices[i] for choices in found) for i in range(places))
    return counts, found


def replay(
    name: str,
    seed: int,
    counts: tuple[int, ...],
    known: Mapping[Choices, tuple[float, float]],
    reward: Any,
    budget: int,
) -> list[Choices]:
    """The networks that a way of searching looks at, in order, each once."""
    search = controller(name, counts, seed)
    seen: dict[Choices, None] = {}
    for number in range(MOST_ASKED * budget):
        if len(seen) == min(budget, len(known)):
            break
        choices = search.ask(number)
        seen[choices] = None
        accuracy, cost = known[choices]
        search.tell(Told(choices, reward(accuracy, cost), accuracy, cost))
    return list(seen)


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("--times", type=int, default=100)
    arguments.add_argument("--budget", type=int, default=max(AT))
    options = arguments.parse_args()
    counts, known = table()
    costs = [cost for _, cost in known.values()]
    target = float(np.median(costs))
    reward = rewards.reward("soft", target)
    worth = {choices: 100 * reward(*point) for choices, point in known.items()}
    reference = (min(a for a, _ in known.values()), max(costs))
    whole = hypervolume(list(known.values()), reference)
    at = [n for n in AT if n <= options.budget]
    with recording(arguments.call(options), "replay") as book:
        best: dict[str, np.ndarray] = {}
        for name in CONTROLLERS:
            looked = [replay(name, seed, counts, known, reward, options.budget) for seed in range(options.times)]
            best[name] = np.array([[max(worth[c] for c in one[:n]) for n in at] for one in looked])
            volumes = [[hypervolume([known[c] for c in one[:n]], reference) / whole for n in at] for one in looked]
            regret = max(worth.values()) - best[name]
            for i, n in enumerate(at):
                low, middle, high = np.percentile(regret[:, i], (25, 50, 75))
                others = best[BASELINE][:, i]
                won, lost = int((best[name][:, i] > others).sum()), int((best[name][:, i] < others).sum())
                book.add(
                    controller=name,
                    networks=n,
                    regret=middle,
                    low=low,
                    high=high,
                    won=won,
                    lost=lost,
                    p=None if name == BASELINE or won + lost == 0 else stats.binomtest(won, won + lost).pvalue,
                    volume=100 * float(np.median([row[i] for row in volumes])),
                    times=options.times,
                )
    print(f"\n{tables.markdown(tables.of('search_replay'), book.tables['rows'])}")


if __name__ == "__main__":
    sys.exit(main())
