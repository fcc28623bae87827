"""The trials of a search: shared by workers that come, go and are killed; none is lost, none is done twice."""

import collections
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import postgresql_server
import pytest

from tfcompact.errors import UserError
from tfcompact.search import ledger as ledgers
from tfcompact.search.controllers import controller
from tfcompact.search.ledger import Ledger, catch_up

COUNTS = (3, 3, 3)
TERMS = {"space": "0" * 8, "unit": "instructions"}


def value(choices) -> tuple[float, float]:
    return 0.5 + 0.1 * choices[0] - 0.05 * choices[1], 1.0 + sum(choices)


def reward(accuracy: float, cost: float) -> float:
    return accuracy - 0.01 * cost


def search(storage: str, budget: int, *, name: str = "random", stop: int | None = None, seen: list | None = None):
    """What a single worker does; `stop` ends it in the middle of that many trials, as a kill would."""
    ledger = Ledger(storage, "s", TERMS, COUNTS)
    search = controller(name, COUNTS, 0)
    count = 0
    while True:
        catch_up(ledger, search, reward)
        taken = ledger.take(search, budget)
        if taken is None:
            return ledger
        if seen is not None:
            seen.append(taken.choices)
        count += 1
        if count == stop:
            return ledger
        ledger.finish(taken, *value(taken.choices), {"run": str(taken.number)})


@pytest.mark.parametrize("name", ["random", "evolution", "factorised", "nsga2"])
def test_a_search_that_stopped_goes_on_as_if_it_had_not(tmp_path, monkeypatch, name) -> None:
    whole: list = []
    search(str(tmp_path / "whole.log"), 18, name=name, seen=whole)
    monkeypatch.setattr(ledgers, "_is_gone", lambda trial: True)
    parts: list = []
    search(str(tmp_path / "parts.log"), 18, name=name, seen=parts, stop=7)
    ledger = search(str(tmp_path / "parts.log"), 18, name=name, seen=parts)
    assert len(set(whole)) == len(whole) == 18
    assert parts.pop(7) == parts[6], "the candidate that was left is taken up first"
    assert parts == whole
    assert [t.user_attrs["choices"] for t in ledger.done()] == [list(c) for c in whole]


def test_all_of_a_space_is_found_and_then_it_ends(tmp_path) -> None:
    ledger = search(str(tmp_path / "all.log"), 27)
    assert len({tuple(t.user_attrs["choices"]) for t in ledger.done()}) == 27
    copies = [t for t in ledger.study.trials if "copy_of" in t.user_attrs]
    assert copies
    assert all(t.values == ledger.study.trials[t.user_attrs["copy_of"]].values for t in copies)


def test_another_table_s_unit_is_turned_away(tmp_path) -> None:
    path = str(tmp_path / "study.log")
    Ledger(path, "s", TERMS, COUNTS)
    with pytest.raises(UserError, match=r'study s has unit "instructions", not "ms"; give another --study'):
        Ledger(path, "s", TERMS | {"unit": "ms"}, COUNTS)
    Ledger(path, "s", TERMS, COUNTS)


def test_a_storage_that_cannot_be_opened_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be opened"):
        Ledger(str(tmp_path / "file" / "study.log"), "s", TERMS, COUNTS)
    with pytest.raises(UserError, match="cannot be opened"):
        Ledger("postgresql://nobody@127.0.0.1:1/none", "s", TERMS, COUNTS)


WORKER = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from test_ledger import COUNTS, TERMS, reward, value
from tfcompact.search.controllers import controller
from tfcompact.search.ledger import Ledger, catch_up
storage, log, seed = sys.argv[2:5]
ledger = Ledger(storage, "shared", TERMS, COUNTS)
search = controller("evolution", COUNTS, int(seed))
while True:
    catch_up(ledger, search, reward)
    taken = ledger.take(search, 24)
    if taken is None:
        break
    with open(log, "a") as file:
        file.write(json.dumps([os.getpid(), "begins", taken.choices]) + "\\n")
    with ledger.working(taken):
        time.sleep(0.4)
    ledger.finish(taken, *value(taken.choices), {"pid": os.getpid()})
    with open(log, "a") as file:
        file.write(json.dumps([os.getpid(), "ends", taken.choices]) + "\\n")
"""


def workers(storage: str, log: Path, count: int) -> list[subprocess.Popen]:
    command = [sys.executable, "-c", WORKER, str(Path(__file__).parent), storage, str(log)]
    return [subprocess.Popen([*command, str(seed)]) for seed in range(count)]


def lines(log: Path) -> list:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def killed_and_joined(storage: str, log: Path) -> None:
    """Two workers, one killed in a trial, another joins: each candidate is evaluated once, and none is missing."""
    first, second = workers(storage, log, 2)
    deadline = time.monotonic() + 60
    while sum(kind == "ends" for _, kind, _ in lines(log)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    while True:  # in the middle of a trial
        mine = [kind for pid, kind, _ in lines(log) if pid == first.pid]
        if mine and mine[-1] == "begins":
            break
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    (third,) = workers(storage, log, 1)
    assert second.wait(120) == 0
    assert third.wait(120) == 0
    ended = collections.Counter(tuple(choices) for _, kind, choices in lines(log) if kind == "ends")
    ledger = Ledger(storage, "shared", TERMS, COUNTS)
    done = [tuple(t.user_attrs["choices"]) for t in ledger.done()]
    assert len(done) == len(set(done)) == 24
    assert set(ended) == set(done)
    assert set(ended.values()) == {1}, "none was evaluated twice"
    lost = [choices for pid, kind, choices in lines(log) if pid == first.pid and kind == "begins"][-1]
    again = [pid for pid, kind, choices in lines(log) if choices == lost and kind == "ends"]
    assert again, "the candidate of the one that was killed was taken up again"
    assert again[0] != first.pid
    assert not [t for t in ledger.study.trials if t.state.name == "RUNNING"]


def test_workers_on_a_journal_come_go_and_are_killed(tmp_path) -> None:
    killed_and_joined(str(tmp_path / "journal.log"), tmp_path / "said.jsonl")


@pytest.mark.slow
@pytest.mark.skipif(postgresql_server.missing() is not None, reason=str(postgresql_server.missing()))
def test_workers_on_a_postgresql_server_come_go_and_are_killed(tmp_path) -> None:
    with postgresql_server.started() as url:
        killed_and_joined(url, tmp_path / "said.jsonl")
