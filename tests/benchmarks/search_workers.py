"""One search by one worker and by two, whose trials are on a PostgreSQL server, and by two of which one is killed.

    apt-get install postgresql
    python tests/benchmarks/search_workers.py path/to/cifar10 mnasnet-table.json --target-cost 4e6

The space is MnasNet's at 64 px; candidates are proposed at random and trained alone for a moment, since what is
measured is how workers share them. A worker has one core, or all in the second row. Each worker first prices a
candidate, so that the time goes from the first trial's beginning to the last one's end. `trained twice` counts
candidates with two finished trainings, `left unfinished` trials that nobody ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
from recorded import tables
from recorded.arguments import Arguments
from recorded.record import Book, recording

from tfcompact.search.ledger import LEASE

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import postgresql_server

PX = 64


class Search:
    """A study on the server, with a runs directory of its own."""

    def __init__(self, name: str, url: str, runs: Path, options: Any) -> None:
        self.name, self.url, self.runs, self.options = name, url, runs / name, options
        self.log = (runs / f"{name}.log").open("w")

    def worker(self, cores: set[int]) -> subprocess.Popen[bytes]:
        options = self.options
        words = ["--data", options.data, "--px", str(PX), "--runs", str(self.runs), "--table", str(options.table)]
        words += ["--cache", str(options.runs / "cache"), "--target-cost", str(options.target_cost)]
        words += ["--trials", str(options.trials), "--epochs", "1", "--epoch-images", str(options.images)]
        words += ["--validation-images", "200", "--finalists", "0", "--controller", "random"]
        words += ["--study", self.name, "--storage", self.url]
        command = [sys.executable, "-m", "tfcompact", "search", *words]
        return subprocess.Popen(
            command,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 - no threads here
        )

    def trials(self) -> list[Any]:
        try:
            return list(optuna.load_study(study_name=self.name, storage=self.url).trials)
        except KeyError:  # no worker has come yet
            return []

    def done(self) -> list[Any]:
        return [t for t in self.trials() if t.state.name == "COMPLETE"]

    def row(self, workers: str) -> dict[str, Any]:
        """What came of it."""
        trials, done = self.trials(), self.done()
        minutes = (
            max(t.datetime_complete for t in done) - min(t.datetime_start for t in trials)
        ).total_seconds() / 60
        trained = Counter(path.parent.name for path in self.runs.glob("*/fit-*") if path.suffix != ".partial")
        return {
            "workers": workers,
            "candidates": len(done),
            "minutes": minutes,
            "a_minute": len(done) / minutes,
            "twice": sum(count > 1 for count in trained.values()),
            "unfinished": sum(t.state.name == "RUNNING" for t in trials),
        }


def ended(*workers: subprocess.Popen[bytes], log: Path) -> None:
    for worker in workers:
        if worker.wait() != 0:
            sys.exit(log.read_text()[-2000:])


def together(search: Search, cores: list[set[int]]) -> None:
    ended(*[search.worker(mine) for mine in cores], log=Path(search.log.name))


def one_killed(search: Search, cores: list[set[int]]) -> None:
    """One of two workers is killed after a third of the candidates, while it is at one; another takes its place."""
    first, second = (search.worker(mine) for mine in cores)
    while len(search.done()) < search.options.trials / 3 or not _training(search, first.pid):
        if first.poll() is not None or second.poll() is not None:
            sys.exit(Path(search.log.name).read_text()[-2000:])
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    ended(search.worker(cores[0]), second, log=Path(search.log.name))


def _training(search: Search, pid: int) -> bool:
    """Whether a worker is at a trial."""
    return any(t.state.name == "RUNNING" and t.user_attrs.get(LEASE, {}).get("pid") == pid for t in search.trials())


def measure(options: Any, book: Book) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("two workers take two cores; there is one here")
    ones = [{cores[0]}, {cores[1]}]
    with postgresql_server.started() as url, tempfile.TemporaryDirectory(dir=options.runs) as scratch:
        ways = (
            ("one", "1", lambda search: together(search, ones[:1])),
            ("wide", f"1 with {len(cores)} cores", lambda search: together(search, [set(cores)])),
            ("two", "2", lambda search: together(search, ones)),
            ("killed", "2, one of them killed", lambda search: one_killed(search, ones)),
        )
        first = None
        for name, words, run in ways:
            search = Search(name, url, Path(scratch), options)
            run(search)
            row = search.row(words)
            first = first or row["a_minute"]
            book.add(**row, speed=row["a_minute"] / first)


def main() -> None:
    arguments = Arguments(__file__, __doc__)
    arguments.add_argument("data")
    arguments.add_argument("table", type=Path)
    arguments.add_argument("--target-cost", type=float, required=True)
    arguments.add_argument("--trials", type=int, default=10)
    arguments.add_argument("--images", type=int, default=1000, help="training images of a candidate (1000)")
    arguments.add_argument("--runs", type=Path, default=Path("runs/search_workers"))
    options = arguments.parse_args()
    if reason := postgresql_server.missing():
        sys.exit(reason)
    options.runs.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with recording(arguments.call(options), threads=1) as book:
        measure(options, book)
    print(tables.markdown(tables.of("search_workers"), book.tables["rows"]))


if __name__ == "__main__":
    main()
